"""Sockets: the server side, the lean client towards model servers, and what performs the steps of a story.

Here every foreign exception ends as a value.  Nothing here decides what to do about one.
"""

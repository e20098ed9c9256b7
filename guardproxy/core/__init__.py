"""The values of a call, the `Guard` and `Dialect` bases, and the small tools that machines are made of.

Nothing here waits, reads a clock or throws dice: time and chance are arguments.
"""

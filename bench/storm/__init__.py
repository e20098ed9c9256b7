"""An outage, as callers, models and what stands between them live through it.

Two hundred callers ask one model through a system; the model dies, comes back slow, and gets well.  `python -m
bench.storm` runs it for guardproxy and for others, and writes docs/storm.md and its picture.
"""

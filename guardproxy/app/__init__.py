"""The composition root: from a configuration to a running, and ending, proxy."""

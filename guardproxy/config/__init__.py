"""From YAML to a frozen `Config`, with every problem named at once.

Here belongs all that is known about the configuration *file*: its text, its types, its ranges, what in it
contradicts what.  Not here: the settings of a guard, which stand beside the guard; what is built from them
(`app`).
"""

"""The kinds of inference calls: each file is one dialect and exports `SPEC`."""

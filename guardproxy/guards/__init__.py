"""The rules: each file is one guard, exports `SPEC`, and knows none of the others."""

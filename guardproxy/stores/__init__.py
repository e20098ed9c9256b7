"""Stores that several proxies share: each file is one, and exports `SPEC`."""

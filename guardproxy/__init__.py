"""A sidecar reverse proxy that guards calls to model servers.

The package is a house of floors: `core` knows, `guards` decide, `dialects` translate, `flow` tells,
`net` performs, `app` wires.  A floor imports the floors below it, never its neighbours, never upwards.
"""

__version__ = "0.1.0"

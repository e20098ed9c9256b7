"""Simulated OpenAI-compatible model servers that misbehave on order: for tests, demos, documentation and benchmarks.

    async with Simulator(faults="status=503,times=2") as simulator:
        ...  # ask http://127.0.0.1:{simulator.port}/v1/chat/completions
        assert simulator.calls["/v1/chat/completions"] == 3

Modules: `manners` is the vocabulary, `orders` says when a manner is due, `server` listens, `control` is `/simulate`,
`endpoints` the sequence of an answer, `composing` its content, `shapes` its JSON, `wire` its bytes, `visits` what was
seen; `instance` (with `fits`, `merging` and `pattern`) invents what satisfies a JSON Schema, `perfume` what it is about
and `spoiling` how it goes wrong; `serving` and `main` are `guardproxy simulate`.

It knows nothing of the proxy and shares no code with it: what tests the proxy must not be wrong in the same way.
"""

from guardproxy.simulator.fits import CannotSatisfyError
from guardproxy.simulator.instance import instance
from guardproxy.simulator.manners import MannerError, Manners, table
from guardproxy.simulator.server import Simulator
from guardproxy.simulator.serving import MODELS, PORT_BASE, serve, three
from guardproxy.simulator.visits import Visit

__all__ = [
    "MODELS", "PORT_BASE", "CannotSatisfyError", "MannerError", "Manners", "Simulator", "Visit", "instance", "serve",
    "table", "three",
]  # fmt: skip

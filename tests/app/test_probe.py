"""`check --probe` tells of each upstream whether it enforces a schema, and how it knows."""

from __future__ import annotations

import json

from guardproxy.app.probe import probe
from guardproxy.config.load import loads
from tests.app.stand import Replay, whole

SAYS = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}]}


async def test_each_upstream_is_asked_in_each_way(make):
    """One that enforces schemas, one that answers something else, and one that nobody reaches."""
    stand = await make()
    async with Replay(whole(json.dumps(SAYS).encode())) as deaf:
        upstreams = {
            "good": {"url": stand.sims["llama"].url, "model": stand.sims["llama"].model, "api_key": "k"},
            "deaf": {"url": deaf.url},
            "gone": {"url": "http://127.0.0.1:9"},
        }
        found = await probe(loads(json.dumps({"upstreams": upstreams, "modes": {}})))
    states = {name: [one.state for one in ways.values()] for name, ways in found.items()}
    assert states["good"][:3] == ["enforced"] * 3
    assert states["deaf"] == ["ignored"] * 4
    assert states["gone"] == ["failed"] * 4
    assert found["deaf"]["response_format"].evidence == "Hello!"
    assert "gone" in found["gone"]["format"].evidence
    assert stand.sims["llama"].memory.requests[-1].headers["Authorization"] == "Bearer k"

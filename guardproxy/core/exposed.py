"""What an engine says of its own queue.

Here belongs one question to the Prometheus text that an engine exposes: how many calls wait within it.

| engine | family |
|---|---|
| vLLM | ``vllm:num_requests_waiting`` |
| llama.cpp (``--metrics``) | ``llamacpp:requests_deferred`` |
| SGLang (``--enable-metrics``) | ``sglang:num_queue_reqs`` |
| TGI | ``tgi_queue_size`` |
"""

from __future__ import annotations

import re

_WAITING = re.compile(
    rb"^(?:vllm:num_requests_waiting|llamacpp:requests_deferred|sglang:num_queue_reqs|tgi_queue_size)"
    rb"(?:\{[^\n]*\})? +([0-9.eE+-]+)",
    re.MULTILINE,
)


def waiting(text: bytes) -> int | None:
    """How many calls wait within the engine, over all its models; None where it does not say."""
    found = _WAITING.findall(text)
    if not found:
        return None
    try:
        return max(0, int(sum(map(float, found))))
    except (ValueError, OverflowError):
        return None

"""What engines expose, as they write it."""

from __future__ import annotations

import pytest

from guardproxy.core.exposed import waiting

VLLM = b"""# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="Qwen/Qwen2.5-7B-Instruct"} 3.0
vllm:num_requests_waiting{engine="1",model_name="Qwen/Qwen2.5-7B-Instruct"} 2.0
vllm:num_requests_running{engine="0",model_name="Qwen/Qwen2.5-7B-Instruct"} 8.0
"""
LLAMA = b"# TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing 1\nllamacpp:requests_deferred 4\n"


@pytest.mark.parametrize(
    "text, found",
    [
        (VLLM, 5),
        (LLAMA, 4),
        (b'sglang:num_queue_reqs{model_name="m"} 1.0\n', 1),
        (b"tgi_queue_size 0\n", 0),
        (b"", None),
        (b"<html>", None),
        (b"vllm:num_requests_waiting_total 3\n", None),
        (b"vllm:num_requests_waiting e\n", None),
        (b"vllm:num_requests_waiting 1e999\n", None),
        (b"vllm:num_requests_waiting -3\n", 0),
    ],
)
def test_how_many_wait(text, found):
    assert waiting(text) == found

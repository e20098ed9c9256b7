"""Spans, as a collector gets them; and that `traceparent` goes through whoever looks."""

from __future__ import annotations

import subprocess
import sys
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from guardproxy.config.load import loads
from tests.app.stand import NEVER

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, NOT = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


@asynccontextmanager
async def collector():
    """An OTLP collector in this process: its address, and the spans that came."""
    spans: list[Span] = []

    async def take(request):
        asked = ExportTraceServiceRequest.FromString(await request.read())
        for resource in asked.resource_spans:
            named = {one.key: one.value.string_value for one in resource.resource.attributes}
            assert named["service.name"] == "scents"
            spans.extend(span for scope in resource.scope_spans for span in scope.spans)
        return web.Response()

    runner = web.ServerRunner(web.Server(take), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces", spans
    finally:
        await runner.cleanup()


@asynccontextmanager
async def traced(make, **settings):
    """A stand whose spans are collected; what came is there once the proxy has closed."""
    async with collector() as (url, spans):
        stand = await make({"tracing": {"endpoint": url, "service": "scents", **settings}, "retry": {"attempts": 1}})
        yield stand, spans


def attributes(span):
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


async def test_a_request_and_its_attempts(make):
    """One server span below the caller's, one client span for each attempt below it, with the gen_ai conventions."""
    async with traced(make) as (stand, spans):
        stand.sims["llama"].down()
        await stand.chat(model="creative", headers={"traceparent": SAMPLED, "X-Request-Id": "r1"})
        upstream = stand.sims["mistral"].memory.requests[-1].headers["traceparent"]
        await stand.proxy.close()
    request, failed, answered = sorted(spans, key=lambda s: (s.kind != Span.SPAN_KIND_SERVER, s.start_time_unix_nano))
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    assert request.parent_span_id.hex() == PARENT
    assert failed.parent_span_id == answered.parent_span_id == request.span_id
    assert upstream == f"00-{TRACE}-{request.span_id.hex()}-01"
    assert (request.name, answered.name) == ("POST /v1/chat/completions", f"chat {stand.sims['mistral'].model}")
    assert request.start_time_unix_nano <= failed.start_time_unix_nano < answered.end_time_unix_nano
    assert answered.end_time_unix_nano <= request.end_time_unix_nano + 1_000_000

    told = attributes(request)
    assert told["guardproxy.moved_from"] == "creative"
    assert (told["guardproxy.request_id"], told["guardproxy.attempts"]) == ("r1", 2)
    assert (told["http.request.method"], told["http.response.status_code"]) == ("POST", 200)
    told = attributes(answered)
    assert (told["gen_ai.operation.name"], told["gen_ai.request.model"]) == ("chat", "creative")
    assert told["gen_ai.response.model"] == stand.sims["mistral"].model
    assert told["gen_ai.usage.input_tokens"] > 0
    assert told["gen_ai.usage.output_tokens"] > 0
    assert told["server.address"] == "127.0.0.1"
    assert attributes(failed)["error.type"].startswith("upstream_")
    assert failed.status.code == 2
    assert request.status.code == answered.status.code == 0


async def test_nothing_of_what_was_said_is_in_a_span(make):
    async with traced(make) as (stand, spans):
        await stand.chat("a secret", headers={"Authorization": "Bearer a secret"})
        await stand.proxy.close()
    assert spans
    assert "secret" not in str(spans)


async def test_a_caller_decides_whether_he_is_traced(make):
    """His flag holds; a trace that begins here is sampled by `sample`, and the upstream is told in any case."""
    async with traced(make, sample=0) as (stand, spans):
        await stand.chat("one", headers={"traceparent": NOT, "tracestate": "a=b"})
        headers = stand.sims["llama"].memory.requests[-1].headers
        assert headers["traceparent"].startswith(f"00-{TRACE}-")
        assert headers["traceparent"].endswith("-00")
        assert headers["tracestate"] == "a=b"
        await stand.chat("two")
        assert stand.sims["llama"].memory.requests[-1].headers["traceparent"].endswith("-00")
        await stand.chat("three", headers={"traceparent": SAMPLED})
        await stand.proxy.close()
    assert len(spans) == 2


async def test_a_hit_and_an_error(make):
    async with traced(make) as (stand, spans):
        for _ in range(2):
            await stand.chat("again")
        await stand.put("/guard/breakers/llama", {"state": "open"})
        await stand.chat("refused", headers=NEVER)
        await stand.proxy.close()
    requests = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    assert [attributes(span)["guardproxy.source"] for span in requests] == ["upstream", "cache", "fault"]
    assert len(spans) == 4
    assert attributes(requests[2])["error.type"] == "circuit_open"


async def test_off_the_field_goes_through_as_it_is(stand):
    await stand.chat(headers={"traceparent": SAMPLED})
    assert stand.sims["llama"].memory.requests[-1].headers["traceparent"] == SAMPLED
    assert stand.proxy.sinks.spans is None
    assert [line["trace"] for line in stand.log() if line["msg"] == "request"] == [TRACE]


def test_off_costs_nothing():
    """Nothing of OpenTelemetry is in a process that does not trace."""
    program = (
        "import asyncio, sys\n"
        "from guardproxy.app.serve import Proxy\n"
        "from guardproxy.config.load import loads\n"
        "Proxy(loads('{}', env={}), asyncio.new_event_loop())\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("wrong", ["somewhere", "ftp://h/"])
def test_an_endpoint_is_a_url(wrong):
    with pytest.raises(Exception, match=r"tracing\.endpoint"):
        loads(f"tracing: {{endpoint: '{wrong}'}}", env={})

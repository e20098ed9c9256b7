"""Spans of calls, for OpenTelemetry.

Here belongs what a trace is told of a call: a server span for the request and a client span for each attempt, with the
semantic conventions of HTTP and of generative AI (https://opentelemetry.io/docs/specs/semconv/gen-ai/).  They are made
of the record when the call is over, as everything is; only their ids are needed before, since the upstream's own spans
shall hang below ours.  Needs the extra ``otel``; nothing of it is imported where tracing is off.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any, final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from guardproxy import __version__
from guardproxy.core.values import Kind
from guardproxy.openai.usage import tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guardproxy.core.values import Attempt, Call, Record

_PARENT = re.compile(rb"([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
"""https://www.w3.org/TR/trace-context/#traceparent-header"""
_OPERATIONS = {"chat": "chat", "completions": "text_completion", "embeddings": "embeddings"}
_SCOPE = InstrumentationScope("guardproxy", __version__)
_OK, _ERROR = Status(StatusCode.UNSET), StatusCode.ERROR


@final
class Spans:
    """Sends spans to the OTLP/HTTP *endpoint*; *share* of the traces that begin here are sampled.

    *servers* names the address and port of each upstream.
    """

    def __init__(
        self, endpoint: str, service: str, share: float, servers: Mapping[str, tuple[str, int]], *, delay: float = 5.0
    ) -> None:
        self._resource = Resource.create({"service.name": service, "service.version": __version__})
        exporter = OTLPSpanExporter(endpoint=endpoint)
        self._processor = BatchSpanProcessor(exporter, schedule_delay_millis=delay * 1000)
        self._least = int(share * (1 << 64))
        self.servers = servers

    def begin(self, call: Call, record: Record) -> None:
        """Give a call its span, below its caller's if he has one, and let the upstream's be below it."""
        trace = parent = flags = 0
        rest = []
        for field in call.headers:
            if len(field[0]) == 11 and field[0].lower() == b"traceparent":
                found = _PARENT.fullmatch(field[1].strip())
                if found is not None and found[1] != b"ff":
                    trace, parent, flags = int(found[2], 16), int(found[3], 16), int(found[4], 16)
            else:
                rest.append(field)
        if not trace:
            trace = random.getrandbits(128) or 1
            flags = int(trace & ((1 << 64) - 1) < self._least)
        span = random.getrandbits(64) or 1
        record.span = (trace, span, parent, flags)
        rest.append((b"traceparent", b"00-%032x-%016x-%02x" % (trace, span, flags & 1)))
        call.headers = rest

    def told(self, record: Record, shift: float) -> None:
        """A call is over; *shift* makes the time of day of the loop's clock."""
        call = record.call
        if record.span is None or call is None or not record.span[3] & 1:
            return
        trace, span, parent, flags = record.span
        context = SpanContext(trace, span, is_remote=False, trace_flags=TraceFlags(flags & 1))
        above = SpanContext(trace, parent, is_remote=True, trace_flags=TraceFlags(flags & 1)) if parent else None
        common = _common(call)
        for attempt in record.attempts:
            below = SpanContext(trace, random.getrandbits(64) or 1, is_remote=False, trace_flags=context.trace_flags)
            self._end(
                f"{common['gen_ai.operation.name']} {attempt.model or call.model}",
                below,
                context,
                SpanKind.CLIENT,
                common | self._of_attempt(attempt, record),
                attempt.label if attempt.kind in (Kind.FAILURE, Kind.THROTTLED, Kind.WARMING) else "",
                (attempt.started + shift, attempt.started + attempt.seconds + shift),
            )
        reply = record.reply
        failed = "" if reply is None or reply.status < 500 else reply.code or str(reply.status)
        self._end(
            f"{call.method} {call.path}" if call.dialect is not None else call.method,
            context,
            above,
            SpanKind.SERVER,
            common | _of_call(record, call),
            failed,
            (record.started + shift, record.ended + shift),
        )

    def close(self) -> None:
        """Send what there is."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]

    def _of_attempt(self, attempt: Attempt, record: Record) -> dict[str, Any]:
        address, port = self.servers.get(attempt.upstream, ("", 0))
        told: dict[str, Any] = {
            "gen_ai.response.model": attempt.model,
            "guardproxy.upstream": attempt.upstream,
            "guardproxy.outcome": attempt.kind.value,
            "server.address": address,
        }
        if port:
            told["server.port"] = port
        if attempt.label.isdigit():
            told["http.response.status_code"] = int(attempt.label)
        if attempt.first is not None:
            told["guardproxy.first_token_seconds"] = attempt.first
        if attempt is record.attempts[-1] and record.usage:
            told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"] = tokens(record.usage)
        return told

    def _end(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: dict[str, Any],
        failed: str,
        times: tuple[float, float],
    ) -> None:
        if failed:
            attributes["error.type"] = failed
        started, ended = times
        self._processor.on_end(
            ReadableSpan(
                name,
                context,
                parent,
                self._resource,
                attributes,
                kind=kind,
                status=Status(_ERROR, failed) if failed else _OK,
                start_time=int(started * 1e9),
                end_time=int(ended * 1e9),
                instrumentation_scope=_SCOPE,
            )
        )


def _common(call: Call) -> dict[str, Any]:
    dialect = "" if call.dialect is None else call.dialect.name
    told = {"gen_ai.operation.name": _OPERATIONS.get(dialect, dialect or "relay"), "gen_ai.provider.name": "openai"}
    if call.model:
        told["gen_ai.request.model"] = call.model[:200]
    return told


def _of_call(record: Record, call: Call) -> dict[str, Any]:
    reply, target = record.reply, record.target
    told: dict[str, Any] = {
        "http.request.method": call.method,
        "url.path": call.path[:500],
        "guardproxy.request_id": call.id,
        "guardproxy.attempts": len(record.attempts),
        "guardproxy.source": reply.source if reply else "none",
        "guardproxy.cache": record.cache,
        "guardproxy.json": record.json,
    }
    if reply is not None:
        told["http.response.status_code"] = reply.status
    if target is not None:
        told["gen_ai.response.model"] = target.model
        told["guardproxy.upstream"] = target.upstream
        told["guardproxy.mode"] = target.mode
        if target.moved_from:
            told |= {"guardproxy.moved_from": target.moved_from, "guardproxy.reason": target.reason}
    if record.usage and record.attempts:
        told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"] = tokens(record.usage)
    return {name: value for name, value in told.items() if value != ""}

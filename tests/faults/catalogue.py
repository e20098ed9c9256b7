"""What can go wrong, and what then: the list that the tests of this folder hold the proxy to.

Here belong the rows and what each demands: what the app sees, what it says about the upstream, whether another
attempt is made.  Not here: how a row is brought about (the tests) and the page for people (`page`).

Breaker: F failure, T throttle, S success, – ignored.  Retry: pre = only before the first byte has left for the app,
within the budget and the deadline.  A *decision* says where the proxy does something else than the row's first
wording, and why.
"""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One line of the list."""

    fault: str
    sees: str
    breaker: str
    retry: str
    decision: str = ""


_ELSEWHERE = (
    "Not asked again at the same server, which would only do it once more; another one is asked, for the fault of one "
    "model server should be no outage of the app ([ADR 26](adr/0026-who-breaks-http-is-not-asked-twice.md))."
)
ROWS = {
    1: Row(
        "accepts, never answers",
        "504 `upstream_timeout` at TTFT",
        "F",
        "pre",
        (
            "The clock of the first token is for streams. An answer that is not streamed has no first token and may "
            "be silent until `timeouts.total`; then there is no time left for another attempt."
        ),
    ),
    2: Row(
        "connection refused / unreachable",
        "502 `upstream_unreachable`",
        "F",
        "pre (nothing sent)",
    ),
    3: Row(
        "SYN black hole",
        "504 at connect timeout 5 s",
        "F",
        "pre",
    ),
    4: Row(
        "DNS NXDOMAIN / SERVFAIL / timeout",
        "502 `upstream_unreachable`; last-good IP may be used",
        "F",
        "pre",
    ),
    5: Row(
        "DNS returns new IPs (Pod moved)",
        "new pool within TTL",
        "–",
        "–",
    ),
    6: Row(
        "TLS: expired / wrong name / handshake stall",
        "502 `upstream_unreachable`; never downgrade",
        "F",
        "no",
        _ELSEWHERE,
    ),
    7: Row(
        "FIN before any byte, fresh connection",
        "502",
        "F",
        "pre",
    ),
    8: Row(
        "FIN/RST on **reused** keep-alive, no byte",
        "transparent success",
        "–",
        "once, fresh connection",
    ),
    9: Row(
        "RST mid-header",
        "502",
        "F",
        "pre",
    ),
    10: Row(
        "headers, then silence (200, no first token)",
        "504 (headers are withheld until first event)",
        "F",
        "pre",
    ),
    11: Row(
        "only `: ping` comments for ever",
        "504; pings do not reset TTFT",
        "F",
        "pre",
    ),
    12: Row(
        "stall mid-stream",
        "*Mid* at idle timeout",
        "F",
        "no",
    ),
    13: Row(
        "RST mid-SSE",
        "*Mid*",
        "F",
        "no",
    ),
    14: Row(
        "EOF mid-SSE, no [DONE]/finish_reason",
        "*Mid*",
        "F",
        "no",
    ),
    15: Row(
        "truncated chunked, non-stream",
        "502 `upstream_reset`",
        "F",
        "pre",
    ),
    16: Row(
        "Content-Length short",
        "502",
        "F",
        "pre",
    ),
    17: Row(
        "EOF-delimited + RST (aiohttp silent)",
        "502 by completeness check",
        "F",
        "pre",
    ),
    18: Row(
        "extra bytes after Content-Length",
        "502 or 200, **never** next response; connection dropped",
        "F",
        "no",
        (
            "An answer that is complete is given to the app and is a success; what comes behind it closes the "
            "connection and is never read as an answer."
        ),
    ),
    19: Row(
        "CL+TE, duplicate/negative CL, bad chunk size",
        "502, connection closed",
        "F",
        "no",
        _ELSEWHERE,
    ),
    20: Row(
        "garbage / HTTP/0.9 / status 0",
        "502",
        "F",
        "no",
        _ELSEWHERE,
    ),
    21: Row(
        "1xx (100/103, many)",
        "skipped; final forwarded; bounded count",
        "S",
        "–",
    ),
    22: Row(
        "101 unsolicited",
        "502",
        "F",
        "no",
        _ELSEWHERE,
    ),
    23: Row(
        "header >8 KiB / 1000 headers",
        "forward up to limit, else 502",
        "F",
        "no",
        f"A head may have 64 KiB and 500 fields. {_ELSEWHERE}",
    ),
    24: Row(
        "NUL/CR/LF in header",
        "502, never forwarded",
        "F",
        "no",
        _ELSEWHERE,
    ),
    25: Row(
        "204/304 with body; HEAD body",
        "body discarded",
        "S",
        "–",
        "On an inference path a 204 is no answer and a 502: this row is about the paths that are only relayed.",
    ),
    26: Row(
        "slow drip 1 B/s",
        "streamed; min-rate/total deadline => 504 or *Mid*",
        "F/slow",
        "no",
    ),
    27: Row(
        "500/502/503/504/529",
        "pass status+body if OpenAI-shaped, else wrap",
        "F",
        "pre",
    ),
    28: Row(
        "503 + Retry-After",
        "forward header",
        "T",
        "pre if delay<deadline",
    ),
    29: Row(
        "429 rate limit (s / ms / HTTP-date / absurd / negative)",
        "429 + sane Retry-After",
        "T",
        "pre if short; else downshift/other upstream",
    ),
    30: Row(
        "429 insufficient_quota",
        "429 as is",
        "–",
        "no",
    ),
    31: Row(
        "400/404/409/413/422",
        "as is, byte-exact",
        "–",
        "no",
    ),
    32: Row(
        "401/403",
        "as is; config-alarm metric",
        "–",
        "no",
    ),
    33: Row(
        "408",
        "408/504",
        "F",
        "pre",
    ),
    34: Row(
        "3xx from upstream",
        "not followed (SSRF, key leak); 502",
        "F",
        "no",
        _ELSEWHERE,
    ),
    35: Row(
        '**200 + `{"error":…}`**',
        "502 with inner error (inner 4xx/429 mapped accordingly)",
        "by inner code",
        "pre",
    ),
    36: Row(
        "200 HTML / wrong content-type",
        "502 `upstream_protocol`",
        "F",
        "pre",
    ),
    37: Row(
        "200 empty body / empty choices",
        "502",
        "F",
        "pre",
    ),
    38: Row(
        "200, content truncated `length`",
        "200 raw; schema mode: retry then fallback",
        "S",
        "schema budget",
    ),
    39: Row(
        "first SSE frame is an error",
        "real HTTP error (peek before commit)",
        "by code",
        "pre",
    ),
    40: Row(
        "error frame mid-SSE",
        "forwarded; no [DONE] added",
        "F",
        "no",
    ),
    41: Row(
        "malformed SSE: bad JSON data",
        "pass-through byte-exact; validating mode: *Mid*",
        "F",
        "no",
        (
            "A relayed event is not decoded unless it tells of an end, an error or usage: that would cost each stream "
            "more than all else. One that cannot be a JSON object by its first and last character, and one that tells "
            "and cannot be read, is a failure and keeps the stream out of the cache."
        ),
    ),
    42: Row(
        "CRLF / CR / LF / mixed, BOM",
        "bytes unchanged",
        "S",
        "–",
    ),
    43: Row(
        "UTF-8 split across chunks",
        "bytes unchanged; decode incrementally",
        "S",
        "–",
    ),
    44: Row(
        "invalid UTF-8 in body",
        "byte-exact; validating: 502",
        "F",
        "pre",
        (
            "A stream passes byte for byte. A whole answer is always read, and bytes that are no UTF-8 are no JSON "
            "(RFC 8259 § 8.1) for any SDK either: 502, so that another attempt can be made."
        ),
    ),
    45: Row(
        "1 MB+ SSE line",
        "passed; parser buffer capped",
        "S",
        "–",
    ),
    46: Row(
        "10 000 events in one chunk / 1 byte per chunk",
        "same events",
        "S",
        "–",
    ),
    47: Row(
        "data after [DONE] / two [DONE]",
        "passed, ends at close; second not recorded",
        "S",
        "–",
    ),
    48: Row(
        "usage chunk with empty choices",
        'passed; counted, not "empty"',
        "S",
        "–",
    ),
    49: Row(
        "gzip/br/zstd when not asked",
        "passed with Content-Encoding; decode capped if inspected",
        "S",
        "–",
        (
            "gzip and deflate are read and passed as they came. What cannot be read (br, zstd) cannot be told from a "
            "failure under 200, and was not asked for: 502."
        ),
    ),
    50: Row(
        "truncated gzip (aiohttp silent) / lying header",
        "502",
        "F",
        "pre",
    ),
    51: Row(
        "gzip bomb",
        "502 at cap, bounded RSS",
        "F",
        "no",
        _ELSEWHERE,
    ),
    52: Row(
        "early 413/401 while uploading",
        "response delivered; upload stopped",
        "–",
        "no",
    ),
    53: Row(
        "pool exhausted",
        "queue <= N ms then 503 `overloaded` + Retry-After",
        "–",
        "no",
    ),
    54: Row(
        "breaker open",
        "503 `circuit_open` or stale/fallback, <5 ms, 0 upstream calls",
        "–",
        "x-should-retry:false",
    ),
    55: Row(
        "half-open stampede (50 callers)",
        "<=N pass, others as 54",
        "–",
        "–",
    ),
    56: Row(
        "hung half-open probe",
        "lease expires, reopen, longer delay",
        "F",
        "–",
    ),
    57: Row(
        "client leaves before headers",
        "upstream socket closed <1 s; log 499",
        "–",
        "no",
    ),
    58: Row(
        "client leaves mid-stream",
        "same; partial never cached (unless followers wait)",
        "–",
        "no",
    ),
    59: Row(
        "client half-closes write side",
        "treated as gone (57)",
        "–",
        "no",
    ),
    60: Row(
        "client reads slowly",
        "backpressure, bounded buffer, write timeout; idle upstream is not blamed",
        "–",
        "–",
    ),
    61: Row(
        "slowloris headers / body",
        "408/close; other clients unaffected",
        "–",
        "–",
    ),
    62: Row(
        "pipelined / smuggling bytes",
        "400 + close; origin sees nothing ambiguous",
        "–",
        "–",
    ),
    63: Row(
        "`Expect: 100-continue`",
        "100 then normal",
        "S",
        "–",
    ),
    64: Row(
        "absolute-URI, `..`, `//`, odd Host, CONNECT/TRACE",
        "normalised or 400/405; upstream host never client-chosen",
        "–",
        "–",
    ),
    65: Row(
        "hop-by-hop / Connection-listed headers",
        "stripped; no key leak to the client",
        "S",
        "–",
    ),
    66: Row(
        "100 MB body",
        "413 envelope at limit, without buffering; RSS bounded",
        "–",
        "–",
    ),
    67: Row(
        "request not JSON / deep nesting 100 k",
        "400 `invalid_json`, never 500",
        "–",
        "–",
    ),
    68: Row(
        "NaN/Infinity, duplicate keys, lone surrogate, >4300 digits",
        "400 in inspected mode; uncached raw pass-through otherwise",
        "–",
        "–",
    ),
    69: Row(
        "same in **model output**",
        "invalid -> retry -> fallback",
        "S (quality counter)",
        "schema budget",
    ),
    70: Row(
        "schema: bad / unknown draft",
        "400 `invalid_schema`, before any upstream call",
        "–",
        "no",
        (
            "A `$schema` of somebody's own is read as 2020-12: its keywords mean what everybody takes them to mean; a "
            "draft of json-schema.org that there is not is refused ([json-guard.md](json-guard.md))."
        ),
    ),
    71: Row(
        "schema: ReDoS / exponential anyOf",
        "bounded time off the loop; 400 or validation error; other requests unaffected",
        "–",
        "no",
    ),
    72: Row(
        "schema: `$ref` loop / depth",
        "400 `schema_too_deep`",
        "–",
        "no",
    ),
    73: Row(
        "schema: remote or file `$ref` / `$schema`",
        "400, **zero network or file access**",
        "–",
        "no",
    ),
    74: Row(
        "model never satisfies schema",
        "exactly max_retries+1 upstream calls, then stale, then declared fallback + header, then 502",
        "S (quality)",
        "bounded",
    ),
    75: Row(
        "fenced / prose-wrapped JSON, trailing text",
        "policy: extract or retry, stated in header",
        "S",
        "schema budget",
    ),
    76: Row(
        "validation + stream:true",
        "held, checked, then streamed; keep-alive comments meanwhile",
        "S",
        "–",
    ),
    77: Row(
        "n>1, one choice invalid",
        "whole response retried or fallback; no mixing",
        "S",
        "schema budget",
    ),
    78: Row(
        "downshift chain exhausted",
        "last real error, not a loop; effective mode in header and key",
        "F each",
        "bounded",
    ),
    79: Row(
        "health check: slow / wrong answer / 429",
        "separate budget; 429 not unhealthy; no flap (hysteresis)",
        "probe only",
        "–",
    ),
    80: Row(
        "health check overlapping / hanging",
        "never two in flight; cancelled at shutdown",
        "–",
        "–",
    ),
    81: Row(
        "coalescing leader fails",
        "followers re-elect or get own error; N upstream calls bounded",
        "F once",
        "pre",
    ),
    82: Row(
        "leader client leaves",
        "followers still served",
        "–",
        "–",
    ),
    83: Row(
        "cache: entry expires while streaming out",
        "the started response is completed",
        "–",
        "–",
    ),
    84: Row(
        "same body, other tenant key",
        "miss",
        "–",
        "–",
    ),
    85: Row(
        "purge / TTL during revalidation",
        "no resurrection of purged entry",
        "–",
        "–",
    ),
    86: Row(
        "SIGTERM during stream",
        "stream completes within grace, else *Mid*; exit 0",
        "–",
        "–",
    ),
    87: Row(
        "SIGTERM in retry back-off / coalesced wait",
        "503 `shutting_down` promptly",
        "–",
        "no",
        (
            "Who only lets time pass before another attempt is told at once. Who waits with others for an answer that "
            "is on its way, or in line for a place, is served while there is time (`drain.seconds`), and told then."
        ),
    ),
    88: Row(
        "SIGKILL, restart",
        "clean start; no stale state",
        "–",
        "–",
    ),
    89: Row(
        "reload: bad YAML, unknown key, bad type, empty, missing",
        "old config kept, metric 0, log once",
        "–",
        "–",
    ),
    90: Row(
        "reload: `..data` swap; two in 10 ms; subPath",
        "exactly one consistent version; no partial",
        "–",
        "–",
    ),
    91: Row(
        "reload removes upstream in use",
        "in-flight finish; breaker/cache of the others kept",
        "–",
        "–",
    ),
    92: Row(
        "wall clock +-1 h, suspend",
        "TTL, breaker and timers unaffected (monotonic)",
        "–",
        "–",
    ),
    93: Row(
        "fd exhaustion (EMFILE) / ENOSPC / read-only fs",
        "503, recovers; accept loop does not spin",
        "–",
        "no",
    ),
    94: Row(
        "memory near limit",
        "cache shrinks / 503 before OOM",
        "–",
        "–",
    ),
    95: Row(
        "loop blocked (CPU-bound schema)",
        "lag metric; liveness still answers",
        "–",
        "–",
    ),
    96: Row(
        "/metrics under high-cardinality model names",
        "bounded labels (`other`), promtool clean",
        "–",
        "–",
    ),
    97: Row(
        "log injection, secrets in error text",
        "escaped; Authorization and prompts redacted",
        "–",
        "–",
    ),
}

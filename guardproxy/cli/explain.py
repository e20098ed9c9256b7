"""``guardproxy explain``: what a configuration amounts to, or with ``--request`` what became of one call.

Here belong the words and the layout, for people and, with ``--json``, for scripts.  Not here: what the values are and
where they came from (`config`), what a guard does at a moment, which its own source says; what is known of a
call, which the running proxy says.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from guardproxy.cli import check

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from guardproxy.config.load import Loaded
    from guardproxy.core.guard import Spec

MOMENTS: Final = ("admit", "permit", "observe", "hear", "watch", "judge", "rescue", "settle", "tick")
"""The moments at which guards speak, in the order of a call."""


def add_arguments(parser: ArgumentParser) -> None:
    """What the command understands."""
    check.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.add_argument("--request", metavar="ID", help="explain this call instead (the answer's X-Request-Id)")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the proxy that it went through (%(default)s)")


def main(args: Namespace) -> int:
    """Explain; 0, 1 where nothing is known of a call, or 2 where the configuration cannot be used."""
    if args.request is not None:
        return _request(args)
    loaded = check.read(args)
    if loaded is None:
        return 2
    told = gather(loaded)
    print(json.dumps(told, indent=2, ensure_ascii=False) if args.json else "\n".join(lines(told)))
    return 0


def _request(args: Namespace) -> int:
    from guardproxy.checklist.ask import Unanswered, get

    try:
        status, told = get(args.url, "/guard/requests/" + quote(args.request, safe=""))
    except Unanswered as reason:
        print(reason, file=sys.stderr)
        return 1
    if status != 200:
        print(told.get("error", {}).get("message", f"{args.url} answered {status}"), file=sys.stderr)
        return 1
    print(json.dumps(told, indent=2, ensure_ascii=False) if args.json else "\n".join(request_lines(told)))
    return 0


def request_lines(told: dict[str, Any]) -> Iterator[str]:
    """One call for people."""
    when = datetime.fromtimestamp(told["at"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    yield f"{told['method']} {told['path']}   {told['status']} in {told['ms']:.0f} ms, ended {when}"
    yield f"id {told['id']}{'   trace ' + told['trace'] if told['trace'] else ''}"
    if told["tokens_in"] or told["tokens_out"]:
        yield f"tokens {told['tokens_in']} in, {told['tokens_out']} out"
    yield ""
    for step in told["steps"]:
        yield f"{step['ms']:>9.1f} ms  {step['what']:<12} {step['said']}"
    for name, text in told.get("bodies", {}).items():
        yield from ("", f"{name}:", text)


def gather(loaded: Loaded) -> dict[str, Any]:
    """All there is to say, as JSON; secrets only as being there."""
    from guardproxy.config import effective
    from guardproxy.config.registry import guards
    from guardproxy.config.tree import dotted

    config = loaded.config
    return {
        "path": loaded.path,
        "digest": loaded.digest,
        "warnings": loaded.warnings,
        "listeners": {"app": str(config.listen), "admin": str(config.admin)},
        "upstreams": {
            name: {"url": upstream.url, "model": upstream.model, "aliases": list(upstream.aliases),
                   "key": "its own" if upstream.api_key else "the caller's"}
            for name, upstream in config.upstreams.items()
        },
        "modes": {
            name: {"upstream": mode.upstream, "params": mode.params, "caps": mode.caps}
            for name, mode in config.modes.items()
        },
        "guards": {
            spec.name: {"section": spec.key, "enabled": getattr(getattr(config, spec.key), "enabled", True),
                        "moments": _moments(spec)}
            for spec in guards()
        },
        "values": {
            dotted(path): {"value": effective.shown(path, value), "origin": loaded.origins[dotted(path)]}
            for path, value in effective.leaves(config)
        },
    }  # fmt: skip


def _moments(spec: Spec) -> dict[str, str]:
    """When a guard speaks and what it does then: the words of its own source."""
    from guardproxy.core.guard import Guard

    module = importlib.import_module(spec.build.__module__)
    found = (
        cls for cls in vars(module).values() if isinstance(cls, type) and issubclass(cls, Guard) and cls is not Guard
    )
    guard = next((cls for cls in found if cls.__module__ == module.__name__), Guard)
    return {
        moment: (inspect.getdoc(vars(guard)[moment]) or "").split("\n")[0]
        for moment in MOMENTS
        if moment in vars(guard)
    }


def lines(told: dict[str, Any]) -> Iterator[str]:
    """The same for people."""
    yield f"{told['path'] or 'no file, all is default'} (digest {told['digest']})"
    for warning in told["warnings"]:
        yield f"warning: {warning}"
    yield from ("", "Listeners")
    yield f"  app    http://{told['listeners']['app']}   proxies, and answers its own paths"
    yield f"  admin  http://{told['listeners']['admin']}   answers its own paths, and changes things"
    yield from ("", "Upstreams")
    yield from _table(
        [name, up["url"], up["model"] or "any model", f"also {', '.join(up['aliases'])}" if up["aliases"] else "",
         f"with {up['key']} key"]
        for name, up in told["upstreams"].items()
    )  # fmt: skip
    yield from ("", "Modes, highest first: a downshift moves down")
    yield from _table(
        [name, f"-> {mode['upstream']}", _pairs("sets", mode["params"]), _pairs("caps", mode["caps"])]
        for name, mode in told["modes"].items()
    )
    yield from ("", "Guards, in the order in which they speak")
    for name, guard in told["guards"].items():
        state = {True: "on", False: "off"}.get(guard["enabled"], str(guard["enabled"]))
        yield f"  {name} ({guard['section']}): {state}"
        if guard["enabled"]:
            yield from (f"      {moment:<8} {words}" for moment, words in guard["moments"].items())
    yield from ("", "Values")
    yield from _table(
        [path, json.dumps(entry["value"], ensure_ascii=False), entry["origin"]]
        for path, entry in told["values"].items()
    )


def _pairs(word: str, values: dict[str, Any]) -> str:
    return f"{word} " + ", ".join(f"{key}={json.dumps(value)}" for key, value in values.items()) if values else ""


def _table(rows: Any) -> Iterator[str]:
    rows = [[cell if len(cell) <= 60 else cell[:59] + "…" for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

"""``guardproxy report``: what the guards have done, and what those in shadow would have.

Here belong the words.  The numbers are the running proxy's.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from guardproxy.checklist.ask import Unanswered, get

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000", help="the proxy (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")


def main(args: argparse.Namespace) -> int:
    """Ask and print; 1 where there is no answer."""
    try:
        status, told = get(args.url, "/guard/report")
    except Unanswered as reason:
        print(reason, file=sys.stderr)
        return 1
    if status != 200 or "guards" not in told:
        print(f"{args.url} answered {status}, which is no report: is a guardproxy listening there?", file=sys.stderr)
        return 1
    print(json.dumps(told, indent=2) if args.json else "\n".join(lines(told)))
    return 0


def lines(told: dict[str, Any]) -> Iterator[str]:
    """The report for people."""
    yield f"{told['calls']} calls in {_span(told['seconds'])}, configuration {told['digest']}"
    guards = told["guards"]
    for name, say in (("json", _json), ("cache", _cache), ("breaker", _gate), ("throttle", _gate), ("load", _gate)):
        enabled = guards[name]["enabled"]
        state = {True: "on", False: "off"}.get(enabled, str(enabled))
        yield f"{name:<9} {state:<7} {say(guards[name]) if enabled else ''}".rstrip()


def _json(told: dict[str, Any]) -> str:
    results, judged = told["results"], sum(told["results"].values())
    if told["enabled"] == "shadow":
        return f"{_of(told['invalid'], judged)} answers that have to be JSON would not have been accepted as they were"
    parts = ", ".join(f"{count} {result}" for result, count in results.items() if count)
    return f"{judged} calls for JSON: {parts}" if judged else "no calls for JSON"


def _cache(told: dict[str, Any]) -> str:
    verb = "would have been answered" if told["enabled"] == "shadow" else "answered"
    return f"{_of(told['hit'], told['hit'] + told['miss'])} calls {verb} from it"


def _gate(told: dict[str, Any]) -> str:
    would = told.get("would")
    if would is None:
        return "see its metrics"
    attempts = would["permitted"] + would["refused"]
    if not would["refused"]:
        return f"would have let all {attempts} attempts pass"
    return (
        f"would have refused {_of(would['refused'], attempts)} attempts, after opening {would['opened']} times: "
        f"{would['spared']} of them failed, {would['lost']} were answered all the same"
    )


def _of(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.0%})" if whole else f"{part} of {whole}"


def _span(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"

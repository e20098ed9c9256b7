"""The checklist as JUnit XML, which every CI server can show.

Here belongs the shape: one suite, one test case for each check, as https://llg.cubic.org/docs/junit/ has it.
"""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape, quoteattr


def junit(result: dict[str, Any], url: str, seconds: float, error: str = "") -> str:
    """The *result* of asking the proxy at *url*, which took so many *seconds*; an *error* where there was no answer."""
    checks = result.get("checks", ())
    counts = {
        "tests": len(checks) or 1,
        "failures": sum(not check["ok"] for check in checks),
        "errors": int(bool(error)),
    }
    suite = {"name": "guardproxy verify", **counts, "skipped": 0, "time": f"{seconds:.3f}", "hostname": url}
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<testsuite {_attributes(suite)}>"]
    if digest := result.get("config"):
        named = _attributes({"name": "config", "value": digest})
        lines.append(f"  <properties><property {named}/></properties>")
    for check in checks:
        lines.append(f"  <testcase {_attributes({'classname': 'guardproxy', 'name': check['name'], 'time': 0})}>")
        if check["ok"]:
            lines.append(f"    <system-out>{escape(_plain(check['detail']))}</system-out>")
        else:
            lines.append(f"    <failure {_attributes({'message': check['detail']})}/>")
        lines.append("  </testcase>")
    if error:
        lines.append(f"  <testcase {_attributes({'classname': 'guardproxy', 'name': 'answers', 'time': 0})}>")
        lines += [f"    <error {_attributes({'message': error})}/>", "  </testcase>"]
    return "\n".join([*lines, "</testsuite>", ""])


def _attributes(named: dict[str, Any]) -> str:
    return " ".join(f"{name}={quoteattr(_plain(value))}" for name, value in named.items())


def _plain(text: object) -> str:
    """*text* without the characters that XML 1.0 cannot hold."""
    return "".join(c if c.isprintable() else "\ufffd" for c in str(text))

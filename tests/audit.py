"""Ask the advisory services about every locked dependency: `python -m tests.audit`, part of `make check`.

Here belongs what their answers come to.  What is known to be unsafe fails, whoever knows it.  What could not be asked
is named, loudly, and does not fail: a machine without that network, or behind an index that has no advisories, can
still check the rest.  With ``--strict`` (`make audit`) it fails too.

Both services of pip-audit are asked at once, PyPI's own and OSV, for at most so many seconds in all.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-build.lock")
SERVICES = ("pypi", "osv")
SECONDS = 8.0
AUDIT = (
    str(Path(sys.executable).with_name("pip-audit")),
    "--disable-pip",
    "--require-hashes",
    "--progress-spinner=off",
)


@dataclass
class Findings:
    """What the services had to say."""

    known: set[str] = field(default_factory=set)
    """Dependencies that some service knows."""
    unknown: set[str] = field(default_factory=set)
    """Those that were asked for and that a service did not know."""
    unsafe: dict[str, set[str]] = field(default_factory=dict)
    """Advisories by dependency."""
    silent: list[str] = field(default_factory=list)
    """Services that gave no answer, and why."""

    def take(self, service: str, text: str, why: str) -> None:
        """Read what *service* has printed; *why* it may have printed nothing."""
        try:
            told: list[dict[str, Any]] = json.loads(text)["dependencies"]
        except (ValueError, KeyError, TypeError):
            self.silent.append(f"{service} ({why.strip().splitlines()[-1][:160] if why.strip() else 'no answer'})")
            return
        for one in told:
            name = f"{one['name']} {one.get('version', '')}".strip()
            if "skip_reason" in one:
                self.unknown.add(one["name"])
                continue
            self.known.add(one["name"])
            if one["vulns"]:
                self.unsafe.setdefault(name, set()).update(str(vuln["id"]) for vuln in one["vulns"])

    def verdict(self, *, strict: bool) -> tuple[int, str]:
        """The exit status, and what is said."""
        lines = [f"UNSAFE: {name}: {', '.join(sorted(ids))}" for name, ids in sorted(self.unsafe.items())]
        unasked = sorted(self.unknown - self.known)
        if not self.known:
            lines.append("NOT AUDITED: no advisory service could be asked about any dependency")
            if unasked:
                lines.append(f"  not known where it was asked for: {', '.join(unasked)}")
            lines += [f"  no answer: {one}" for one in self.silent]
            lines.append("  `make audit` fails until one can be")
        elif unasked:
            lines.append(f"NOT AUDITED: {', '.join(unasked)}")
        else:
            lines.append(f"audit: {len(self.known)} dependencies, {len(self.unsafe)} unsafe")
        return int(bool(self.unsafe) or (strict and bool(unasked or not self.known))), "\n".join(lines)


def audit(command: Sequence[str] = AUDIT, seconds: float = SECONDS) -> Findings:
    """Ask every service at once, and wait no longer than so many *seconds*."""
    locks = [part for lock in LOCKS if (ROOT / lock).exists() for part in ("-r", lock)]
    asked = {
        service: subprocess.Popen(
            [*command, *locks, "-s", service, "-f", "json", "--timeout", "3"],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for service in SERVICES
    }  # fmt: skip
    found, until = Findings(), time.monotonic() + seconds
    for service, process in asked.items():
        try:
            text, why = process.communicate(timeout=max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            text, why = "", f"no answer within {seconds:g} s"
        found.take(service, text, why)
    return found


if __name__ == "__main__":
    strict = "--strict" in sys.argv
    status, said = audit(seconds=120.0 if strict else SECONDS).verdict(strict=strict)
    sys.stderr.write(said + "\n")
    sys.exit(status)

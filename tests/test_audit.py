"""What is unsafe fails the check; what cannot be asked is said by name, and fails only where that is wanted."""

from __future__ import annotations

import json
import sys

import pytest

from tests.audit import Findings, audit


def told(**dependencies):
    """What pip-audit prints: None for a dependency that the service does not know, else its advisories."""
    return json.dumps(
        {
            "dependencies": [
                {"name": name, "skip_reason": "not found"}
                if ids is None
                else {"name": name, "version": "1.0", "vulns": [{"id": one} for one in ids]}
                for name, ids in dependencies.items()
            ]
        }
    )


@pytest.mark.parametrize(
    "pypi, osv, lenient, strict, said",
    [
        (told(a=[], b=[]), told(a=[], b=[]), 0, 0, "audit: 2 dependencies, 0 unsafe"),
        (told(a=[], b=[]), "", 0, 0, "audit: 2 dependencies, 0 unsafe"),
        (told(a=["X-1"], b=[]), "", 1, 1, "UNSAFE: a 1.0: X-1"),
        (told(a=[], b=[]), told(a=["X-1"], b=[]), 1, 1, "UNSAFE: a 1.0: X-1"),
        (told(a=None, b=[]), told(a=[], b=[]), 0, 0, "audit: 2"),
        (told(a=None, b=[]), "", 0, 1, "NOT AUDITED: a"),
        (told(a=None, b=["X-2"]), "", 1, 1, "UNSAFE: b 1.0: X-2\nNOT AUDITED: a"),
        (told(a=None, b=None), "", 0, 1, "NOT AUDITED: no advisory service could be asked"),
        ("", "", 0, 1, "no answer: osv (boom)"),
        ("[]", "{}", 0, 1, "NOT AUDITED: no advisory service"),
    ],
)
def test_verdicts(pypi, osv, lenient, strict, said):
    found = Findings()
    found.take("pypi", pypi, "Traceback\n  x\nboom\n")
    found.take("osv", osv, "Traceback\n  x\nboom\n")
    assert found.verdict(strict=False)[0] == lenient
    assert found.verdict(strict=True)[0] == strict
    assert said in found.verdict(strict=False)[1]


def test_a_service_that_hangs_is_not_waited_for():
    found = audit([sys.executable, "-c", "import time; time.sleep(60)"], 0.5)
    assert [one.partition(" ")[0] for one in found.silent] == ["pypi", "osv"]
    assert found.verdict(strict=False)[0] == 0
    assert found.verdict(strict=True)[0] == 1


def test_each_service_is_asked_about_every_lock():
    """In its own words; one that knows something is enough."""
    tell = (
        "import json, sys; service = sys.argv[sys.argv.index('-s') + 1]; locks = sys.argv.count('-r')\n"
        "print(json.dumps({'dependencies': [{'name': f'{service}{locks}', 'version': '1', 'vulns': []}]}))"
    )
    assert audit([sys.executable, "-c", tell], 30).known == {"pypi2", "osv2"}

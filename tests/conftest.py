"""What all tests share.

A test that needs a program says so, and only that test goes without it on a machine that lacks it:

    @pytest.mark.needs("redis-server")
    def test_…

    @pytest.fixture
    def redis(needs): needs("redis-server"); …

On a user's machine it is skipped by name.  With `GUARDPROXY_CI` set nothing may be skipped, for whatever
reason: a skip is a test that nobody ran, so there it is a failure.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

CI = bool(os.environ.get("GUARDPROXY_CI"))
# Real servers and real clients take minutes to install: they are a target of their own, `make e2e`.
collect_ignore = [] if os.environ.get("GUARDPROXY_E2E") else ["e2e"]

# Machines differ in speed, so no example has a deadline; CI draws the same examples for the same code.
hypothesis.settings.register_profile("user", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=500, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if CI else "user"))


def skip_without(*programs: str) -> None:
    """Skip the running test, by name, where one of *programs* is not installed."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


@pytest.fixture(scope="session")
def needs() -> Callable[..., None]:
    """For fixtures and for the middle of a test; the marker of this name is for whole tests."""
    return skip_without


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        skip_without(*marker.args)


def forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI, turn a skip into a failure that says what was skipped and why."""
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"nothing may be skipped in CI: {report.nodeid}: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    forbid_skip(report)
    return report

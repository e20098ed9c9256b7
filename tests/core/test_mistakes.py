"""The mistakes that breakers elsewhere make, planted in ours: the tests of the circuit find each of them.

Each is a small change of the source, which is run as a module of its own, and the tests named for it run against that.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from guardproxy.core import circuit as ours
from tests.core import test_circuit as suite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Mistake:
    """One mistake: who makes it, what would have to be written for it, and the tests that must not let it pass."""

    what: str
    right: str
    wrong: str
    found_by: tuple[Callable[[], Any], ...]


MISTAKES = [
    Mistake(
        "a cancelled probe closes the circuit (Polly)",
        "        if kind is Kind.SUCCESS:\n            self._successes",
        "        if kind is Kind.SUCCESS or kind is None:\n            self._successes",
        (lambda: suite.test_a_cancelled_probe_is_given_back(None),),
    ),
    Mistake(
        "a hung probe wedges half-open for ever (resilience4j, gobreaker)",
        "        return sum(now < probe.expires - spent for probe in self._probes) < self.settings.half_open_requests",
        "        return len(self._probes) < self.settings.half_open_requests",
        (suite.test_a_hung_probe_does_not_wedge,),
    ),
    Mistake(
        "half-open admits everybody (aiobreaker, purgatory, sglang-router)",
        "        elif not self._room(now, check=check):",
        "        elif False:",
        (suite.test_half_open_admits_few,),
    ),
    Mistake(
        "mistakes of callers count as failures (sglang)",
        "        if kind is not Kind.SUCCESS and kind is not Kind.SLOW and kind is not Kind.FAILURE:\n"
        "            return None",
        "        kind = Kind.FAILURE if kind is Kind.IGNORED else kind",
        (suite.test_what_says_nothing_changes_nothing,),
    ),
    Mistake(
        "results of the closed state count as probes (resilience4j)",
        "        if permit.generation != self.generation:\n"
        "            return None\n"
        "        if self.state is _CLOSED and kind",
        "        if self.state is State.HALF_OPEN and permit not in self._probes:\n"
        "            self._probes.append(permit)\n"
        "        if self.state is _CLOSED and kind",
        (suite.test_results_of_the_closed_state_are_no_probes,),
    ),
    Mistake(
        "only ended attempts are seen, while a model queues (go-zero)",
        "        window.mark_slow()\n        slow = ",
        "        slow = ",
        (suite.test_a_model_that_queues_without_end,),
    ),
    Mistake(
        "a verdict needs a hundred calls, which a sidecar never has",
        "window.total >= settings.minimum_requests and window.bad",
        "window.total >= 100 and window.bad",
        (suite.test_a_sidecar_has_little_traffic,),
    ),
]


def planted(mistake: Mistake) -> ModuleType:
    """The circuit with *mistake* in it."""
    source = ours.__loader__.get_source(ours.__name__)  # type: ignore[union-attr] # a module of source has one
    assert source is not None
    assert source.count(mistake.right) == 1, "what was to be changed is not there any more"
    module = ModuleType("guardproxy.core.mistaken")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    exec(compile(source.replace(mistake.right, mistake.wrong), module.__name__, "exec"), module.__dict__)  # noqa: S102 -- our own source
    return module


@pytest.fixture
def instead(monkeypatch) -> Iterator[Callable[[Mistake], None]]:
    """Puts a mistaken circuit into the place of ours, in the tests alone."""

    def put(mistake):
        module = planted(mistake)
        for name in ("Circuit", "Permit", "State"):
            monkeypatch.setattr(suite, name, getattr(module, name))

    yield put
    sys.modules.pop("guardproxy.core.mistaken", None)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.what)
def test_it_is_found(mistake, instead):
    """The tests that are named for a mistake fail where it is made, and pass where it is not."""
    for test in mistake.found_by:
        test()
    instead(mistake)
    for test in mistake.found_by:
        with pytest.raises(AssertionError):
            test()

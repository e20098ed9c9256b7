"""Own evidence is told from what others say and want."""

from __future__ import annotations

import pytest

from guardproxy.core.circuit import State
from guardproxy.core.hearsay import LEARNT
from guardproxy.core.provenance import HAND, Provenance


@pytest.mark.parametrize(
    "reason, own, learnt", [("500", "500", False), ("", "open", False), (LEARNT, "", True), (HAND, "", False)]
)
def test_by_whom_it_was_opened(reason, own, learnt):
    """Until it is closed."""
    known = Provenance()
    known.note("a", State.CLOSED, State.OPEN, reason, 0.0)
    assert (known.own("a"), known.learnt("a")) == (own, learnt)
    known.note("a", State.OPEN, State.HALF_OPEN, "due", 1.0)
    assert (known.own("a"), known.learnt("a")) == (own, learnt)
    heir = Provenance()
    heir.take("a", known)
    heir.take("b", known)
    assert (heir.own("a"), heir.own("b")) == (own, "")
    known.note("a", State.HALF_OPEN, State.OPEN, "timeout", 2.0)
    assert (known.own("a"), known.learnt("a")) == ("timeout", False)
    known.note("a", State.OPEN, State.CLOSED, LEARNT, 3.0)
    assert (known.own("a"), known.learnt("a"), known.proven("a")) == ("", False, float("-inf"))


@pytest.mark.parametrize("reason, proven", [("200", 7.0), (HAND, float("-inf")), (LEARNT, float("-inf"))])
def test_when_it_was_proven(reason, proven):
    """By probes of our own, not by a word or a hand."""
    known = Provenance()
    known.note("a", State.HALF_OPEN, State.CLOSED, reason, 7.0)
    assert known.proven("a") == proven

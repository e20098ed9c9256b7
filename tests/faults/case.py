"""One row of the list as a few declarative lines, and the four assertions that all rows share.

Here belongs what a row may demand and how it is held against what happened: the app's bytes, how often each model
server was asked, the circuit and the metrics, and that nothing is left (`Trial.balanced`).  Every case is played
*alone* (nothing is tried again), *beside* a model server that is well, and, where the list speaks of another attempt,
*again* at the same server, which is well by then.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.app.stand import merged
from tests.faults.trial import NEVER, Books, Trial, moved, says, turns, well
from tests.faults.wire import WELL_EVENTS, asking, events

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.faults.trial import Play
    from tests.faults.wire import Seen

KINDS = {"F": "failure", "T": "throttled", "S": "success", "-": "ignored"}
MARKS = {"F": (1, 1), "S": (0, 1), "T": (0, 0), "-": (0, 0)}
"""Bad marks and all marks in a circuit's window."""


@dataclass(frozen=True)
class Sees:
    """What the app must see."""

    status: int
    code: str | None = None
    """The code in the envelope."""
    body: bytes | None = None
    """The body, byte for byte."""
    mid: str | None = None
    """The code of the last event of a stream that broke off: no [DONE], no last chunk."""
    fields: Mapping[str, str | None] = field(default_factory=dict)
    """Header fields; None: absent."""
    says: str = ""
    """Words in the error's message."""
    has: Sequence[bytes] = ()
    """What the body holds."""

    def hold(self, seen: Seen) -> None:
        """Hold it against an answer."""
        assert seen.status == self.status, seen.wire[:600]
        assert seen.fields["x-request-id"]
        for name, value in self.fields.items():
            assert seen.fields.get(name) == value, (name, seen.wire[:600])
        if self.body is not None:
            assert seen.body == self.body
        assert all(part in seen.body for part in self.has), seen.body
        assert seen.cut is (self.mid is not None), seen.wire[-300:]
        if self.mid is not None:
            assert b"[DONE]" not in seen.body
            error = json.loads(seen.datas[-1])["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert (error["code"], self.says in error["message"]) == (self.mid, True), error
        elif self.code is not None or self.says:
            assert seen.fields["content-type"] == "application/json"
            assert seen.error["code"] == self.code
            assert self.says in seen.error["message"], seen.error


@dataclass(frozen=True)
class Case:
    """A fault and what must come of it."""

    row: int
    what: str
    play: Play | None
    """What the model server does; None: nobody listens."""
    sees: Sees
    breaker: str = "F"
    """As in the list: F, T, S or ``-``."""
    again: str = "pre"
    """``pre``: tried again; ``elsewhere``: not at the same server; ``no``: not at all."""
    calls: int = 1
    """How often the server is asked in one attempt: 0 where it cannot be reached, 2 where a reused connection died."""
    stream: bool = False
    body: Mapping[str, Any] = field(default_factory=dict)
    sends: Sequence[str] = ()
    """More header fields of the app."""
    config: Mapping[str, Any] = field(default_factory=dict)
    kept: int = 0
    """Answers in the cache afterwards."""
    ours: bool = True
    """Whether an error here is one of ours, counted by its code."""
    primed: bool = False
    """Whether the server has answered a call before, over a connection that it has kept."""

    def __str__(self) -> str:
        return f"{self.row}-{self.what.replace(' ', '-')}{'-streamed' * self.stream}"

    @property
    def _plays(self) -> list[Play]:
        return [] if self.play is None else [self.play]

    async def _ask(self, trial: Trial, *fields: str) -> Seen:
        return await trial.ask(asking(stream=self.stream, **self.body), *self.sends, *fields)

    async def alone(self) -> None:
        """The fault as it is."""
        async with self._trial({}) as trial:
            before = await self._prepare(trial, *self._plays)
            seen = await self._ask(trial, NEVER)
            self.sees.hold(seen)
            await trial.balanced(kept=self.kept)
            after = await trial.books()
            assert after.calls == {**before.calls, "llama": before.calls["llama"] + self.calls}
            self._told(before, after)

    async def beside(self) -> None:
        """With another server at hand."""
        async with self._trial({"retry": {"attempts": 2}}) as trial:
            before = await self._prepare(trial, *self._plays)
            seen = await self._ask(trial)
            if self.again == "no":
                self.sees.hold(seen)
                others = 0
            else:
                assert (seen.status, seen.fields["x-guardproxy-upstream"]) == (200, "mistral"), seen.wire[:600]
                assert seen.fields["x-guardproxy-attempts"] == "2"
                others = 1
            await trial.balanced()
            after = await trial.books()
            assert after.calls == {"llama": self.calls, "mistral": others, "qwen": 0}
            self._marked(before, after)

    async def once_more(self) -> None:
        """With an attempt left, and the same server well by then."""
        async with self._trial({"retry": {"attempts": 1}}) as trial:
            await self._prepare(trial, *self._plays * self.calls, _well(stream=self.stream))
            seen = await self._ask(trial, NEVER)
            if self.again == "pre":
                assert (seen.status, seen.fields["x-guardproxy-attempts"]) == (200, "2"), seen.wire[:600]
            else:
                self.sees.hold(seen)
            await trial.balanced()
            assert len(trial.llama.calls) == self.calls + (self.again == "pre")

    def _trial(self, changes: Mapping[str, Any]) -> Trial:
        return Trial(merged(self.config, changes))

    async def _prepare(self, trial: Trial, *plays: Play) -> Books:
        trial.mistral.play = _well(stream=self.stream)
        if self.primed:
            assert (await trial.ask(asking("before"), NEVER)).status == 200
            trial.llama.calls.clear()
        if plays:
            trial.llama.play = turns(*plays)
        else:
            trial.llama.raw.down()
        if trial.proxy.house.cache is not None:
            trial.proxy.house.cache.purge()
        return await trial.books()

    def _told(self, before: Books, after: Books) -> None:
        """Circuit and metrics, where the call was alone."""
        self._marked(before, after)
        changed = moved(before, after)
        assert changed['llm_requests_total{model="llama"}'] == 1
        assert changed.get('llm_request_failures_total{model="llama"}', 0) == (self.breaker == "F")
        kinds = {kind: changed.get(f'guardproxy_attempts_total{{kind="{kind}",model="llama"}}', 0) for kind in _ALL}
        assert kinds == {kind: int(kind == KINDS[self.breaker]) for kind in _ALL}
        assert sum(more for name, more in changed.items() if name.startswith("guardproxy_requests_total")) == 1
        code = self.sees.code
        if code is not None and self.ours:
            assert changed[f'guardproxy_errors_total{{code="{code}"}}'] == 1

    def _marked(self, before: Books, after: Books) -> None:
        (bad, marks), (old_bad, old_marks) = after.windows["llama"], before.windows["llama"]
        assert (bad - old_bad, marks - old_marks) == MARKS[self.breaker]


_ALL = ("success", "failure", "slow", "throttled", "ignored")


def _well(*, stream: bool) -> Play:
    return says(events(*WELL_EVENTS), then="keep") if stream else well


def one_each(made: Sequence[Case]) -> list[Case]:
    """Of every row the first case, streamed and not: what is done after a fault does not depend on its bytes."""
    return list({(case.row, case.stream, case.breaker, case.again): case for case in reversed(made)}.values())[::-1]


def cases(*made: Case) -> pytest.MarkDecorator:
    """Parametrize a test with *made*, each marked with its row."""
    return pytest.mark.parametrize(
        "case", [pytest.param(case, marks=pytest.mark.row(case.row), id=str(case)) for case in made]
    )

"""The story of one call, told without doing any of it.

A story is a generator: it yields what is to be done next (`Ask`, `Join`, …) and is sent what came of it.  It does
no I/O and reads no clock, so that a test can tell it any story at all; `net.perform` is the only place that ever
waits.  Read from `story` downwards.

    admitted ─► asked already? ─► join ─► what came of it is good enough ─► reply
           │                        └► it is not, for the first time ─► back to the question
           ▼
    another proxy knows it? ─► reply
           ▼
    somebody permits? ─► ask ─► accepted ─────────────► reply ─► settled, told to all who have joined
           │      ▲        │ └► not accepted ─► wait, ask again with a note
           │      └ next ◄─┴─► failed, nothing sent, budget left
           └► nobody left ─► stale, fallback, the last real error
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, final

from guardproxy.core.steps import Pause, Raced, Stand, Step, Weigh
from guardproxy.core.terms import OURS
from guardproxy.core.values import Answer, Fault, Kind, Relayed, Reply, Verdict, Wrong
from guardproxy.flow import again, refusals, replies, verdicts
from guardproxy.flow.aim import more_room
from guardproxy.flow.places import Places
from guardproxy.flow.rival import Rival, rival
from guardproxy.flow.settle import settle
from guardproxy.flow.share import shared
from guardproxy.flow.terms import remaining
from guardproxy.flow.unread import excused, refuses

if TYPE_CHECKING:
    from guardproxy.core.guard import Watcher
    from guardproxy.core.values import Call, Outcome, Record, Target
    from guardproxy.flow.rules import Rules

_ANSWERED = (Kind.SUCCESS, Kind.SLOW)
T = TypeVar("T")
Story: TypeAlias = Generator[Step, Any, T]


def story(call: Call, rules: Rules, record: Record, now: float) -> Story[Reply]:
    """Ask until an answer is accepted or nobody is left to ask, then settle."""
    record.call = call
    reply: Reply | None = None
    try:
        if call.flight or record.wanted:
            now, reply = yield from shared(call, rules, record, now)
        if reply is None:
            pursuit = _Pursuit(call, rules, record, now)
            reply = yield from (pursuit.guarded() if call.dialect is not None else pursuit.relayed())
            rules.settle(call, reply, record, pursuit.now)
        record.reply = reply
        return reply
    finally:
        if (flight := record.flight) is not None:
            record.flight = None  # they hold each other
            flight.end(reply)


@final
class _Pursuit:
    """What one call has come to so far."""

    __slots__ = (
        "asked", "call", "escalated", "last", "late", "now", "places", "record", "retries", "rules", "trial",
        "turned", "under_way", "unwatched", "waited", "wrong",
    )  # fmt: skip

    def __init__(self, call: Call, rules: Rules, record: Record, now: float) -> None:
        self.asked = call
        """As it was admitted: without what was added to the conversation since."""
        self.call = call
        self.rules = rules
        self.record = record
        self.now = now
        self.places = Places(call.targets)
        self.last: Answer | Fault | None = None
        self.retries = 0
        self.trial = inf
        """How long the last attempt may take as an experiment, half of what is left at most: then others are asked."""
        self.late = False
        """Whether the attempt under way has brought nothing in time."""
        self.escalated = False
        self.turned = False
        """Whether the last one asked was to stream though the caller does not want events."""
        self.unwatched: tuple[str, ...] = ()
        """Who has refused that, and so is not read along any more."""
        self.wrong = 0
        """Which choice of the last answer that was ended early nothing could become of."""
        self.waited = 0.0
        """Seconds spent on waiting for those that refused only for a moment."""

    def relayed(self) -> Story[Reply]:
        """Ask once, guarded by nobody: a path whose meaning is not known here."""
        target = self.call.targets[0]
        self.record.target = target
        outcome = yield from self._ask(target, None)
        return replies.final(self.call, outcome, self.record)

    def guarded(self) -> Story[Reply]:
        """Ask around until something can be answered."""
        record = self.record
        while True:
            chosen = self._choose() or (yield from self._stood())
            if chosen is None:
                if (yield from self._waited()):
                    continue
                break
            record.retries = self.retries
            outcome = yield from self._ask(*chosen)
            target = record.target or chosen[0]  # where two were asked, the one that was heard
            if type(outcome) is Relayed:
                reply = replies.sent(outcome, self.record)
                if (left := verdicts.left(self.call, reply, self.now)) is not None:
                    verdicts.note((yield from self._judged(left)), reply, record)
                return reply
            if type(outcome) is Answer and outcome.kind in _ANSWERED:
                verdict = yield from self._judged(outcome)
                if verdict is None or verdict.note is None:
                    return self._accept(outcome, verdict)
                verdicts.rejected(self.call, outcome, verdict, record, self.now)
                if not (yield from self._ask_again(outcome, verdict, target)) and not self._escalated(target):
                    return self._rescued() or refusals.gave_up(self.call, verdict, self.now)
                continue
            if again.is_last(outcome):
                if self.turned and refuses(outcome):
                    self.unwatched += (target.upstream,)  # it was us who wanted a stream: ask as the caller did
                    continue
                helped = type(outcome) is Fault and not outcome.committed and outcome.status >= 500
                return (self._rescued() if helped else None) or replies.final(self.call, outcome, self.record)
            self.last = outcome
            if not (yield from self._another_try(outcome, target)):
                break
        return self._rescued() or (
            refusals.nobody_left(self.call, self.places.until, self.now, busy=self.places.busy)
            if self.last is None
            else replies.final(self.call, self.last, self.record)
        )

    def _choose(self) -> tuple[Target, list[Any]] | None:
        why = self.last.label if self.last is not None else "invalid_model_output" if self.escalated else ""
        return self.places.choose(self.rules, self.call.skip, self.record, why, self.now)

    def _stood(self) -> Story[tuple[Target, list[Any]] | None]:
        """Stand in line for the most wanted place that has one."""
        if self.places.line is None:
            return None
        line, target = self.places.line
        if (ticket := line.join(self.now, batch=self.call.terms.batch)) is None:
            return None
        try:
            self.now = yield Stand(ticket, min(line.patience, self.call.deadline - self.now))
            return self.rules.redeem(target, ticket, self.now, self.call.skip)
        finally:
            ticket.leave()
            self.rules.forgo(target, ticket, self.now)

    def _waited(self) -> Story[bool]:
        """Wait for the first of those that refused only for a moment, if it is worth it."""
        wait = again.before_busy(self.rules, self.call, self.places.soon, self.waited, self.now)
        if wait is None:
            return False
        self.waited += wait
        yield from self._pause(wait)
        return True

    def _pause(self, wait: float) -> Story[None]:
        if wait:
            self.record.note(self.now, "waits", f"{wait:.3f} s")
            self.now = yield Pause(wait)

    def _ask(self, target: Target, tokens: list[Any] | None) -> Story[Outcome]:
        """Ask once. Every permit is given back exactly once, even if the caller goes away meanwhile."""
        record, started = self.record, self.now
        record.target = target
        if tokens is not None and not record.attempts:
            self.rules.budgets[target.upstream].earn(started)
        record.asking = True
        outcome: Outcome | None = None
        second: Rival | None = None
        try:
            call = self.call
            reads = call.whole and target.upstream not in self.unwatched
            watch = self.rules.watch(call, target, started) if reads else None
            ask = self.rules.aim(call, target, watch)
            self.turned = ask.streams and not call.stream
            self.trial = inf if len(self.places.left) < 2 else self.rules.trial(tokens)
            ask.within = started + min(self.trial, (call.deadline - started) / 2) if self.trial < inf else inf
            if call.terms.told or (call.terms is not OURS and record.attempts):
                ask.headers = remaining(ask.headers, call.deadline - started, stream=call.stream)
            record.json = "unchecked" if ask.relay and call.schema is not None else ""  # it may have left when it is
            if ask.streams and tokens is not None:
                self.under_way, self.late = (target, tokens), False
                ask.patience, ask.late = self.rules.patience.get(target.upstream, 0.0), self._late
                if self.rules.hedge is not None and ask.relay:
                    second = rival(self.rules, call, self.places, target, ask)
            came = yield ask
            if type(came) is Raced and second is not None:
                target, tokens, started = second.raced(came, record, tokens, started)
                self.late, came = self.late and not came.second, came.outcome
            outcome = self._examined(came, target, watch) if type(came) is Answer else came
            if self.late and outcome.kind is Kind.SUCCESS:
                outcome.kind = Kind.SLOW
            return outcome
        finally:
            record.asking, record.beside = False, 0
            self.now = started if outcome is None else outcome.at
            settle(self.rules, record, target, tokens, outcome, started, self.now)
            if second is not None:
                second.forgo(record)

    def _late(self, now: float) -> None:
        """The attempt under way has brought nothing in time; it goes on."""
        self.late = True
        self.record.note(now, "late", self.under_way[0].upstream)
        self.rules.late(*self.under_way, now)

    def _examined(self, answer: Answer, target: Target, watch: Watcher | None) -> Answer | Fault:
        call = self.call
        if call.dialect is None:
            return answer
        if answer.hopeless:  # ended by us: the model was well, what it said was not
            self.record.aborted += 1
            self.wrong = 0 if watch is None else watch.at
            return replace(answer, kind=Kind.SUCCESS, doc=verdicts.so_far(call.dialect, answer))
        examined = call.dialect.examine(verdicts.asked_there(call, target), answer)
        return excused(examined) if self.turned else examined

    def _judged(self, answer: Answer) -> Story[Verdict | None]:
        """What the guards think of *answer*; what is too much work for them here is weighed elsewhere."""
        if answer.hopeless:
            return verdicts.hopeless(answer, self.wrong)
        if self.unwatched:
            self.rules.unread.learn(self.record.attempts[-1].upstream, self.unwatched, self.now)
        target = self.record.target or self.call.targets[0]
        verdict = self.rules.judge(verdicts.asked_there(self.call, target), answer)
        if type(verdict) is Weigh:
            self.now = yield verdict
            return verdict.then(verdict.answer)
        return verdict

    def _accept(self, answer: Answer, verdict: Verdict | None) -> Reply:
        if verdict is None:
            return replies.accepted(self.call, answer, self.record)
        again = self.record.asks_again or self.escalated
        self.record.json = "retried" if again and verdict.label == "valid" else verdict.label
        if verdict.flawed:
            self.record.parse_failures.append(self.record.attempts[-1].upstream)
        return replies.judged(self.call, answer, verdict, self.record)

    def _ask_again(self, answer: Answer, verdict: Verdict, target: Target) -> Story[bool]:
        """Put what is wrong into the conversation and wait; False once that has been done often enough."""
        retry, record, dialect = self.rules.retry, self.record, self.call.dialect
        if record.asks_again >= retry.asks_again or dialect is None:
            return False
        longer = more_room(self.call, target, retry.longest) if verdict.cut else None
        # where nothing is wrong with it but its end there is no need to wait, or to say so
        wait = 0.0 if longer else retry.again_base * 2.0**record.asks_again + self.rules.dice() * retry.again_jitter
        if self.now + wait >= self.call.deadline:
            return False
        if longer is None:
            wrong = verdict.wrong or Wrong(verdict.note or "")
            longer = replace(dialect.again(self.call, answer, wrong), asked_again=self.call.asked_again + 1)
        self.call = longer
        yield from self._pause(wait)
        record.asks_again += 1
        return True

    def _escalated(self, target: Target) -> bool:
        """Whether another place may be asked once, now that this one has been asked often enough."""
        if not self.rules.retry.escalate or self.escalated or self.now >= self.call.deadline:
            return False
        self.escalated = True
        return self.places.drop(target) or self.places.move(self.call.spare)

    def _another_try(self, outcome: Answer | Fault, target: Target) -> Story[bool]:
        """Whether there may be another attempt after *outcome*; waits where the same upstream is due again."""
        if type(outcome) is Fault and not outcome.again and not self.places.drop(target):
            return False
        if self.trial < inf and self.now < self.call.deadline and self.places.drop(target):
            self.retries += 1  # it was our experiment: that it failed costs its caller nothing
            return True
        self.places.last(target)
        wait = again.before_another(
            self.rules, self.call, self.record, self.places.left, target, outcome, self.retries, self.now
        )
        if wait is None:
            return False
        self.retries += 1
        yield from self._pause(wait)
        return True

    def _rescued(self) -> Reply | None:
        return self.rules.rescue(self.asked, self.record, self.now)

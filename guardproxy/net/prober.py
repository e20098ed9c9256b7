"""Asking each model whether it is well.

Here belongs the making of test inferences: when, one at a time, and what came of it.  The verdict is the health
guard's; whether an open circuit may be probed is the breaker's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, final

import orjson

from guardproxy.core.steps import Ask
from guardproxy.core.values import Answer, Call, Fault, Kind, Record, Refusal, Target
from guardproxy.guards.health import PROVEN, UNASKED, Check
from guardproxy.openai.usage import tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from guardproxy.core.dialect import Dialect
    from guardproxy.core.values import News
    from guardproxy.flow.rules import Rules
    from guardproxy.guards.breaker import Breaker, Permit
    from guardproxy.guards.health import Health
    from guardproxy.net.perform import Performer

FRESH = 1.0
"""Seconds that the result of a check serves whoever else asks."""
EAGER = 0.5
"""Seconds between two checks while a circuit waits for probes."""
WORDS = 16
"""Tokens of a test answer: some engines refuse fewer."""
SPREAD = 0.1
"""Share of the interval that is left to chance, so that a fleet does not ask all at once."""


@final
class Prober:
    """Makes the test inferences of all upstreams."""

    def __init__(
        self,
        health: Health,
        breaker: Breaker | None,
        rules: Rules,
        performer: Performer,
        dialect: Dialect,
        told: Callable[[str, Check, list[News]], None],
        answered: Callable[[str], int],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """*answered* counts the attempts of calls that an upstream has answered; it is looked at twice a second."""
        self._health = health
        self._breaker = breaker
        self._rules = rules
        self._performer = performer
        self._dialect = dialect
        self._told = told
        self._answered = answered
        self._loop = loop
        self._running: dict[str, asyncio.Task[Check]] = {}
        self._rounds: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Check every model at once, and then as often as the settings say."""
        self._rounds = [
            self._loop.create_task(self._round(name), name=f"health {name}") for name in self._health.pulses
        ]

    async def stop(self) -> None:
        """Make no more checks; those under way are cancelled."""
        tasks: list[asyncio.Task[None] | asyncio.Task[Check]] = [*self._rounds, *self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._rounds.clear()  # each holds how it was cancelled, and so this object: a circle

    async def check(self, upstream: str) -> Check:
        """Check one model now; whoever asks while a check runs, or within a second after it, gets its result."""
        last = self._health.pulses[upstream].last
        if last is not None and (self._holds(upstream, last) or not self._affords(upstream)):
            return last
        task = self._running.get(upstream)
        if task is None:
            task = self._running[upstream] = self._loop.create_task(self._check(upstream), name=f"check {upstream}")
            task.add_done_callback(lambda _: self._running.pop(upstream, None))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            asker = asyncio.current_task()
            mine = not task.cancelled() or (asker is not None and asker.cancelling() > 0)
            del task, asker  # they hold how they end, and so this frame: a circle
            if mine:
                raise
            # `stop` has ended the check, not the one who waits for it: he is told what is known
            detail = "the check was ended: the configuration has changed, or the proxy is shutting down"
            return last or Check(self._loop.time(), ok=False, seconds=0.0, reason="unfinished", detail=detail)

    def _holds(self, upstream: str, last: Check) -> bool:
        """Whether *last* still says how it is; what an open circuit made of it holds as long as that is open."""
        now = self._loop.time()
        if now - last.at >= FRESH or self._waits(upstream):
            return False
        closed_off = self._breaker is not None and not self._breaker.available(upstream, now)
        return (last.reason == UNASKED) is closed_off and last.detail != PROVEN

    def _affords(self, upstream: str) -> bool:
        """Whether a check may cost something today; a circuit that waits for its probe is never let down."""
        return self._waits(upstream) or self._health.pulses[upstream].affords(self._loop.time())

    def _waits(self, upstream: str) -> bool:
        """Whether a circuit waits for a probe."""
        return self._breaker is not None and self._breaker.waits(upstream, self._loop.time())

    async def _round(self, upstream: str) -> None:
        settings, clock = self._health.settings, self._loop.time
        spread = 1.0 - SPREAD / 2 + SPREAD * self._rules.dice()
        count, proof = self._answered(upstream), float("-inf")
        await self.check(upstream)
        while True:
            due = clock() + settings.interval * spread
            while (left := due - clock()) > 0 and not self._waits(upstream):
                await asyncio.sleep(min(left, EAGER))
                if (now_answered := self._answered(upstream)) != count:
                    count, proof = now_answered, clock()
            if clock() - proof < settings.fresh_for and not self._waits(upstream):
                self._prove(upstream)
            else:
                await self.check(upstream)

    def _prove(self, upstream: str) -> None:
        """A call was answered just now: a test inference would tell nothing new."""
        check = self._health.pulses[upstream].proven(self._loop.time())
        if (verdict := self._health.take(upstream, check)) is not None:
            self._told(upstream, check, self._rules.spread([verdict], check.at))

    async def _check(self, upstream: str) -> Check:
        breaker, started = self._breaker, self._loop.time()
        permit: Permit | None = None
        if breaker is not None:
            asked = breaker.ask(upstream, started, check=True)
            if isinstance(asked, Refusal):
                check = Check(started, ok=False, seconds=0.0, reason=UNASKED)
                return self._note(upstream, check, [])
            permit = asked
        kind: Kind | None = None
        news: list[News] = []
        try:
            check, kind = await self._infer(upstream, started)
        finally:
            if breaker is not None and permit is not None and permit.expires:  # only a probe's outcome counts
                told = breaker.tell(upstream, permit, kind, self._loop.time(), "health check")
                news = self._rules.spread(told, self._loop.time())
        return self._note(upstream, check, news)

    def _note(self, upstream: str, check: Check, news: list[News]) -> Check:
        if (verdict := self._health.take(upstream, check)) is not None:
            news = [*news, *self._rules.spread([verdict], check.at)]
        self._told(upstream, check, news)
        return check

    async def _infer(self, upstream: str, started: float) -> tuple[Check, Kind]:
        """Ask for a few words and read them."""
        settings, loop = self._health.settings, self._loop
        call = self._question(upstream, started)
        ask: Ask = self._rules.aim(call, call.targets[0])
        try:
            async with asyncio.timeout(settings.timeout):
                outcome = await self._performer.ask(ask, Record(started))
        except TimeoutError:
            now = loop.time()
            detail = f"no answer within {settings.timeout:g} s"
            return Check(now, ok=False, seconds=now - started, reason="timeout", detail=detail), Kind.FAILURE
        if isinstance(outcome, Answer):
            outcome = self._dialect.examine(call, outcome)
        seconds = outcome.at - started
        if isinstance(outcome, Fault):
            reason = (
                "timeout"
                if outcome.code == "upstream_timeout"
                else ("invalid_response" if outcome.code == "upstream_protocol" else outcome.message)
            )
            return Check(outcome.at, ok=False, seconds=seconds, reason=reason, detail=outcome.message), outcome.kind
        if outcome.kind is Kind.THROTTLED:  # it says that it is busy: that is what the well do
            return Check(outcome.at, ok=True, seconds=seconds, detail="throttled"), outcome.kind
        if outcome.kind is Kind.WARMING:
            return Check(
                outcome.at, ok=False, seconds=seconds, reason="loading", detail=str(outcome.label)
            ), outcome.kind
        if outcome.kind is not Kind.SUCCESS or not isinstance(outcome, Answer):
            return Check(outcome.at, ok=False, seconds=seconds, reason=f"status {outcome.status}"), outcome.kind
        if not any(self._dialect.texts(outcome.doc)):
            detail = "the answer has no text"
            return Check(outcome.at, ok=False, seconds=seconds, reason="invalid_response", detail=detail), Kind.FAILURE
        spent = sum(tokens(self._dialect.usage(outcome.doc))) or WORDS + len(settings.prompt) // 4
        return Check(outcome.at, ok=True, seconds=seconds, tokens=spent), Kind.SUCCESS

    def _question(self, upstream: str, started: float) -> Call:
        model = self._rules.models.get(upstream) or upstream
        doc = {
            "model": model,
            "messages": [{"role": "user", "content": self._health.settings.prompt}],
            "max_tokens": WORDS,
            "temperature": 0,
            **self._health.settings.params,
        }
        headers = [(b"Content-Type", b"application/json"), (b"User-Agent", b"guardproxy-health")]
        return Call(
            id=f"health-{upstream}-{int(started * 1000)}",
            method="POST",
            path=self._dialect.paths[0],
            query="",
            headers=headers,
            body=orjson.dumps(doc),
            doc=doc,
            dialect=self._dialect,
            model=model,
            upstream=upstream,
            targets=(Target(upstream, model),),
            deadline=started + self._health.settings.timeout + 1.0,
        )

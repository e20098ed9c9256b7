"""`python -m bench.machines`: what the machines of an attempt cost, each alone, in µs of CPU.

Here belongs the timing of a permit and the outcome that follows it.  The figures stand in docs/breaker.md.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from guardproxy.core.circuit import Circuit, Permit
from guardproxy.core.values import Answer, Kind, Target
from guardproxy.flow.aim import Aim
from guardproxy.flow.rules import Rules
from guardproxy.guards.breaker import Breaker
from guardproxy.guards.breaker import Settings as Circuits
from guardproxy.guards.health import Health
from guardproxy.guards.health import Settings as Pulses
from guardproxy.guards.throttle import Settings as Gates
from guardproxy.guards.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

TIMES, ROUNDS = 20_000, 15
NAMES = ("qwen", "mistral", "llama")


def best(once: Callable[[float], Any]) -> float:
    """The least of several rounds: what is left when nothing else disturbs."""
    found = float("inf")
    for turn in range(ROUNDS):
        now, step = 1000.0 + turn * 60, 0.001
        begun = time.process_time()
        for _ in range(TIMES):
            once(now)
            now += step
        found = min(found, (time.process_time() - begun) / TIMES * 1e6)
    return found


def circuit() -> Callable[[float], Any]:
    """The machine itself: closed, and all is well."""
    one = Circuit(Circuits())

    def once(now: float) -> None:
        permit = one.permit(now)
        assert type(permit) is Permit
        one.observe(permit, Kind.SUCCESS, now)

    return once


def gates(*guards: Any) -> Callable[[float], Any]:
    """The way of one attempt through all of *guards*, as the story goes it."""
    rules = Rules(guards, aim=Aim({}), dice=lambda: 0.5, budgets={})
    target, outcome = Target("llama"), Answer(0.0, 200, [], b"")

    def once(now: float) -> None:
        tokens = rules.permit(target, now)
        assert type(tokens) is list
        rules.observe(target, tokens, outcome, now)

    return once


def main() -> int:
    """Time and print."""
    breaker, health = Breaker(Circuits(), NAMES), Health(Pulses(), NAMES)
    throttle = Throttle(Gates(), NAMES, lambda: 0.5)
    nothing = best(lambda _now: None)
    for name, once in (
        ("the circuit alone", circuit()),
        ("breaker", gates(breaker)),
        ("breaker and throttle", gates(throttle, breaker)),
        ("breaker, throttle and health", gates(health, throttle, breaker)),
    ):
        print(f"| {name} | {best(once) - nothing:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())

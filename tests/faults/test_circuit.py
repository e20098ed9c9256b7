"""Circuits, throttles, places to go and health: rows 28, 29, 35, 54 to 56 and 78 to 80."""

from __future__ import annotations

import asyncio
import json

import pytest

from guardproxy.core.values import Record
from guardproxy.guards.health import Check
from tests.faults.case import Case, Sees, cases
from tests.faults.trial import NEVER, PROBE, Trial, left, moved, says, well
from tests.faults.wire import asking, mistake, whole

SICK = whole(mistake(), status=b"500 No")
QUICK = {"circuit_breaker": {"minimum_requests": 1, "timeout": 60, "success_threshold": 1}}


async def open_llama(trial: Trial) -> None:
    """Have llama fail until its circuit is open; it is well afterwards, and nobody looks."""
    for task in trial.proxy.prober._rounds:
        task.cancel()
    await asyncio.gather(*trial.proxy.prober._rounds, return_exceptions=True)
    trial.llama.play = says(SICK, then="keep")
    await trial.ask(asking("opens it"), NEVER)
    circuit = trial.circuit
    assert circuit.state.value == "open"
    trial.llama.play = well
    trial.llama.calls.clear()
    trial._tasks.subtract(["Prober._round"] * 3)


@pytest.mark.row(54)
async def test_an_open_circuit():
    """Nobody is asked, and the app is told not to try again."""
    async with Trial(QUICK) as trial:
        await open_llama(trial)
        async with trial.accounts(told={'guardproxy_errors_total{code="circuit_open"}': 1}):
            seen = await trial.ask(asking(), NEVER)
        assert (seen.status, seen.error["code"]) == (503, "circuit_open")
        assert seen.fields["x-should-retry"] == "false"
        assert 1 <= int(seen.fields["retry-after"]) <= 60


@pytest.mark.row(55)
@pytest.mark.parametrize("others", [NEVER, "X-Other: 1"])
async def test_fifty_when_a_circuit_is_due(others):
    """So many probes as are allowed and no more; the others are answered as if it were open, or elsewhere."""
    async with Trial(
        {"circuit_breaker": {"minimum_requests": 1, "half_open_requests": 3, "success_threshold": 9}}
    ) as trial:
        await open_llama(trial)
        circuit = trial.circuit
        circuit.until = 0.0
        go = asyncio.Event()

        async def play(peer):
            await go.wait()
            return await well(peer)

        trial.llama.play = play
        before = await trial.books()
        calls = [asyncio.ensure_future(trial.ask(asking(f"call {n}"), others)) for n in range(50)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        await trial.until(lambda: sum(call.done() for call in calls) == 47)
        assert len(trial.llama.calls) == 3
        go.set()
        seen = await asyncio.gather(*calls)
        ours = [one for one in seen if one.status == 200 and one.fields["x-guardproxy-upstream"] == "llama"]
        assert len(ours) == 3
        changed = moved(before, await trial.books())
        assert changed['llm_requests_total{model="llama"}'] == 3
        assert 'llm_request_failures_total{model="llama"}' not in changed
        assert changed['circuit_breaker_state{model="llama"}'] == 1  # from open to half-open, and no further
        assert circuit.state.value == "half_open"
        assert changed.get('guardproxy_errors_total{code="circuit_open"}', 0) == (47 if others == NEVER else 0)
        if others == NEVER:
            assert sorted(one.status for one in seen) == [200] * 3 + [503] * 47
        else:
            assert {one.status for one in seen} == {200}
            assert len(trial.mistral.calls) == 47


@pytest.mark.row(56)
async def test_a_probe_that_hangs():
    """Its lease runs out: the circuit opens again, for longer, and does not wait for it."""
    async with Trial({"circuit_breaker": {"minimum_requests": 1, "timeout": 30, "half_open_requests": 1}}) as trial:
        await open_llama(trial)
        circuit = trial.circuit
        first = circuit.until - asyncio.get_running_loop().time()
        circuit._lease, circuit.until = 0.2, 0.0
        trial.llama.play = says(then="stay")
        call = asyncio.ensure_future(trial.ask(asking(), NEVER))
        await trial.until(lambda: circuit.state.value == "half_open")
        await trial.until(lambda: circuit.state.value == "open")  # looked at once a second
        assert circuit.until - asyncio.get_running_loop().time() > first
        assert not call.done()
        async with trial.accounts(told={"guardproxy_callers_gone_total": 1}):
            call.cancel()
            await asyncio.wait([call])


@pytest.mark.row(78)
async def test_everybody_fails():
    """Each mode is tried once, then the last real error is told: no loop."""
    async with Trial({"retry": {"attempts": 2}}) as trial:
        for number, model in enumerate(trial.models.values()):
            model.play = says(whole(mistake(model.name), status=b"50%d No" % number), then="keep")
        async with trial.accounts("F", llama=1, mistral=1, qwen=1, told={'llm_requests_total{model="qwen"}': 1}):
            seen = await trial.ask(asking())
        assert (seen.status, seen.error["message"]) == (502, "qwen")
        assert seen.fields["x-guardproxy-mode"].startswith("fast; from=creative; reason=")
        assert seen.fields["x-guardproxy-attempts"] == "3"
        assert seen.fields["x-should-retry"] == "false"
        assert "x-guardproxy-json" not in seen.fields


async def checked(trial: Trial, play) -> Check:
    """What a check of llama says while its server answers as *play* says."""

    async def serve(peer):
        while asked := await peer.request():
            assert PROBE in asked
            if not await play(peer):
                return

    trial.llama.raw.script = serve
    trial.proxy.house.health.pulses["llama"].last = None
    return await trial.proxy.prober.check("llama")


@pytest.mark.row(79)
@pytest.mark.parametrize(
    "play, well_, until_ill",
    [
        (says(SICK), False, 2),
        (says(whole(b"{}")), False, 2),
        (says(whole(b"<html>", kind=b"text/html")), False, 2),
        (says(then="stay"), False, 2),
        (says(whole(mistake(), status=b"429 No")), True, 0),
    ],
    ids=["500", "wrong", "html", "slow", "429"],
)
async def test_a_check_that_fails(play, well_, until_ill):
    """A wrong or late answer fails the check, one failed check is no verdict yet, and being busy is not being ill."""
    async with Trial({"health": {"timeout": 0.5, "fall": 2}}) as trial:
        pulse = trial.proxy.house.health.pulses["llama"]
        before = await trial.books()
        for number in range(2):
            told = await checked(trial, play)
            assert told.ok is well_
            assert pulse.healthy is (well_ or number + 1 < until_ill)
        after = await trial.books()
        assert after.metrics['llm_health_check_failures_total{model="llama"}'] == (0 if well_ else 2)
        assert after.metrics['llm_requests_total{model="llama"}'] == before.metrics['llm_requests_total{model="llama"}']
        assert after.windows == before.windows
        told = await checked(trial, well)
        assert told.ok
        assert pulse.healthy is True


@pytest.mark.row(80)
async def test_checks_never_overlap():
    """However many ask there is one check at a time, and it ends with the proxy."""
    async with Trial({"health": {"timeout": 30}}) as trial:
        asked = []

        async def serve(peer):
            asked.append(await peer.request())
            await left(peer)

        trial.llama.raw.script = serve
        trial.proxy.house.health.pulses["llama"].last = None
        asks = [asyncio.ensure_future(trial.get("/health/llm?model=llama")) for _ in range(20)]
        await trial.until(lambda: asked)
        await asyncio.sleep(0.1)
        assert len(asked) == 1
        assert not any(ask.done() for ask in asks)
        await trial.proxy.prober.stop()
        seen = await asyncio.gather(*asks)
        assert [(one.status, json.loads(one.body)["reason"]) for one in seen] == [(503, "unfinished")] * 20
        assert len(asked) == 1
        assert not trial.llama.calls
        books = await trial.books()
        assert books.windows["llama"] == (0, 0)  # a check that was not finished says nothing
        assert books.metrics['llm_requests_total{model="llama"}'] == 0
        trial._tasks.subtract(["Prober._round"] * 3)


NO_TIME: dict[str, str | None] = {"retry-after": None}
TWO: dict[str, str | None] = {"retry-after": "2"}


def busy(row: int, what: str, fields: dict[str, str | None], *said: bytes, status: int = 429) -> Case:
    play = says(whole(mistake(), *said, status=b"%d Busy" % status))
    return Case(row, what, play, Sees(status, body=mistake(), fields=fields), "T", ours=False)


THROTTLES = [
    busy(28, "busy", TWO, b"Retry-After: 2", status=503),
    busy(29, "in seconds", TWO, b"Retry-After: 2"),
    busy(29, "in milliseconds", NO_TIME | {"retry-after-ms": "1500"}, b"retry-after-ms: 1500"),
    busy(29, "without a time", NO_TIME),
    busy(29, "below zero", NO_TIME, b"Retry-After: -5"),
    busy(29, "absurd", {"retry-after": "3600"}, b"Retry-After: 99999999"),
    busy(29, "a date that is none", NO_TIME, b"Retry-After: soon"),
    Case(35, "429 under 200", says(whole(mistake("busy", 429))), Sees(429, has=[b"busy"]), "T", ours=False),
]


@cases(*THROTTLES)
async def test_throttled(case):
    await case.alone()


@cases(*THROTTLES)
async def test_throttled_beside_one_that_is_not(case):
    await case.beside()


@pytest.mark.row(80)
async def test_a_check_is_ended_as_its_answer_comes():
    """Both in one turn of the loop: nothing breaks, and the connection is given back."""
    async with Trial() as trial:
        performer, prober, upstream = (
            trial.proxy.house.performer,
            trial.proxy.prober,
            trial.proxy.house.upstreams["llama"],
        )
        trial.llama.raw.script = left  # it never answers itself
        call = prober._question("llama", asyncio.get_running_loop().time())
        check = asyncio.ensure_future(performer.ask(prober._rules.aim(call, call.targets[0]), Record(0.0)))
        await trial.until(lambda: [one for one in upstream._pool.all if repr(one) == "<Connection waiting>"])
        (busy,) = (one for one in upstream._pool.all if repr(one) == "<Connection waiting>")
        check.cancel()
        busy.data_received(whole(b"{}"))
        with pytest.raises(asyncio.CancelledError):
            await check
        await trial.balanced()

"""The life of the process, its configuration and its clocks: rows 86 to 92, and what kills it."""

from __future__ import annotations

import asyncio
import json
import signal
import time

import pytest

from guardproxy.core.circuit import State
from tests.faults.program import Program, program
from tests.faults.test_app import App
from tests.faults.trial import NEVER, Trial, says, turns, well
from tests.faults.wire import (
    DONE,
    LAST,
    STREAM,
    WELL,
    WELL_EVENTS,
    asking,
    chunk,
    completion,
    events,
    mistake,
    piece,
    read,
    request,
    whole,
)  # fmt: skip

HANGS = says(then="stay")


def streaming(go: asyncio.Event, *rest: bytes):
    """A play that sends an event, and the rest once told to."""

    async def play(peer):
        await peer.send(STREAM + chunk(WELL_EVENTS[0]))
        await go.wait()
        await peer.send(*rest)
        return True

    return play


def told_once(run: Program, status: int, source: str) -> None:
    """One call was made and asked for once; its line says how it ended, and the last line that all has."""
    assert len(run.llama.calls) == 1
    lines = [line for line in run.log() if line["msg"] == "request" and line["level"] != "debug"]
    assert [(line["status"], line["source"]) for line in lines] == [(status, source)], lines
    assert run.log()[-1]["msg"] == "stopped"


@pytest.mark.row(86)
async def test_sigterm_while_streaming(tmp_path):
    """A stream that is under way is finished within the grace; the exit code is 0."""
    async with program(tmp_path, {"drain": {"seconds": 20, "idle_seconds": 0.1}}) as run:
        go = asyncio.Event()
        run.llama.play = streaming(go, chunk(*WELL_EVENTS[1:], DONE) + LAST)
        async with App(run) as app:
            app.say(request(asking(stream=True), NEVER))
            came = await app.hear(until=b"data: ")
            run.signal(signal.SIGTERM)
            await run.until(lambda: [line for line in run.log() if line["msg"] == "draining"])
            assert (await run.get("/readyz")).status == 503
            go.set()
            came += await app.hear()
        seen, _ = read(came)
        assert (seen.status, seen.cut) == (200, False)
        assert seen.body.endswith(DONE)
        assert await run.ended() == 0
        told_once(run, 200, "upstream")


@pytest.mark.row(86)
async def test_sigterm_and_the_grace_is_over(tmp_path):
    """What is not finished then ends visibly: an error event, no [DONE], no last chunk; the exit code is 0."""
    async with program(tmp_path, {"drain": {"seconds": 0.3, "idle_seconds": 0.1}}) as run:
        run.llama.play = says(STREAM + chunk(WELL_EVENTS[0]), then="stay")
        async with App(run) as app:
            app.say(request(asking(stream=True), NEVER))
            came = await app.hear(until=b"data: ")
            run.signal(signal.SIGTERM)
            came += await app.hear()
        seen, _ = read(came)
        assert seen.cut
        assert json.loads(seen.datas[-1])["error"]["code"] == "upstream_stream_interrupted"
        assert b"[DONE]" not in seen.body
        assert await run.ended() == 0
        told_once(run, 503, "own")


@pytest.mark.row(86)
async def test_two_signals(tmp_path):
    """Told twice it ends now, however long the grace."""
    async with program(tmp_path, {"drain": {"seconds": 300, "idle_seconds": 300}}) as run:
        run.llama.play = HANGS
        async with App(run) as app:
            app.say(request(asking(), NEVER))
            await run.until(lambda: run.llama.calls)
            run.signal(signal.SIGTERM)
            await run.until(lambda: [line for line in run.log() if line["msg"] == "draining"])
            run.signal(signal.SIGTERM)
            seen, _ = read(await app.hear())
        assert (seen.status, seen.error["code"]) == (503, "shutting_down")
        assert await run.ended() == 0
        told_once(run, 503, "own")


@pytest.mark.row(87)
@pytest.mark.parametrize("where", ["back-off", "re-ask", "waiting for another", "held stream"])
async def test_the_end_comes_while_a_call_waits(where):
    """Whatever a call waits for, it is answered 503 `shutting_down` at once when time is over; nothing is left."""
    changes = {
        "drain": {"seconds": 0.2, "idle_seconds": 0.05},
        "retry": {"attempts": 2},
        "json_guard": {"backoff_base": 9},
    }
    body = asking()
    if where in ("re-ask", "held stream"):
        body["response_format"] = {"type": "json_object"}
    count = 2 if where == "waiting for another" else 1
    async with Trial(changes) as trial:
        trial.llama.play = {
            "back-off": says(whole(mistake(), b"Retry-After: 9", status=b"429 No"), then="keep"),
            "re-ask": says(whole(completion("no json")), then="keep"),
            "waiting for another": HANGS,
            "held stream": says(STREAM + chunk(piece("{")), then="stay"),
        }[where]
        if where == "held stream":
            body["stream"] = True
        calls = [asyncio.ensure_future(trial.ask(body, NEVER)) for _ in range(count)]
        await trial.until(lambda: trial.llama.calls and trial.proxy.desk.in_flight == count)
        await asyncio.sleep(0.1)
        assert not any(call.done() for call in calls)
        started = time.monotonic()
        await trial.proxy.drain()
        await trial.proxy.app.close(0.0)
        for seen in await asyncio.gather(*calls):
            assert (seen.status, seen.error["code"]) == (503, "shutting_down")
        assert time.monotonic() - started < 5
        assert len(trial.llama.calls) == 1
        books = await trial.books()
        assert books.windows["llama"][0] == 0  # the end is no fault of the model's
        assert books.metrics['guardproxy_errors_total{code="shutting_down"}'] == count
        assert books.metrics['llm_request_failures_total{model="llama"}'] == 0


@pytest.mark.row(87)
@pytest.mark.parametrize("where", ["back-off", "re-ask", "re-ask of a stream"])
@pytest.mark.parametrize("late", [False, True])
async def test_who_only_lets_time_pass_is_told_at_once(where, late):
    """With time left to drain, too: what waits for another attempt does not make it, even if it comes *late*."""
    changes = {
        "drain": {"seconds": 60, "idle_seconds": 0.2},
        "retry": {"attempts": 2},
        "json_guard": {"backoff_base": 9},
    }
    body = asking() if where == "back-off" else asking(response_format={"type": "json_object"})
    if where == "re-ask of a stream":
        body["stream"] = True
    async with Trial(changes) as trial:
        throttled = whole(mistake(), b"Retry-After: 9", status=b"429 No")
        trial.llama.play = says(throttled if where == "back-off" else whole(completion("no json")), then="keep")
        draining = asyncio.Event()

        async def drain():
            await draining.wait()
            await trial.proxy.drain()

        drained = asyncio.ensure_future(drain())
        if late:
            draining.set()
            await trial.until(lambda: trial.proxy.desk.draining)
        started = time.monotonic()
        asked = asyncio.ensure_future(trial.ask(body, NEVER))
        if not late:
            await trial.until(lambda: trial.llama.calls and trial.proxy.desk.in_flight)
            await asyncio.sleep(0.1)
            assert not asked.done()
            draining.set()
        seen = await asked
        assert (seen.status, seen.error["code"]) == (503, "shutting_down")
        assert seen.fields["connection"] == "close"
        assert time.monotonic() - started < 5
        assert len(trial.llama.calls) == 1
        await drained
        books = await trial.books()
        assert books.windows["llama"] == (0, 0 if where == "back-off" else 1)
        assert books.metrics['guardproxy_errors_total{code="shutting_down"}'] == 1
        assert books.metrics['llm_request_failures_total{model="llama"}'] == 0


@pytest.mark.row(87)
async def test_what_is_under_way_is_answered():
    """Who waits for a model, or with others for its answer, gets it while there is time."""
    async with Trial({"drain": {"seconds": 60, "idle_seconds": 0.2}}) as trial:
        trial.llama.play = says(whole(WELL)[:20], whole(WELL)[20:], then="keep", pause=0.5)
        asked = [asyncio.ensure_future(trial.ask(asking(), NEVER)) for _ in range(2)]
        await trial.until(lambda: trial.llama.calls and trial.proxy.desk.in_flight == 2)
        await trial.proxy.drain()
        assert [(await one).status for one in asked] == [200, 200]
        assert len(trial.llama.calls) == 1
        books = await trial.books()
        assert books.windows["llama"] == (0, 1)
        assert books.metrics["cache_hits_total"] == 1  # the one who joined


STEPS = range(40)
NOTHING = {"type": "json_object"}
FILES = b"POST /llama/v1/files HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"
KINDS: dict[str, tuple[bytes, list[bytes], bool]] = {
    "whole": (request(asking(), NEVER), [whole(WELL)], False),
    "stream": (request(asking(stream=True), NEVER), [events(*WELL_EVENTS)], True),
    "judged": (request(asking(response_format=NOTHING), NEVER), [whole(completion("{}"))], False),
    "held": (
        request(asking(stream=True, response_format=NOTHING), NEVER),
        [events(piece("{"), piece("}"), piece("", "stop"))],
        True,
    ),
    "asked again": (
        request(asking(response_format=NOTHING), NEVER),
        [whole(completion("no")), whole(completion("{}"))],
        False,
    ),
    "passed through": (FILES, [whole(b"kept")], False),
}
"""What is asked, what the model server says to it, and whether that may be cut."""


@pytest.mark.row(87)
@pytest.mark.parametrize("kind", KINDS)
async def test_the_end_comes_at_any_step(kind):
    """Stopped after any number of turns of the loop, a call is answered whole or visibly not, and nothing is left."""
    asked, answers, stream = KINDS[kind]
    changes = {
        "drain": {"seconds": 0, "idle_seconds": 0},
        "json_guard": {"backoff_base": 0.001, "jitter": 0, "stream_validation": "hold"},
    }
    ends, bodies = set(), set()
    for steps in STEPS:
        async with Trial(changes) as trial:
            trial.llama.play = turns(*(says(answer, then="keep") for answer in answers))
            async with App(trial) as app:
                app.say(asked)
                for _ in range(steps):
                    await asyncio.sleep(0.0005 if kind == "asked again" else 0)
                trial.proxy.app._front.stopping = True  # what `Server.close` does, without the time it leaves to others
                for caller in trial.proxy.app._at_work():
                    caller.interrupt()
                await trial.proxy.close()
                wire = await app.hear()
            if not wire:
                ends.add("nothing")  # the connection had not been taken yet, or its request not read
                continue
            assert not app.was_reset
            seen, _ = read(wire)
            if seen.status == 200 and not seen.cut:
                ends.add("whole")
                bodies.add(seen.body)
            elif seen.status == 200:
                ends.add("cut")
                assert stream
                assert b"[DONE]" not in seen.body
                assert json.loads(seen.datas[-1])["error"]["code"] == "upstream_stream_interrupted"
            else:
                ends.add("refused")
                assert (seen.status, seen.error["code"]) == (503, "shutting_down")
            assert all(up.open == 0 for up in trial.proxy.house.upstreams.values())
    assert {"whole", "refused"} <= ends, ends
    (body,) = bodies  # always the same
    assert body.endswith(DONE) is stream


@pytest.mark.row(88)
async def test_killed_under_load_and_started_again(tmp_path):
    """A process that is killed leaves nothing that its successor trips over: the same ports, a fresh start."""
    async with program(tmp_path) as run:
        listen, admin = run.app, run.admin
        for _ in range(4):
            stop = asyncio.Event()
            answered: list[bool] = []

            async def load(stop=stop, answered=answered):
                number = 0
                while not stop.is_set():
                    try:
                        wire = await run.send(request(asking(str(number)), NEVER))
                    except OSError:
                        continue
                    number += 1
                    if wire and b"\r\n\r\n" in wire:
                        seen, _ = read(wire)
                        assert seen.cut or seen.body == WELL
                        answered.append(seen.cut)

            callers = [asyncio.ensure_future(load()) for _ in range(8)]
            while len(answered) < 40:  # noqa: ASYNC110 -- it has no event
                await asyncio.sleep(0.02)
            run.signal(signal.SIGKILL)
            assert await run.ended() == -signal.SIGKILL
            stop.set()
            await asyncio.gather(*callers)
            await run.start("-o", f"listen={listen}", "-o", f"admin={admin}")
            assert (run.app, run.admin) == (listen, admin)
            assert (await run.ask(asking("0"), NEVER)).fields["cache-status"] == "guardproxy; fwd=miss; stored"
            assert await run.metric('llm_requests_total{model="llama"}') == 1
        assert await run.stop() == 0


BAD = {
    "bad YAML": "a: [",
    "an unknown key": "cache: {sise: 3}",
    "a bad type": "cache: {max_size: many}",
    "no mapping": "[]",
    "missing": None,
    "binary": "\x00\x01",
}


@pytest.mark.row(89)
async def test_configurations_that_are_none(tmp_path):
    """The old one stays in force, the metric says 0, the log says so once, the next good one is taken over."""
    async with program(tmp_path) as run:
        good = run.config.read_text()
        digest = json.loads((await run.get("/guard/state")).body)["config"]

        def said(message: str) -> int:
            return sum(line["msg"] == message for line in run.log())

        for number, text in enumerate(BAD.values(), 1):
            if text is None:
                run.config.unlink()
            else:
                run.config.write_text(text)
            run.signal(signal.SIGHUP)
            while said("reload refused") < number:  # noqa: ASYNC110 -- it has no event
                await asyncio.sleep(0.02)
            assert await run.metric("guardproxy_config_last_reload_successful") == 0
            assert json.loads((await run.get("/guard/state")).body)["config"] == digest
            assert (await run.ask(asking(str(number)), NEVER)).status == 200
        assert said("reload refused") == len(BAD)
        run.config.write_text(good)
        run.signal(signal.SIGHUP)
        await run.until(lambda: said("reloaded"))
        assert await run.metric("guardproxy_config_last_reload_successful") == 1


@pytest.mark.row(90)
async def test_a_config_map_changes(tmp_path):
    """A rename of ``..data`` is noticed; of two within ten milliseconds one consistent version is in force."""
    async with program(tmp_path, start=False) as run:
        mount = tmp_path / "mount"
        mount.mkdir()
        text = run.config.read_text()

        def version(number: int) -> None:
            """As kubelet does: a new folder, a new link, renamed over the old one."""
            folder = mount / f"..v{number}"
            folder.mkdir()
            doc = json.loads(text)
            doc["cache"] = {"max_size": number, "ttl_seconds": number}
            (folder / "guardproxy.yaml").write_text(json.dumps(doc))
            (mount / "..next").symlink_to(folder.name)
            (mount / "..next").rename(mount / "..data")

        version(1)
        (mount / "guardproxy.yaml").symlink_to("..data/guardproxy.yaml")
        run.config = mount / "guardproxy.yaml"
        await run.start()
        version(2)
        await asyncio.sleep(0.01)
        version(3)

        async def told() -> tuple:
            cache = json.loads((await run.get("/guard/state")).body)["cache"]
            return cache["max_size"], cache["ttl_seconds"]

        deadline = time.monotonic() + 20
        while (now := await told()) != (3, 3):
            assert now in ((1, 1), (2, 2))
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert await run.metric("guardproxy_config_last_reload_successful") == 1
        run.config.resolve().write_text("[")  # a file that is changed in place, as subPath never is
        await asyncio.sleep(1.5)
        assert await told() == (3, 3)


@pytest.mark.row(91)
async def test_an_upstream_that_is_removed():
    """Calls on it end as they began; circuits and answers of the others are kept."""
    async with Trial() as trial:
        mistral = asking("kept", model="mistral")
        assert (await trial.ask(mistral, NEVER)).status == 200
        go = asyncio.Event()
        trial.llama.play = streaming(go, chunk(*WELL_EVENTS[1:], DONE) + LAST)
        call = asyncio.ensure_future(trial.ask(asking(stream=True), NEVER))
        await trial.until(lambda: trial.llama.calls)
        circuit = trial.circuits["mistral"]
        left = {name: {"url": m.url, "model": name} for name, m in trial.models.items() if name != "llama"}
        trial.load_upstreams(left, modes={"balanced": {"upstream": "mistral"}, "fast": {"upstream": "qwen"}})
        assert await trial.proxy.reload() == []
        assert list(trial.proxy.house.upstreams) == ["mistral", "qwen"]
        assert trial.circuits["mistral"] is circuit
        assert (await trial.ask(mistral, NEVER)).fields["cache-status"].startswith("guardproxy; hit")
        gone = await trial.ask(asking(), NEVER)
        assert (gone.status, gone.error["code"]) == (404, "model_not_found")
        go.set()
        seen = await call
        assert (seen.status, seen.cut) == (200, False)
        assert seen.body.endswith(DONE)
        assert (len(trial.llama.calls), len(trial.mistral.calls), len(trial.qwen.calls)) == (1, 1, 0)
        metrics = (await trial.books()).metrics
        assert metrics['llm_requests_total{model="llama"}'] == 1  # counts go on for one that has gone
        assert metrics['guardproxy_errors_total{code="model_not_found"}'] == 1
        await trial.until(lambda: all(peer.reader.at_eof() or not peer.number for peer in trial.llama.raw.peers[1:]))


@pytest.mark.row(92)
@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
async def test_the_wall_clock_jumps(monkeypatch, jump):
    """Ages, circuits and timers go by a clock that nobody sets."""
    real, offset = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])
    async with Trial({"circuit_breaker": {"minimum_requests": 1, "timeout": 60}}) as trial:
        assert (await trial.ask(asking("kept"), NEVER)).status == 200
        trial.llama.play = turns(says(whole(mistake(), status=b"500 No"), then="keep"), well)
        await trial.ask(asking("opens"), NEVER)
        assert trial.circuit.state is State.OPEN
        offset[0] = jump
        hit = await trial.ask(asking("kept"), NEVER)
        assert hit.fields["cache-status"].startswith("guardproxy; hit; ttl=")
        assert int(hit.fields["age"]) < 60
        seen = await trial.ask(asking("refused"), NEVER)
        assert (seen.status, seen.error["code"]) == (503, "circuit_open")
        assert int(seen.fields["retry-after"]) <= 60
        assert len(trial.llama.calls) == 2
        assert trial.circuit.state is State.OPEN
        metrics = (await trial.books()).metrics
        assert metrics["cache_hits_total"] == 1
        assert metrics["cache_ttl_expirations_total"] == 0
        assert metrics['llm_request_failures_total{model="llama"}'] == 1
        assert metrics['guardproxy_errors_total{code="circuit_open"}'] == 1

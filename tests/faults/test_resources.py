"""What the machine runs out of, and what is written down: rows 93 to 97."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.faults import jail
from tests.faults.program import program
from tests.faults.resting import resting, room
from tests.faults.test_app import App
from tests.faults.trial import NEVER, Trial, says
from tests.faults.wire import CHAT, WELL, asking, completion, mistake, read, request, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20


@pytest.mark.row(93)
async def test_no_more_files(tmp_path):
    """Out of files nobody new is let in, the accept loop does not spin, and all is well once there are some again."""
    async with program(tmp_path, files=60) as run:
        assert (await run.ask(asking("before"), NEVER)).status == 200
        apps = [App(run) for _ in range(80)]
        for app in apps:
            await app.__aenter__()
        await asyncio.sleep(0.3)
        before, at = run.cpu(), time.monotonic()
        await asyncio.sleep(2.0)
        assert run.cpu() - before < 0.5 * (time.monotonic() - at)
        for app in apps:
            await app.__aexit__()
        await run.until(lambda: run.files() < 40)
        assert (await run.ask(asking("after"), NEVER)).status == 200
        assert len(run.llama.calls) == 2
        assert await run.metric('llm_requests_total{model="llama"}') == 2
        assert await run.metric('llm_request_failures_total{model="llama"}') == 0
        assert await run.metric('circuit_breaker_state{model="llama"}') == 0
        assert await run.stop() == 0


@pytest.mark.row(93)
async def test_no_file_for_the_upstream(tmp_path):
    """A call for which there is no socket left is told that it is too much, and no circuit hears of it."""
    async with program(tmp_path, files=60) as run:
        room = 60 - run.files()
        apps = [App(run) for _ in range(room - 1)]
        for app in apps:
            await app.__aenter__()
        await run.until(lambda: run.files() == 59)
        seen = await run.ask(asking("x"), NEVER)
        if seen.status != 200:  # a connection kept from the health check would do as well
            assert (seen.status, seen.error["code"]) == (503, "overloaded")
            assert seen.fields["retry-after"]
        for app in apps:
            await app.__aexit__()
        await run.until(lambda: run.files() < 40)
        assert (await run.ask(asking("y"), NEVER)).status == 200
        assert await run.metric('llm_request_failures_total{model="llama"}') == 0
        assert await run.stop() == 0


@pytest.mark.row(93)
async def test_no_space_for_the_log(tmp_path):
    """A full disk costs lines of the log and nothing else; what was lost is counted."""
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230, PTH123 -- a device
        async with program(tmp_path, start=False) as run:
            (port,) = await free_ports(1)
            await run.start("-o", f"listen=127.0.0.1:{port}", "-o", "log.format=json", stdout=full)
            run.app = run.admin = f"127.0.0.1:{port}"
            await serving(run)
            deadline = time.monotonic() + 20
            for number in range(20):
                assert (await run.ask(asking(str(number)), NEVER)).status == 200
            while await run.metric("guardproxy_log_lines_dropped_total") < 20:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            assert await run.stop() == 0


async def serving(run):
    """Wait until it serves, where its log does not say so."""

    async def up() -> bool:
        try:
            return bool((await run.get("/readyz")).status == 200)
        except OSError:
            return False

    deadline = time.monotonic() + 20
    while not await up():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def free_ports(count: int) -> list[int]:
    servers = [await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) for _ in range(count)]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


_WATCHED = """
import sys
wrote = open({path!r}, "a", buffering=1)
def hook(event, arguments):
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        wrote.write(repr(arguments[0]) + "\\n")
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.symlink", "os.truncate"):
        wrote.write(event + repr(arguments) + "\\n")
sys.addaudithook(hook)
sys.argv[0] = "guardproxy"
from guardproxy.cli.main import main
sys.exit(main())
"""


HEAVY = {
    "type": "json_schema",
    "json_schema": {
        "name": "x",
        "schema": {"anyOf": [{"type": "object", "properties": {"a": {"type": "array"}}}] * 200},
    },
}
"""An answer to it is judged in a process of its own."""


@pytest.mark.row(93)
async def test_a_root_that_is_read_only(tmp_path):
    """Where nothing at all can be written to, it starts, serves, judges, keeps, reloads and drains as anywhere else.

    Every mount is remounted read-only, for this process alone; where a machine allows no namespaces it is watched
    instead, as in the next test.
    """
    if not jail.way():
        await writes_nothing(tmp_path)
        return
    async with program(tmp_path, start=False) as run:
        await run.start(prelude=(*jail.inside(jail.READ_ONLY), sys.executable, "-m", "guardproxy"))
        await everything(run)
        mounts = read_bytes(f"/proc/{run.process.pid}/mountinfo").decode().splitlines()
        root = [fields for line in mounts if (fields := line.split())[4] == "/"][-1]
        assert "ro" in root[5].split(",")
        assert await run.stop() == 0


async def everything(run):
    """What a proxy does in its life."""
    assert (await run.ask(asking("x"), NEVER)).status == 200
    assert (await run.ask(asking("x"), NEVER)).fields["cache-status"].startswith("guardproxy; hit")
    run.llama.play = says(whole(completion('{"a": []}')), then="keep")
    for wanted in ({"type": "json_object"}, HEAVY):
        seen = await run.ask(asking("judged", response_format=wanted), NEVER)
        assert (seen.status, seen.fields["x-guardproxy-json"]) == (200, "valid")
    for path in ("/guard/state", "/guard/", "/metrics", "/health/llm"):
        assert (await run.get(path)).status == 200
    run.signal(signal.SIGHUP)
    await run.until(lambda: [line for line in run.log() if line["msg"] == "reloaded"])


@pytest.mark.row(93)
async def test_it_writes_no_file(tmp_path):
    """The program opens nothing to write to, so that it needs no place for it."""
    await writes_nothing(tmp_path)


@pytest.mark.row(93)
@pytest.mark.parametrize("mounted", [True, False])
async def test_a_disk_that_fills_up(tmp_path, mounted):
    """The log goes to a real disk without room: calls go on, what is lost is counted, and told when there is room."""
    (tmp_path / "disk").mkdir()
    async with program(tmp_path, start=False) as run:
        (port,) = await free_ports(1)
        words = ("-o", f"listen=127.0.0.1:{port}", "-o", "log.format=json")
        bound = jail.inside(jail.FULL) if jail.way() and mounted else ("sh", "-c", jail.SHORT, "sh")
        prelude = (*bound, sys.executable, "-m", "guardproxy")
        await run.start(*words, prelude=prelude, stdout=asyncio.subprocess.DEVNULL)
        run.app = run.admin = f"127.0.0.1:{port}"
        await serving(run)
        disk = f"/proc/{run.process.pid}/root{tmp_path}/disk/log"  # as it sees it
        number = 0
        while await run.metric("guardproxy_log_lines_dropped_total") < 20:
            number += 1
            assert (await run.ask(asking(f"{number} {'x' * 50}"), NEVER)).status == 200
            assert number < 2000
        assert size(disk) <= 16 << 10
        os.truncate(disk, 0)
        deadline = time.monotonic() + 20
        while b"log lines dropped" not in read_bytes(disk):
            assert (await run.ask(asking("there is room"), NEVER)).status == 200
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        assert await run.stop() == 0


def size(path: str) -> int:
    return Path(path).stat().st_size


def read_bytes(path: str) -> bytes:
    return Path(path).read_bytes()


async def writes_nothing(tmp_path):
    wrote = tmp_path / "wrote"
    prelude = (sys.executable, "-B", "-c", _WATCHED.format(path=str(wrote)))
    async with program(tmp_path, prelude=prelude) as run:
        await everything(run)
        assert await run.stop() == 0
    assert wrote.read_text() == ""


@pytest.mark.row(94)
async def test_memory_runs_short(tmp_path):
    """Near its limit the cache gives its bytes back, and calls go on; the process never takes more."""
    async with program(tmp_path, start=False) as run:
        run.write({"cache": {"max_bytes": "1GiB", "max_size": 100_000}})
        await run.start()
        begin = run.rss()
        await run.stop()
        limit = begin + 60 * MIB
        run.write({"cache": {"max_bytes": "1GiB", "max_size": 100_000}, "limits": {"memory": limit}})
        await run.start()
        run.llama.play = says(whole(completion("x" * MIB)), then="keep")
        statuses, most = [], 0
        for number in range(120):
            statuses.append((await run.ask(asking(str(number)), NEVER)).status)
            most = max(most, run.rss())
            if number % 40 == 39:
                await asyncio.sleep(1.1)  # it looks once a second
        assert set(statuses) <= {200, 503}
        assert statuses.count(200) > 80
        assert await run.metric("cache_evictions_total") > 0
        assert most < limit + 60 * MIB  # what comes within a second
        assert [line for line in run.log() if line["msg"] == "short of memory"]
        assert (await run.ask(asking("after"), NEVER)).status in (200, 503)
        assert await run.stop() == 0


@contextmanager
def group(limit: int) -> Iterator[Path | None]:
    """A control group that grants *limit* bytes; None where this machine makes none for us."""
    base, name = Path("/sys/fs/cgroup"), f"guardproxy-test-{os.getpid()}"
    for place, file in ((base / "memory" / name, "memory.limit_in_bytes"), (base / name, "memory.max")):
        try:
            place.mkdir()
        except OSError:
            continue
        try:
            (place / file).write_text(str(limit))
        except OSError:  # version 2 without its memory controller
            place.rmdir()
            continue
        try:
            yield place
        finally:
            place.rmdir()
        return
    yield None


@pytest.mark.row(94)
async def test_a_control_group_runs_short(tmp_path):
    """The kernel kills whoever takes more than his group grants: the cache shrinks before, and nobody is killed.

    Where the machine makes no groups for us the limit is told by `limits.memory` instead, and nobody kills.
    """
    changes = {"cache": {"max_bytes": "1GiB", "max_size": 100_000}}
    async with program(tmp_path, changes) as run:
        limit = run.rss() + 90 * MIB
        await run.stop()
    with group(limit) as place:
        join = ("/bin/sh", "-c", f'echo $$ > {place}/cgroup.procs; exec "$@"', "sh") if place else ()
        prelude = (*join, sys.executable, "-m", "guardproxy")
        changes = changes if place else {**changes, "limits": {"memory": limit}}
        async with program(tmp_path, changes, prelude=prelude) as run:
            run.llama.play = says(whole(completion("x" * MIB)), then="keep")
            statuses: list[int] = []
            while await run.metric("cache_evictions_total") == 0:
                statuses.append((await run.ask(asking(str(len(statuses))), NEVER)).status)
                assert len(statuses) < 200, "it takes what it likes"
                await asyncio.sleep(0.1)  # it looks once a second
            assert set(statuses) == {200}  # kept answers first, new calls last
            assert [line for line in run.log() if line["msg"] == "short of memory"]
            kept = await run.metric("guardproxy_cache_bytes")
            assert 5 * MIB < kept < 60 * MIB
            assert (await run.ask(asking("after"), NEVER)).status == 200
            assert await run.stop() == 0


IDLE = 16 * 1024
"""Bytes that a connection may take over which nothing is asked; 6,500 were measured."""


@pytest.mark.timeout(180)
async def test_thousands_of_connections_rest(tmp_path):
    """Each takes little, nobody else is kept waiting, and all are closed in the end."""
    with room(10_000) as count:
        changes = {"limits": {"connections": count + 100}}
        async with program(tmp_path, changes, files=count + 1000) as run:
            assert (await run.ask(asking("before"), NEVER)).status == 200
            before = run.rss()
            async with resting(run, count) as connections:
                assert (run.rss() - before) / count < IDLE
                assert await run.metric("guardproxy_client_connections") >= count
                assert (await run.ask(None, method="GET", path="/healthz", host="localhost")).status == 200
                assert (await run.ask(asking("among"), NEVER)).status == 200
                assert await run.stop() == 0
                assert not any(connection.recv(1) for connection in connections)


@pytest.mark.row(66)
@pytest.mark.parametrize("path", [CHAT, "/llama/v1/files"])
async def test_a_body_beyond_all_bounds(tmp_path, path):
    """A hundred megabytes that come in chunks are refused at the bound; the process never held more."""
    async with program(tmp_path, {"limits": {"request_bytes": MIB}}) as run:
        assert (await run.ask(asking("before"), NEVER)).status == 200
        before, part = run.peak(), b"%x\r\n%b\r\n" % (MIB, b"x" * MIB)
        for _ in range(3):
            head = request(None, NEVER, "Transfer-Encoding: chunked", path=path)
            seen = read(await run.send(head, *[part] * 100), more=True)[0]
            assert (seen.status, seen.error["code"]) == (413, "request_too_large")
        assert run.peak() - before < 16 * MIB
        assert await run.stop() == 0


@pytest.mark.row(95)
async def test_the_loop_is_held_up():
    """Liveness is answered as soon as the loop turns again, and the metric says how late it was."""
    async with Trial() as trial, trial.accounts("S", llama=1, kept=1):
        trial.llama.play = says(whole(WELL)[:20], whole(WELL)[20:], then="keep", pause=0.5)
        call = asyncio.ensure_future(trial.ask(asking(), NEVER))
        await trial.until(lambda: trial.llama.calls)
        ask = asyncio.ensure_future(trial.get("/healthz"))
        await asyncio.sleep(0)
        time.sleep(1.6)  # noqa: ASYNC251 -- that is the fault
        assert (await ask).status == 200
        assert (await call).body == WELL  # what was under way goes on, and nobody is blamed
        await trial.until(lambda: any(lag > 0.3 for lag in trial.proxy.sinks.lags))
        assert (await trial.books()).metrics["guardproxy_event_loop_lag_seconds"] > 0.3


@pytest.mark.row(96)
async def test_names_without_end():
    """Whatever apps write into `model`, paths and headers, there are as many series afterwards as before."""
    async with Trial() as trial:
        before = await trial.books()
        async with trial.accounts(told={'guardproxy_errors_total{code="model_not_found"}': 300}):
            for number in range(300):
                seen = await trial.ask({"model": f'm{number}"\n{{}}', "messages": []}, f"X-Request-Id: r{number}")
                assert (seen.status, seen.error["code"]) == (404, "model_not_found")
        after = await trial.books()
        assert after.metrics.keys() == before.metrics.keys()
        text = (await trial.get("/metrics")).body.decode()
        assert len(list(text_string_to_metric_families(text))) > 20


SECRETS = ("sk-secret-1", "sk-secret-2", "what-i-asked", "what-it-said", "cookie-secret")


@pytest.mark.row(97)
@pytest.mark.parametrize("status", [200, 500])
async def test_what_the_log_says(status):
    """A line of the log is one line whatever stands in it, and neither keys nor prompts nor answers stand there."""
    async with Trial({"upstreams": {"llama": {"api_key": "sk-secret-2"}}}) as trial:
        said = (
            completion("what-it-said") if status == 200 else mistake('sk-secret-1 what-it-said\r\n{"level":"forged"}')
        )
        trial.llama.play = says(whole(said, status=b"%d X" % status), then="keep")
        fields = (
            "Authorization: Bearer sk-secret-1",
            "Cookie: cookie-secret",
            'X-Request-Id: a"b\\n{}',
            "User-Agent: x\tforged",
        )
        await trial.ask(asking("what-i-asked"), NEVER, *fields)
        await trial.ask(b'{"model":"llama","what-i-asked":', *fields)
        await trial.send(request(None, *fields, method="GET", path='/llama/"%0a%0d{"level":"forged"}?key=sk-secret-1'))
        await trial.send(b"GET /what-i-asked\r\nAuthorization: sk-secret-1\r\n\r\n")
        lines = trial.log_lines  # each line is JSON, or this fails
        assert len([line for line in lines if line["msg"] == "request"]) == 4
        assert all(line["level"] in ("debug", "info", "warning", "error") for line in lines)
        text = json.dumps(lines)
        assert not [secret for secret in SECRETS if secret in text]
        state = (await trial.get("/guard/state")).body.decode()
        assert not [secret for secret in SECRETS if secret in state]
        assert len(trial.llama.calls) == 2

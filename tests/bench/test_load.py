"""The fake model server and the callers understand each other, and /proc is read right."""

import json
import os
import subprocess
import sys
import time

import pytest

from bench import upstream, workload
from bench.lab import ROOT
from bench.process import Running, family, free_port, usage
from guardproxy.openai.completion import assemble


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    port = free_port()
    core = min(os.sched_getaffinity(0))
    log = tmp_path_factory.mktemp("bench") / "log"
    model = Running([sys.executable, "-m", "bench.upstream", str(port)], core=core, log=log, cwd=ROOT)
    model.wait_for(port, "/v1/models", 10)
    yield port
    model.end()
    assert model.process.poll() is not None


def told(port, order, **particulars):
    given = {"order": order, "port": port, "connections": 2, "seconds": 0.2, **particulars}
    command = [sys.executable, "-m", "bench.client"]
    done = subprocess.run(command, cwd=ROOT, input=json.dumps(given), capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_the_completion_as_a_stream():
    """The text is the same, whole or as events: a guard that asks for a stream accepts it as it does the other."""
    body = upstream.SAID.partition(b"\r\n\r\n")[2]
    events = b"".join(part for part in body.split(b"\r\n") if part.startswith(b"data: "))
    made = assemble(events)
    assert made is not None
    assert made["choices"][0]["message"]["content"] == upstream.CONTENT


@pytest.mark.parametrize("order", ["closed", "paced"])
def test_calls_are_answered(port, order):
    found = told(port, order, rate=100, request=workload.request(port, workload.body(), {}))
    assert found["requests"] > 5
    assert found["errors"] == 0
    assert 0 < found["p50"] <= found["p99"]


def test_large_bodies_are_answered(port):
    found = told(port, "closed", request=workload.request(port, workload.body(filling=300_000), {}))
    assert found["requests"] > 2
    assert found["errors"] == 0


def test_streams_come_at_their_pace(port):
    text = workload.request(port, workload.body(events=1000, pace_ms=20), {})
    found = told(port, "streams", request=text)
    assert found["errors"] == 0
    # Two streams, fifty events a second each, a fifth of a second: twenty, on a machine that does nothing else.
    assert 2 <= found["events"] <= 60


def test_what_the_model_says_satisfies_the_schema():
    said = json.loads(upstream.CONTENT)
    assert set(said) == set(workload.SCHEMA["required"])


def test_cpu_and_memory_of_a_process_are_read():
    before = usage(os.getpid())
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    after = usage(os.getpid())
    assert 0.03 < after.cpu - before.cpu < 1
    assert after.rss > 1 << 20


def test_children_belong_to_the_family():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert child.pid in family(os.getpid())
    finally:
        child.communicate(b"\n")

"""The flood's model server bears what it says, and its callers count every call that was due."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from bench import workload
from bench.lab import ROOT
from bench.overload.__main__ import Found, words
from bench.process import Running, free_port


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    port = free_port()
    log = tmp_path_factory.mktemp("bench") / "log"
    command = [sys.executable, "-m", "bench.overload.slots", str(port), "2", "50"]
    model = Running(command, core=min(os.sched_getaffinity(0)), log=log, cwd=ROOT)
    model.wait_for(port, "/", 20)
    yield port
    model.end()


def told(port, *kinds):
    text = workload.request(port, workload.body(), {})
    order = {"port": port, "connections": 50, "kinds": [{"request": text, **kind} for kind in kinds]}
    command = [sys.executable, "-m", "bench.overload.callers"]
    done = subprocess.run(command, cwd=ROOT, input=json.dumps(order), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_what_comes_above_the_slots_waits(port):
    """Two at once, 50 ms each: ten calls at once take five rounds of it at the least, in the order they came."""
    found = told(port, {"rate": 1000, "since": 0, "until": 0.01})
    (kind,) = found["kinds"]
    assert (found["short"], kind["due"], kind["well"], kind["refused"], kind["else"]) == (0, 10, 10, 0, 0)
    assert kind["took"] == sorted(kind["took"])
    assert kind["took"][0] >= 45
    assert kind["took"][-1] >= 4.5 * 50


def test_when_the_last_was_ill(port):
    """Measured from the beginning of its kind, by what it was to take; a kind may come later than the others."""
    found = told(
        port,
        {"rate": 1000, "since": 0, "until": 0.01, "good": 1},
        {"rate": 8, "since": 0.5, "until": 0.75, "good": 60_000},
    )
    first, second = found["kinds"]
    assert first["ill"] == pytest.approx(0.009)
    assert (second["due"], second["well"], second["ill"]) == (2, 2, 0.0)


def test_callers_who_cannot_be_served_are_counted():
    """Whoever is behind these connections closes them: calls are neither answered nor refused."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def close():
            for _ in range(50):
                listener.accept()[0].close()

        closing = threading.Thread(target=close)
        closing.start()
        found = told(listener.getsockname()[1], {"rate": 100, "since": 0, "until": 0.05})
        closing.join()
    (kind,) = found["kinds"]
    assert kind["due"] == 5
    assert found["short"] + kind["else"] == 5


def test_the_page():
    kind = {"due": 10, "well": 9, "refused": 1, "else": 0, "ill": 0.25, "took": [1.0, 2.0], "turned": [0.5]}
    text = words(Found(160.0, kind, kind, kind, kind, 1.0, 11.0, 100e-6, 40e-6, [0.35, 0.4, 0.5], kind))
    assert "40 µs, 0.40 of an answered call (100 µs)" in text
    assert "after 0.25 s" in text

"""The program as it is started in a pod: its output, its signals, its exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from guardproxy import __version__

SOON = 15.0
"""Seconds after which a program that has not done what it should has failed."""
CHAT = {"model": "llama", "messages": [{"role": "user", "content": "a rose"}]}
ENV = {
    name: value for name, value in os.environ.items() if not name.endswith("_URL") and name != "GUARDPROXY_CONFIG"
} | {"PYTHONUNBUFFERED": "1"}


def program(*arguments, cwd, env=None):
    """Run it to its end."""
    command = [sys.executable, "-m", "guardproxy", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=ENV | (env or {}), capture_output=True, text=True, timeout=SOON, check=False
    )


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Running:
    """A program that runs, and a caller of it."""

    def __init__(self, process, app, admin):
        self.process, self.app, self.admin = process, app, admin

    def ask(self, path, doc=None, *, admin=False, method=None):
        """Answers status and text."""
        data = None if doc is None else json.dumps(doc).encode()
        url = (self.admin if admin else self.app) + path
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 -- http, and ours
        try:
            with urllib.request.urlopen(request, timeout=SOON) as answer:  # noqa: S310 -- as above
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def end(self, number=signal.SIGTERM):
        """Signal it, wait, and answer its exit code, the rest of its output, and how long it took."""
        started = time.monotonic()
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=SOON)
        return self.process.returncode, out, time.monotonic() - started


@contextmanager
def running(*arguments, cwd, env=None, simulate=True):
    """Start `guardproxy run` on free ports, behind it free ports as well."""
    urls = {f"upstreams.{name}.url": f"http://127.0.0.1:{free_port()}" for name in ("qwen", "mistral", "llama")}
    settings = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", **(urls if simulate else {})}
    overrides = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
    command = [sys.executable, "-m", "guardproxy", "run", *(["--simulate"] if simulate else []), *overrides]
    process = subprocess.Popen(
        [*command, *arguments],
        cwd=cwd,
        env=ENV | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        with ThreadPoolExecutor(1) as pool:
            found: dict[str, str] = {}
            while "listen" not in found:
                line = pool.submit(process.stdout.readline).result(SOON)
                assert line, process.communicate()
                if line.startswith("{") and (said := json.loads(line))["msg"] == "ready":
                    found = said
        yield Running(process, f"http://{found['listen']}", f"http://{found['admin']}")
    finally:
        process.kill()
        process.communicate()


def healthy(run):
    deadline = time.monotonic() + SOON
    while json.loads(run.ask("/health/llm")[1])["status"] != "healthy":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_first_look(tmp_path):
    """`run --simulate` answers at once; SIGTERM drains and exits 0, and takes the simulated servers along."""
    with running("-o", "drain.idle_seconds=0.2", cwd=tmp_path) as run:
        status, text = run.ask("/v1/chat/completions", CHAT)
        assert (status, json.loads(text)["model"]) == (200, "meta-llama/Meta-Llama-3-8B-Instruct")
        healthy(run)
        verify = program("verify", run.app, cwd=tmp_path)
        assert (verify.returncode, verify.stderr) == (0, "")
        assert verify.stdout.splitlines() == [
            "Verifying production guards...",
            "======================================",
            "1. JSON Hard Guard...    ✓ ENABLED (max retries 3, backoff 1.0 s, fallback on)",
            "2. Circuit Breaker...    ✓ ALL BREAKERS CLOSED",
            "3. Cache LRU+TTL...      ✓ set, hit, expired, regenerated",
            "4. LLM Health Check...   ✓ ALL MODELS HEALTHY",
            "======================================",
            "✓ ALL GUARDS VERIFIED",
            "✓ SAFE TO PROMOTE TO PRODUCTION",
        ]
        servers = [up["url"] for up in json.loads(run.ask("/guard/state")[1])["upstreams"].values()]
        code, out, took = run.end()
        assert (code, took < 5) == (0, True)
        assert [json.loads(line)["msg"] for line in out.splitlines() if line.startswith("{")][-2:] == [
            "draining",
            "stopped",
        ]
        for url in servers:
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 1).close()


def test_verify_says_no(tmp_path):
    """With a model dead `verify` exits 1 and says which; `--json` says the same to scripts."""
    with running(cwd=tmp_path) as run:
        healthy(run)
        run.ask("/guard/breakers/llama", {"state": "open"}, admin=True, method="PUT")
        verify = program("verify", run.app, cwd=tmp_path)
        assert verify.returncode == 1
        assert "2. Circuit Breaker...    ✗ llama is open" in verify.stdout.splitlines()
        assert "llama is unhealthy (circuit_breaker_open)" in verify.stdout
        assert verify.stdout.splitlines()[-1] == "✗ DO NOT PROMOTE"
        told = json.loads(program("verify", run.admin, "--json", cwd=tmp_path).stdout)
        assert (told["safe"], [check["ok"] for check in told["checks"]]) == (False, [True, False, True, False])
        run.ask("/guard/breakers/llama", {"state": "closed"}, admin=True, method="PUT")
        run.ask("/guard/breakers/llama", {"state": "auto"}, admin=True, method="PUT")
        assert program("verify", run.app, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_verify_of_nobody(tmp_path, arguments):
    """Where nobody answers, or somebody else, `verify` exits 1 and says so."""
    verify = program("verify", f"http://127.0.0.1:{free_port()}", *arguments, cwd=tmp_path)
    assert verify.returncode == 1
    assert "refused" in verify.stdout + verify.stderr
    if arguments:
        assert json.loads(verify.stdout)["safe"] is False
    else:
        assert "DO NOT PROMOTE" in verify.stderr


def test_verify_of_a_drained_port(tmp_path):
    """A server that is no guardproxy is told from one."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:

        def answer():
            caller, _ = server.accept()
            with caller:
                caller.recv(65536)
                caller.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

        pool.submit(answer)
        verify = program("verify", f"127.0.0.1:{server.getsockname()[1]}", cwd=tmp_path)
    assert verify.returncode == 1
    assert "is a guardproxy listening there?" in verify.stderr


@pytest.mark.parametrize("command", ["run", "check", "explain"])
def test_bad_configuration(tmp_path, command):
    """A bad configuration is exit 2, with every problem at once, each with its place and the nearest right name."""
    text = "cash: 1\ncache:\n  max_size: 0\nupstreams:\n  v1: {url: ftp://x}\nmodes:\n  fast: {upstream: nobody}\n"
    (tmp_path / "bad.yaml").write_text(text)
    done = program(command, "bad.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    for part in (
        "bad.yaml:1: cash: no such setting; did you mean 'cache'?",
        "bad.yaml:3: cache.max_size: ",
        "bad.yaml:5: upstreams",
        "bad.yaml:7: modes.fast.upstream: ",
    ):
        assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_file(tmp_path):
    """A file that is not there is a problem, wherever it was named."""
    for done in (
        program("run", "nowhere.yaml", cwd=tmp_path),
        program("run", cwd=tmp_path, env={"GUARDPROXY_CONFIG": "nowhere.yaml"}),
    ):
        assert done.returncode == 2
        assert "nowhere.yaml" in done.stderr


def test_port_taken(tmp_path):
    """A port that is taken is exit 1, and names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = program("run", "-o", f"listen={address}", "-o", "admin=127.0.0.1:0", cwd=tmp_path)
    assert done.returncode == 1
    assert address in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["verify", "--help"], ["simulate", "--help"]])
def test_help(tmp_path, arguments):
    """`--help` everywhere."""
    done = program(*arguments, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: guardproxy")


def test_version(tmp_path):
    """`--version` says which, and from which commit it was built, where that is known."""
    said = program("--version", cwd=tmp_path).stdout
    assert re.fullmatch(rf"guardproxy {re.escape(__version__)}( \(commit [0-9a-f]{{7,40}}\))?\n", said), said


def test_no_such_command(tmp_path):
    """An unknown command is exit 2 and lists those there are."""
    done = program("walk", cwd=tmp_path)
    assert done.returncode == 2
    assert "verify" in done.stderr


def test_defaults_and_environment(tmp_path):
    """Without a file the defaults serve, and `NAME_URL` says where a model is; `check` and `explain` show it."""
    env = {"LLAMA_URL": "http://10.1.2.3:8000/v1"}
    assert program("check", cwd=tmp_path, env=env).returncode == 0
    told = json.loads(program("explain", "--json", cwd=tmp_path, env=env).stdout)
    assert told["upstreams"]["llama"]["url"] == "http://10.1.2.3:8000/v1"
    assert told["upstreams"]["qwen"]["url"] == "http://127.0.0.1:18001"


def test_reload_and_calls_under_way(tmp_path):
    """SIGHUP reads the file again; SIGTERM lets a call that is under way finish."""
    config = tmp_path / "g.yaml"
    config.write_text("drain: {idle_seconds: 0.1}\njson_guard: {max_retries: 3}\n")
    with running("g.yaml", cwd=tmp_path) as run:
        before = json.loads(run.ask("/guard/state")[1])
        config.write_text("drain: {idle_seconds: 0.1}\njson_guard: {max_retries: 5}\n")
        run.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + SOON
        while (after := json.loads(run.ask("/guard/state")[1]))["guards"]["json"]["max_retries"] != 5:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert after["config"]["digest"] != before["config"]["digest"]
        url = after["upstreams"]["llama"]["url"]
        order = urllib.request.Request(url + "/simulate", b'{"fault": "latency=0.6"}', method="POST")  # noqa: S310
        urllib.request.urlopen(order, timeout=SOON).close()  # noqa: S310 -- http, and ours
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(run.ask, "/v1/chat/completions", CHAT)
            while not re.search(
                r"^guardproxy_in_flight_requests 1\.0$", run.ask("/metrics", admin=True)[1], re.MULTILINE
            ):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            code, _, _ = run.end()
            assert call.result(SOON)[0] == 200
        assert code == 0


def test_interrupt(tmp_path):
    """Ctrl-C ends it like SIGTERM; a second time, at once."""
    with running("-o", "drain.seconds=30", "-o", "drain.idle_seconds=30", cwd=tmp_path) as run:
        run.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        code, _, took = run.end(signal.SIGINT)
        assert (code, took < 5) == (0, True)

"""`check` names every problem with its place and exits 2; `explain` tells what the configuration amounts to."""

import argparse
import json

import pytest

from guardproxy.checklist.enforcing import Finding
from guardproxy.cli import check, explain


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("GUARDPROXY_CONFIG", "QWEN_URL", "MISTRAL_URL", "LLAMA_URL"):
        monkeypatch.delenv(name, raising=False)


def run(command, *argv):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.main(parser.parse_args(argv))


@pytest.mark.parametrize("command", [check, explain])
def test_problems_go_to_stderr(command, tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text("cash: 1\ncache:\n  max_size: 0\n")
    assert run(command, "bad.yaml", "-o", "health.rise=x") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "-o health.rise: expected a whole number, got 'x'",
        "bad.yaml:1: cash: no such setting; did you mean 'cache'?",
        "bad.yaml:3: cache.max_size: expected at least 1 and at most 1073741824, got 0",
        "3 problems",
    ]


def test_check_is_short_where_all_is_well(capsys):
    assert run(check) == 0
    out, err = capsys.readouterr()
    assert "no file, all is default: good, digest " in out
    assert "creative > balanced > fast" in out
    assert err == ""


def test_warnings_do_not_fail(capsys):
    assert run(check, "-o", "upstreams={a: {url: http://h}, b: {url: http://i}}") == 0
    assert "warning: upstreams: a caller's key goes to different hosts" in capsys.readouterr().err


def test_explain_tells_everything(tmp_path, capsys):
    (tmp_path / "g.yaml").write_text("cache:\n  ttl_seconds: 5m\njson_guard: {enabled: false}\n")
    assert run(explain, "g.yaml", "-o", "health.rise=3") == 0
    told = " ".join(capsys.readouterr().out.split())
    for part in (
        "app http://127.0.0.1:8000",
        "qwen http://127.0.0.1:18001 Qwen/Qwen2.5-7B-Instruct also qwen2.5 with the caller's key",
        "fast -> qwen sets temperature=0.3 caps max_tokens=512",
        "json (json_guard): off",
        "breaker (circuit_breaker): on",
        "cache.ttl_seconds 300.0 g.yaml:2",
        "health.rise 3 -o",
        "health.fall 2 default",
    ):
        assert part in told
    assert told.index("modes (downshift)") < told.index("cache (cache)") < told.index("breaker (circuit")


def test_explain_for_scripts(capsys):
    assert run(explain, "--json", "-o", "admin_token=s3cret", "-o", "upstreams.qwen.api_key=s3cret") == 0
    out = capsys.readouterr().out
    assert "s3cret" not in out
    told = json.loads(out)
    assert list(told["modes"]) == ["creative", "balanced", "fast"]
    assert told["upstreams"]["qwen"]["key"] == "its own"
    assert told["guards"]["cache"]["moments"].keys() >= {"admit", "settle"}
    assert told["values"]["admin_token"] == {"value": "***", "origin": "-o"}


def test_a_probe_tells_what_it_found(monkeypatch, capsys):
    """Each way with its evidence and what follows; exit status 1 where what is configured is not enforced."""
    found = {"response_format": Finding("enforced", '{"word":"x"}'), "format": Finding("ignored", "Hello!")}

    async def probe(_loaded):
        return {"llama": found}

    monkeypatch.setattr("guardproxy.app.probe.probe", probe)
    one = "upstreams={llama: {url: http://h, structured_output: %s}}"
    for way, status in (("none", 0), ("response_format", 0), ("format", 1)):
        assert run(check, "--probe", "-o", one % way, "-o", "modes={}") == status
    out = capsys.readouterr().out
    assert '  response_format     enforced  {"word":"x"}' in out
    assert "format is NOT enforced: use response_format" in out

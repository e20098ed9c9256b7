"""`/guard/requests` and `guardproxy explain --request`: why a call went where it went."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from tests.app.stand import BRIEF, NEVER, elsewhere


async def explain(stand, *arguments):
    """Run the command against the stand: its exit status and what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "guardproxy", "explain", "--url", stand.app, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def steps(stand, ident):
    return [(step["what"], step["said"]) for step in (await stand.get(f"/guard/requests/{ident}")).json()["steps"]]


async def test_a_call_that_was_moved(make):
    """Each attempt, why it ended, and where it went then."""
    stand = await make({"retry": {"min_per_second": 100}})
    stand.sims["llama"].down()
    await stand.chat(model="creative", headers={"X-Request-Id": "moved"})
    told = await steps(stand, "moved")
    assert told[0] == ("asks", "mode creative")
    assert ("cache", "fwd=miss; stored") in told
    assert ("ended", "llama: upstream_unreachable, failure") in told or (
        "ended",
        "llama: upstream_reset, failure",
    ) in told
    assert told[-2][0] == "moved"
    assert told[-2][1].startswith("creative → balanced: upstream_")
    assert told[-1] == ("replied", "200 from upstream")


async def test_a_call_that_was_asked_again(make):
    """What was wrong with an answer is said in a word, and nothing of the answer."""
    stand = await make({"json_guard": {"max_retries": 1, "schemas": {"brief": BRIEF}}})
    stand.sims["llama"].faults = "not-json"
    await stand.chat("a secret", headers={**NEVER, "X-Request-Id": "again", "X-Guardproxy-Schema": "brief"})
    told = await steps(stand, "again")
    assert [what for what, _ in told].count("asked") == 2
    assert [what for what, _ in told].count("rejected") == 2
    assert [what for what, _ in told].count("waits") == 1
    assert told[-1] == ("replied", "200 from fallback, JSON fallback")
    assert "secret" not in (await stand.get("/guard/requests/again")).text


async def test_a_call_that_nobody_could_take(make):
    """Who refused it, and why."""
    stand = await make({"cache": {"enabled": False}})
    await stand.put("/guard/breakers/llama", {"state": "open"})
    await stand.chat(headers={**NEVER, "X-Request-Id": "refused"})
    assert ("refused", "llama: circuit_open") in await steps(stand, "refused")


async def test_bodies_are_shown_where_that_is_wanted(make):
    for wanted in (False, True):
        stand = await make({"debug": {"bodies": wanted}})
        await stand.chat("a secret", headers={"X-Request-Id": "r1"})
        assert ("a secret" in (await stand.get("/guard/requests/r1")).text) is wanted


async def test_bodies_are_shown_to_loopback_alone(make):
    address = elsewhere()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    stand = await make({"debug": {"bodies": True}, "admin": f"{address}:0"})
    await stand.chat("a secret", headers={"X-Request-Id": "r1"})
    assert "a secret" in (await stand.get("/guard/requests/r1")).text
    told = await stand.get("/guard/requests/r1", admin=True)
    assert (told.status, "a secret" in told.text) == (200, False)


async def test_the_list_has_the_latest_first(stand):
    for number in range(3):
        await stand.chat(f"number {number}", headers={"X-Request-Id": f"r{number}"})
    told = (await stand.get("/guard/requests")).json()["requests"]
    assert [one["id"] for one in told] == ["r2", "r1", "r0"]
    since = told[1]["serial"]
    assert [one["id"] for one in (await stand.get(f"/guard/requests?since={since}")).json()["requests"]] == ["r2"]
    assert len((await stand.get("/guard/requests?since=nonsense")).json()["requests"]) == 3


async def test_what_is_not_known(stand):
    answer = await stand.get("/guard/requests/%3Cscript%3E")
    assert (answer.status, answer.code) == (404, "not_found")
    assert answer.headers["Content-Type"] == "application/json"


async def test_the_command(stand):
    """For people and for scripts; 1 where nothing is known."""
    await stand.chat(model="fast", headers={"X-Request-Id": "a/b"})
    status, said = await explain(stand, "--request", "a/b")
    assert status == 0
    assert said.startswith("POST /v1/chat/completions   200 in ")
    assert "ms  asks         mode fast\n" in said
    status, said = await explain(stand, "--request", "a/b", "--json")
    assert (status, json.loads(said)["id"]) == (0, "a/b")
    status, said = await explain(stand, "--request", "nobody")
    assert (status, said) == (1, "'nobody' is none of the last calls that are over\n")

"""Answers shared and kept: rows 81 to 85."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.faults.test_app import App
from tests.faults.trial import NEVER, Trial, left, says, turns, well
from tests.faults.wire import DONE, LAST, STREAM, WELL, asking, chunk, completion, mistake, piece, request, whole

SICK = whole(mistake(), status=b"500 No")


def held(go: asyncio.Event, answer: bytes):
    async def play(peer):
        await go.wait()
        await peer.send(answer)
        return True

    return play


async def together(trial: Trial, go: asyncio.Event, count: int, **more) -> list:
    """*count* callers who ask the same at once; *go* once all have come."""
    calls = [asyncio.ensure_future(trial.ask(asking("the same", **more), NEVER)) for _ in range(count)]
    await trial.until(lambda: trial.proxy.desk.in_flight == count and trial.llama.calls)
    go.set()
    return await asyncio.gather(*calls)


@pytest.mark.row(81)
async def test_the_leader_fails():
    """One of those who waited asks again, in the name of all; after that everybody takes the answer there is."""
    async with Trial() as trial:
        go = asyncio.Event()
        trial.llama.play = turns(held(go, SICK), says(whole(WELL), then="keep"))
        async with trial.accounts("FS", llama=2, kept=1):
            seen = await together(trial, go, 20)
        assert sorted(one.status for one in seen) == [200] * 19 + [500]


@pytest.mark.row(81)
async def test_everybody_fails_together():
    """Where that fails as well, two calls were made for twenty callers, and each has the error in his own envelope."""
    async with Trial() as trial:
        go = asyncio.Event()
        trial.llama.play = turns(held(go, SICK), says(SICK, then="keep"))
        async with trial.accounts("FF", llama=2):
            seen = await together(trial, go, 20)
        assert {one.status for one in seen} == {500}
        assert len({one.fields["x-request-id"] for one in seen}) == 20


@pytest.mark.row(82)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_leader_leaves(*, stream):
    """Those who wait are served all the same, by the one call that is under way; when all leave it is ended."""
    async with Trial() as trial:
        go = asyncio.Event()
        answer = STREAM + chunk(piece("a"), piece("", "stop"), DONE) + LAST if stream else whole(WELL)
        trial.llama.play = held(go, answer)
        async with trial.accounts("S", llama=1, kept=1, told={"guardproxy_callers_gone_total": 1}):
            async with App(trial) as leader:
                leader.say(request(asking("the same", stream=stream), NEVER, close=False))
                await trial.until(lambda: trial.llama.calls)
                others = [asyncio.ensure_future(trial.ask(asking("the same", stream=stream), NEVER)) for _ in range(5)]
                await trial.until(lambda: trial.proxy.desk.in_flight == 6)
                leader.reset()
                await asyncio.sleep(0.1)
            go.set()
            seen = await asyncio.gather(*others)
        assert {(one.status, one.cut) for one in seen} == {(200, False)}
        assert len({one.body for one in seen}) == 1


@pytest.mark.row(82)
async def test_all_leave():
    """The call that nobody waits for any more is hung up on."""
    async with Trial() as trial:
        dropped = []

        async def play(peer):
            await left(peer)
            dropped.append(1)
            return False

        trial.llama.play = play
        async with trial.accounts(llama=1, told={"guardproxy_callers_gone_total": 3}):
            apps = [App(trial) for _ in range(3)]
            for app in apps:
                await app.__aenter__()
                app.say(request(asking("the same"), NEVER, close=False))
            await trial.until(lambda: trial.proxy.desk.in_flight == 3 and trial.llama.calls)
            for app in apps:
                app.reset()
            await trial.until(lambda: dropped)


@pytest.mark.row(83)
async def test_it_expires_while_it_is_being_sent():
    """An answer that has begun is completed, whatever becomes of what it was taken from."""
    async with Trial({"cache": {"ttl_seconds": 0.3}}) as trial:
        big = completion("x" * 20_000_000)
        trial.llama.play = says(whole(big), then="keep")
        async with trial.accounts("S", llama=1, kept=0):
            assert (await trial.ask(asking(), NEVER)).body == big
            async with App(trial) as app:
                app.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
                app.say(request(asking(), NEVER))
                await app.reader.readexactly(1000)
                cache = trial.proxy.house.cache
                assert cache is not None
                await trial.until(
                    lambda: not cache.entries.get(next(iter(cache.entries._entries)), asyncio.get_running_loop().time())
                )
                cache.purge()
                rest = await app.hear()
        assert len(rest) + 1000 > len(big)
        assert rest.endswith(big[-100:])


@pytest.mark.row(84)
@pytest.mark.parametrize(
    "field", ["Authorization", "X-Api-Key", "Api-Key", "OpenAI-Organization", "OpenAI-Project", "Cookie"]
)
async def test_another_tenant(field):
    """The same question from somebody else is another question; nothing of his is shown."""
    async with Trial() as trial:
        trial.llama.play = turns(*(says(whole(completion(f"for {who}")), then="keep") for who in "abc"))
        async with trial.accounts("SSS", llama=3, kept=3, told={"cache_hits_total": 2, "cache_misses_total": 3}):
            fields = {"a": [f"{field}: a"], "b": [f"{field}: b"], "c": []}
            for who in "abcab":
                seen = await trial.ask(asking(), NEVER, *fields[who])
                assert f"for {who}".encode() in seen.body


@pytest.mark.row(85)
@pytest.mark.parametrize("how", ["purge", "purge-one"])
async def test_purged_while_it_is_on_its_way(how):
    """What was asked before a purge is not kept after it: an entry that was dropped does not come back."""
    async with Trial({"cache": {"ttl_seconds": 0.2, "stale_while_revalidate_seconds": 60}}) as trial:
        assert (await trial.ask(asking(), NEVER)).status == 200
        await asyncio.sleep(0.3)
        go = asyncio.Event()
        trial.llama.play = held(go, whole(completion("anew")))
        async with trial.accounts("S", llama=1, kept=0):
            stale = await trial.ask(asking(), NEVER)  # shown at once; one call in the background takes its place
            assert (stale.status, stale.body) == (200, WELL)
            await trial.until(lambda: len(trial.llama.calls) == 2)
            path = "/guard/cache" + ("?model=llama" if how == "purge-one" else "")
            assert (await trial.ask(None, method="DELETE", path=path, to=trial.admin, host="127.0.0.1")).status == 200
            go.set()
            await trial.balanced()
        trial.llama.play = well
        async with trial.accounts("S", llama=1, kept=1):
            assert (await trial.ask(asking(), NEVER)).fields["cache-status"].startswith("guardproxy; fwd=miss")


@pytest.mark.row(82)
async def test_who_joins_before_anything_is_asked():
    """A call may be joined while it still waits for its turn, and is answered like those that came later."""
    async with Trial({"throttle": {"enabled": True}}) as trial:
        trial.llama.play = turns(says(whole(mistake(), b"Retry-After: 1", status=b"429 No"), then="keep"), well)
        assert (await trial.ask(asking("is told to wait"), NEVER)).status == 429
        async with trial.accounts("S", llama=1, kept=1):
            calls = [asyncio.ensure_future(trial.ask(asking("the same"), NEVER)) for _ in range(5)]
            seen = await asyncio.gather(*calls)
        assert {one.status for one in seen} == {200}


@pytest.mark.row(12, 47)
@pytest.mark.parametrize("said", [True, False])
async def test_who_joins_does_not_wind_the_clock(*, said):
    """A stream that stalls is over in time, however many join it meanwhile: whole, if it had come to its [DONE]."""
    async with Trial({"timeouts": {"stall": 0.5, "total": 20}, "cache": {"when": "deterministic"}}) as trial:
        parts = [piece("a"), piece("", "stop"), DONE] if said else [piece("a")]
        trial.llama.play = says(STREAM + chunk(*parts), then="stay")
        body = asking("the same", stream=True, seed=1)
        calls = [asyncio.ensure_future(trial.ask(body, NEVER))]
        for _ in range(100):
            await asyncio.sleep(0.05)
            if calls[0].done():
                break
            calls.append(asyncio.ensure_future(trial.ask(body, NEVER)))
        assert calls[0].done()
        seen = await asyncio.gather(*calls)
        assert {(one.status, one.cut, b"error" in one.body) for one in seen} == {(200, not said, not said)}

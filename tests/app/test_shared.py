"""Several proxies, one store: what one has been told the others know, and nobody needs the store."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.app.stand import Stand
from tests.stores.server import Redis, free_port

SECRET = "between-us"
STORED = "guardproxy; fwd=miss; stored"


def sharing(redis, **more):
    """Settings of a proxy that uses *redis*; times are long, for the machine may be loaded."""
    return {
        "shared": {"url": redis.url, "secret": SECRET, "timeout": 2, **more},
        "retry": {"attempts": 0},
        "timeouts": {"connect": 10, "first_token": 30, "stall": 30, "total": 60},
    }


@pytest.fixture
async def redis(needs):
    needs("redis-server")
    async with Redis() as server:
        yield server


@pytest.fixture
async def pair(make, redis):
    """Two proxies in front of the same models, and one store."""
    one = await make(sharing(redis))
    where = {name: {"url": sim.url} for name, sim in one.sims.items()}
    other = await make({**sharing(redis), "upstreams": where})
    await well(one)
    await well(other)
    for sim in one.sims.values():
        await sim.idle()
        sim.memory.forget()
    return one, other


async def well(stand):
    await stand.until(lambda: stand.proxy.house.far.trust.well, 20)


async def written(stand, many=1):
    await stand.until(lambda: stand.proxy.house.far.counts["writes"] >= many)


def status(answer):
    return answer.headers.get("Cache-Status")


@pytest.mark.parametrize("stream", [False, True])
async def test_what_one_was_told_the_other_knows(pair, stream):
    """The same bytes; and it is in its own memory from then on."""
    one, other = pair
    first = await one.chat(stream=stream)
    await written(one)
    second = await other.chat(stream=stream)
    assert status(second).startswith("guardproxy; hit; ttl=")
    assert status(second).endswith("; detail=shared")
    assert (second.body, second.headers["X-Guardproxy-Upstream"]) == (first.body, "llama")
    third = await other.chat(stream=stream)
    assert status(third).startswith("guardproxy; hit; ttl=")
    assert "shared" not in status(third)
    assert one.asked("llama") == 1
    metrics = await other.metrics()
    assert (metrics["cache_hits_total"], metrics["cache_misses_total"]) == (2, 0)
    assert metrics["guardproxy_shared_hits_total"] == 1


async def test_either_kind_of_caller(pair):
    """What one was told whole, the other tells as a stream."""
    one, other = pair
    whole = await one.chat()
    await written(one)
    assert (await other.chat(stream=True)).said == whole.content
    assert one.asked("llama") == 1


async def test_one_question_for_all_of_them(pair):
    """Two proxies are asked the same at once: the model is asked once."""
    one, other = pair
    one.sims["llama"].faults = "latency=0.5"
    answers = await asyncio.gather(*(stand.chat() for stand in (one, other) for _ in range(5)))
    assert {answer.body for answer in answers} == {answers[0].body}
    assert one.asked("llama") == 1


async def test_one_question_for_all_of_them_streamed(pair):
    """Callers of streams wait as well: those of the other proxy are told the same events when they have all come."""
    one, other = pair
    one.sims["llama"].faults = "latency=0.5"
    answers = await asyncio.gather(*(stand.chat(stream=True) for stand in (one, other) for _ in range(5)))
    assert {answer.body for answer in answers} == {answers[0].body}
    assert answers[0].events[-1] == "[DONE]"
    assert one.asked("llama") == 1
    shown = sorted(status(answer).partition(";")[2].split(";")[0].strip() for answer in answers)
    assert shown.count("fwd=miss") == 9
    assert shown.count("hit") == 1  # the one that waited for the other proxy; the others wait for these two


async def test_a_stream_that_takes_too_long(make, redis):
    """After `shared.stream_wait` seconds its caller asks for himself."""
    one = await make(sharing(redis, stream_wait=0.2))
    where = {name: {"url": sim.url} for name, sim in one.sims.items()}
    other = await make({**sharing(redis, stream_wait=0.2), "upstreams": where})
    await well(one)
    await well(other)
    await one.sims["llama"].idle()
    one.sims["llama"].memory.forget()
    one.sims["llama"].faults = "latency=1.5"
    first = asyncio.ensure_future(one.chat(stream=True))
    await one.until(lambda: one.asked("llama") == 1)
    second = await other.chat(stream=True)
    assert second.said == (await first).said
    assert one.asked("llama") == 2


async def test_a_stream_that_breaks_off_at_another_proxy(pair):
    """Whoever has waited asks; he has seen nothing of it."""
    one, other = pair
    one.sims["llama"].faults = "latency=0.3,cut=2,times=1"
    first = asyncio.ensure_future(one.chat(stream=True))
    await one.until(lambda: one.asked("llama") == 1)
    second = await other.chat(stream=True)
    assert (second.status, second.events[-1]) == (200, "[DONE]")
    await first
    assert one.asked("llama") == 2


async def test_whoever_waits_may_leave(pair):
    """The caller of a stream hangs up while another proxy asks: that goes on, and nothing is left behind."""
    one, other = pair
    one.sims["llama"].faults = "latency=0.6"
    first = asyncio.ensure_future(one.chat(stream=True))
    await one.until(lambda: one.asked("llama") == 1)
    second = asyncio.ensure_future(other.chat(stream=True))
    await other.until(lambda: other.proxy.desk.in_flight == 1)
    second.cancel()
    await other.until(lambda: other.proxy.desk.in_flight == 0)
    assert (await first).events[-1] == "[DONE]"
    assert one.asked("llama") == 1
    assert len(other.proxy.house.rules.flights) == 0


async def test_a_failed_question_is_asked_by_the_next(pair):
    """The proxy that asked got an error: it frees its claim at once, and the other tries."""
    one, other = pair
    one.sims["llama"].faults = "latency=0.3,status=500,times=1"
    never = {"X-Guardproxy-Downshift": "never"}
    first = asyncio.ensure_future(one.chat(headers=never))
    await one.until(lambda: one.asked("llama") == 1)
    second = await other.chat(headers=never)
    assert ((await first).status, second.status) == (500, 200)
    assert one.asked("llama") == 2


async def test_tenants_share_nothing(pair):
    """Across proxies neither."""
    one, other = pair
    await one.chat(headers={"Authorization": "Bearer a"})
    await written(one)
    assert status(await other.chat(headers={"Authorization": "Bearer b"})) == STORED
    assert status(await other.chat(headers={"Authorization": "Bearer a"})).endswith("detail=shared")


async def test_a_purge_reaches_all(pair):
    """What an operator has dropped at one proxy is gone at the other and in the store."""
    one, other = pair
    await one.chat()
    await written(one)
    await other.chat()
    answer = await one.ask("DELETE", "/guard/cache?model=llama", admin=True)
    assert answer.json() == {"dropped": 1, "everywhere": True}

    async def gone():
        return (await other.state())["cache"]["size"] == 0

    await other.until_that(gone)
    assert status(await other.chat()) == STORED
    assert one.asked("llama") == 2


async def test_a_purge_that_was_not_heard(pair):
    """A proxy that missed the message finds out at its next question."""
    one, other = pair
    far = other.proxy.house.far
    for task in list(far._tasks):
        if "_listen" in repr(task):
            task.cancel()
    await one.chat()
    await written(one)
    before = far.marks.epochs.mark("*")
    await one.ask("DELETE", "/guard/cache", admin=True)
    assert far.marks.epochs.mark("*") == before
    assert status(await other.chat()) == "guardproxy; fwd=miss"  # it was asked before this proxy knew
    assert far.marks.epochs.mark("*") == one.proxy.house.far.marks.epochs.mark("*") > before
    await asyncio.sleep(0.01)
    assert status(await other.chat()) == STORED


async def test_a_store_that_has_lost_its_memory(pair, redis, make):
    """That is no purge: nobody drops what he has; and what was purged before stays so."""
    one, other = pair
    await one.chat("old")
    await written(one)
    await one.ask("DELETE", "/guard/cache", admin=True)
    await one.until(lambda: other.proxy.house.far.marks.epochs.mark("*") == one.proxy.house.far.marks.epochs.mark("*"))
    await asyncio.sleep(0.01)
    await one.chat("new")
    await written(one, 2)
    async with redis.client() as client:
        kept = {name: await client.get(name) for name in await client.keys("guardproxy:a:*")}
        assert len(kept) == 2
        await client.flushall()
        for name, value in kept.items():  # the marks alone are lost, as a store may choose to
            await client.set(name, value, px=60_000)
    assert status(await one.chat("x")) == STORED
    assert status(await one.chat("new")).startswith("guardproxy; hit")
    assert status(await other.chat("new")).endswith("detail=shared")
    where = {name: {"url": sim.url} for name, sim in one.sims.items()}
    late = await make({**sharing(redis), "upstreams": where})
    await well(late)
    assert status(await late.chat("new")).endswith("detail=shared")
    assert status(await late.chat("old")) == STORED
    assert status(await other.chat("old")).startswith("guardproxy; hit")


async def test_a_newcomer_after_a_purge(pair, redis, make):
    """It has read the marks before anybody asks it: its first answer is kept."""
    one, _ = pair
    await one.ask("DELETE", "/guard/cache", admin=True)
    where = {name: {"url": sim.url} for name, sim in one.sims.items()}
    late = await make({**sharing(redis), "upstreams": where})
    await well(late)
    assert status(await late.chat()) == STORED


async def test_a_purge_while_the_store_is_away(pair, redis):
    """It holds here at once, and everywhere when the store is back."""
    one, other = pair
    await one.chat()
    await written(one)
    assert status(await other.chat()).endswith("detail=shared")
    redis.pause()
    answer = await one.ask("DELETE", "/guard/cache", admin=True)
    assert answer.json() == {"dropped": 1, "everywhere": False}
    redis.go_on()
    await well(one)
    await one.until(lambda: other.proxy.house.far.trust.well, 30)

    async def heard():
        await one.chat(str(time.monotonic()))  # whoever asks the store sees that it is behind
        await other.chat(str(time.monotonic()))
        return other.proxy.house.far.marks.epochs.mark("*") == one.proxy.house.far.marks.epochs.mark("*")

    await one.until_that(heard)
    assert "hit" not in status(await other.chat())


async def test_a_burst_is_no_sign_of_a_slow_store(make, redis):
    """A hundred different calls at once take the connections that there are, within the time of one."""
    stand = await make(sharing(redis))
    await well(stand)
    far = stand.proxy.house.far
    for burst in range(3):
        answers = await asyncio.gather(*(stand.chat(f"{burst} {number}") for number in range(100)))
        assert {status(answer) for answer in answers} == {STORED}
    await written(stand, 300)
    async with redis.client() as client:
        assert len(await client.client_list()) <= 8
    assert far.counts["unwritten"] == 0


async def test_nobody_can_forge_an_answer(pair, redis):
    """What somebody else has written into the store is not there; what lies in it names nothing."""
    one, other = pair
    first = await one.chat("a secret rose", headers={"Authorization": "Bearer sesame"})
    await written(one)
    async with redis.client() as client:
        names = [name async for name in client.scan_iter("guardproxy:a:*")]
        assert len(names) == 1
        value = await client.get(names[0])
        assert value.startswith(b"GP\x01")
        assert b"sesame" not in names[0] + value
        await client.set(names[0], value.replace(value[-20:], b"\0" * 20))
    again = await other.chat("a secret rose", headers={"Authorization": "Bearer sesame"})
    assert status(again) == STORED
    assert again.body != first.body


async def test_another_secret(make, redis):
    """Proxies that do not know the same secret share nothing and do not disturb each other."""
    one = await make(sharing(redis))
    where = {name: {"url": sim.url} for name, sim in one.sims.items()}
    other = await make({"shared": {"url": redis.url, "secret": "another", "timeout": 2}, "upstreams": where})
    await well(one)
    await well(other)
    await one.chat()
    await written(one)
    assert status(await other.chat()) == STORED
    assert status(await one.chat()).startswith("guardproxy; hit")


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_the_store_dies(make, redis, how):
    """One call waits for it for at most `shared.timeout`; after that none does, and all are answered."""
    stand = await make(sharing(redis, timeout=0.5))
    await well(stand)
    getattr(redis, how)()
    begun = time.monotonic()
    assert status(await stand.chat("0")) == STORED
    assert time.monotonic() - begun < 10
    far = stand.proxy.house.far
    await stand.until(lambda: not far.trust.well, 20)
    failures, fetched = far.trust.failures, far.counts["misses"]
    for number in range(1, 6):
        assert status(await stand.chat(str(number))) == STORED
    assert far.counts["misses"] == fetched
    assert far.trust.failures <= failures + 3  # the keeper's own
    assert await stand.metric("guardproxy_shared_store_up") == 0
    assert any(line["msg"].startswith("the shared store is away") for line in stand.log())
    if how == "pause":
        redis.go_on()
        await well(stand)
        assert await stand.metric("guardproxy_shared_store_up") == 1
        await stand.chat("again")
        await written(stand)


async def test_the_store_comes_up_later(make, needs):
    """A proxy starts without its store, and finds it when it is there."""
    needs("redis-server")
    redis = Redis()
    stand = await make(sharing(redis))
    assert status(await stand.chat()) == STORED
    assert not stand.proxy.house.far.trust.well
    async with redis:
        await well(stand)
        await stand.chat("other")
        await written(stand)


async def test_a_store_that_is_not_there_is_told_of(make):
    """Also where it never was: a wrong address or password is in the log, once."""
    stand = await make({"shared": {"url": f"redis://127.0.0.1:{free_port()}", "secret": SECRET}})

    def told():
        return [line for line in stand.log() if line["msg"].startswith("the shared store is away")]

    await stand.until(told)
    await stand.chat()
    assert len(told()) == 1


@pytest.mark.parametrize("options", [("--requirepass", "other"), ("--replicaof", "127.0.0.1", "1")])
async def test_a_store_that_will_not(make, needs, options):
    """Another password: it is away. One that may only be read, being a copy without its master: that is all it does."""
    needs("redis-server")
    async with Redis(*options) as redis:
        stand = await make(sharing(redis))
        for number in range(3):
            assert status(await stand.chat(str(number))) == STORED
        assert (await stand.get("/healthz")).status == 200


async def test_the_store_is_full(make, needs):
    """What it does not take is not there; what it has is still found."""
    needs("redis-server")
    async with Redis("--maxmemory-policy", "noeviction") as redis:
        stand = await make(sharing(redis))
        await well(stand)
        await stand.chat("early")
        await written(stand)
        async with redis.client() as client:
            await client.config_set("maxmemory", "1kb")
        far = stand.proxy.house.far
        for number, stream in enumerate((True, False)):
            assert status(await stand.chat("late", stream=stream, seed=number)).startswith("guardproxy; fwd=miss")
            await stand.until(lambda n=number: far.counts["unwritten"] == n + 1)
        assert (far.trust.well, far.counts["failures"]) == (True, 0)
        stand.proxy.house.cache.purge()
        await asyncio.sleep(0.005)
        assert status(await stand.chat("early", stream=True)).endswith("detail=shared")


async def test_only_what_is_asked_for(make, redis):
    """`shared.cache: false`: nothing is looked for and nothing written."""
    stand = await make(sharing(redis, cache=False))
    await well(stand)
    await stand.chat()
    async with redis.client() as client:
        assert await client.keys("*") == []


async def test_what_is_not_looked_for(pair):
    """A caller who wants it fresh, or kept nowhere, is not answered by another proxy either."""
    one, other = pair
    await one.chat()
    await written(one)
    for directive in ("no-cache", "no-store", "max-age=0"):
        answer = await other.chat(headers={"Cache-Control": directive})
        assert "hit" not in status(answer), directive
    assert status(await other.chat(headers={"Cache-Control": "max-age=500"})).startswith("guardproxy; hit")


BROKEN = {"circuit_breaker": {"minimum_requests": 2, "consecutive_failures": 2, "timeout": 30}}


async def test_what_one_has_found_broken_the_others_leave_alone(make, redis):
    """With `shared.state` a circuit that one opens opens in the others, and their ceiling falls; in newcomers too."""
    one = await make({**sharing(redis, state=True), **BROKEN})
    where = {name: {"url": sim.url} for name, sim in one.sims.items()}
    other = await make({**sharing(redis, state=True), **BROKEN, "upstreams": where})
    await well(one)
    await well(other)
    one.sims["llama"].faults = "status=500"
    for number in range(3):
        await one.chat(str(number), headers={"X-Guardproxy-Downshift": "never"})
    assert await one.circuit("llama") == "open"

    async def learnt():
        return await other.circuit("llama") == "open"

    await other.until_that(learnt)
    assert (await other.state())["mode"]["ceiling"] == "balanced"
    assert any(line.get("reason") == "learnt from another proxy" for line in other.log())
    late = await make({**sharing(redis, state=True), **BROKEN, "upstreams": where})

    async def told():
        return await late.circuit("llama") == "open"

    await late.until_that(told, 20)
    assert await other.circuit("mistral") == "closed"


async def test_what_a_proxy_has_seen_itself_is_stronger(make, redis):
    """One that has judged enough attempts of its own to be well keeps its circuit and its ceiling."""
    one, other = await talking(make, redis)
    for number in range(3):
        await other.chat(str(number))
    one.sims["llama"].faults = "status=500"
    for number in range(3):
        await one.chat(f"x{number}", headers={"X-Guardproxy-Downshift": "never"})
    hearsay = other.proxy.house.far.post.hearsay
    await other.until(lambda: hearsay.on("circuit llama") and hearsay.on("ceiling"))
    assert await other.circuit("llama") == "closed"
    assert (await other.state())["mode"]["ceiling"] == "creative"
    words = (await other.state())["shared"]["words"]
    assert (words["circuit llama"]["says"], words["ceiling"]["says"]) == ("open", "balanced")


async def talking(make, redis, **more):
    """Two proxies that tell each other what they find out."""
    one = await make({**sharing(redis, state=True), **BROKEN, **more})
    where = {name: {"url": sim.url} for name, sim in one.sims.items()}
    other = await make({**sharing(redis, state=True), **BROKEN, **more, "upstreams": where})
    await well(one)
    await well(other)
    return one, other


async def test_what_is_well_again_is_told_too(make, redis):
    """A circuit that opened on another's word closes on it, without an attempt of its own."""
    quick = {"minimum_requests": 2, "consecutive_failures": 2, "timeout": 0.2, "success_threshold": 1}
    one, other = await talking(make, redis, circuit_breaker=quick, health={"interval": 600})
    llama = other.proxy.house.breaker.circuits["llama"]
    one.sims["llama"].faults = "status=500"
    for number in range(3):
        await one.chat(str(number), headers={"X-Guardproxy-Downshift": "never"})
    await other.until(lambda: other.proxy.house.far.post.hearsay.on("circuit llama"))
    one.sims["llama"].faults = ""

    async def closed():
        await one.chat(str(time.monotonic()), headers={"X-Guardproxy-Downshift": "never"})
        return await one.circuit("llama") == "closed"

    await one.until_that(closed)
    await other.until(lambda: llama.state.value == "closed")


async def test_an_order_is_for_all(make, redis):
    """What an operator holds at one proxy all hold, newcomers too; he may let go at any of them."""
    one, other = await talking(make, redis)
    await one.put("/guard/mode", {"ceiling": "fast"})
    await one.put("/guard/breakers/qwen", {"state": "open"})
    where = {name: {"url": sim.url} for name, sim in one.sims.items()}
    late = await make({**sharing(redis, state=True), **BROKEN, "upstreams": where})
    for stand in (other, late):
        house = stand.proxy.house

        def held(house=house):
            return house.modes.ceiling.held == 2 and house.breaker.circuits["qwen"].held is not None

        await stand.until(held, 20)
        state = await stand.state()
        assert (state["mode"]["ceiling"], state["mode"]["reason"]) == ("fast", "manual")
    await late.put("/guard/mode", {"ceiling": None})
    await late.put("/guard/breakers/qwen", {"state": "auto"})
    for stand in (one, other):
        house = stand.proxy.house
        await stand.until(lambda h=house: h.modes.ceiling.held is None and h.breaker.circuits["qwen"].held is None)


async def test_words_are_sealed(make, redis):
    """Who can write to the store but does not know the secret can neither say anything nor change what was said."""
    one, other = await talking(make, redis)
    await one.put("/guard/mode", {"ceiling": "fast"})
    await other.until(lambda: other.proxy.house.modes.ceiling.held == 2)
    async with redis.client() as client:
        (name,) = await client.keys("guardproxy:w:*")
        value = await client.get(name)
        await client.set(name, value.replace(b"fast", b"slow"))
        await client.publish("guardproxy:news", b"says " + value)
        for text in (b"", b"x" * 80, value[:33], b"9" * 33 + value[33:]):
            await client.set(name, text)
            for stand in (one, other):
                await stand.proxy.house.far.post.read()
    assert (other.proxy.house.modes.ceiling.held, one.proxy.house.modes.ceiling.held) == (2, 2)


async def test_words_while_the_store_is_away(make, redis):
    """They are told when it is back."""
    one, other = await talking(make, redis)
    redis.pause()
    await one.put("/guard/mode", {"ceiling": "fast"})
    await one.until(lambda: not one.proxy.house.far.trust.well, 30)
    redis.go_on()
    await other.until(lambda: other.proxy.house.modes.ceiling.held == 2, 40)


async def test_state_alone_is_not_shared_unless_asked(pair):
    """`shared.state: false`, the default: every proxy judges for itself."""
    one, other = pair
    await one.put("/guard/mode", {"ceiling": "fast"})
    await one.chat()
    await written(one)
    assert (await other.state())["mode"]["ceiling"] == "creative"
    assert "words" not in (await other.state())["shared"]
    assert list(one.proxy.house.far.post.hearsay) == []


async def test_off_costs_nothing(stand: Stand):
    """Without a url there is no store, no task and no step."""
    assert stand.proxy.house.far is None
    assert not stand.proxy.house.rules.far

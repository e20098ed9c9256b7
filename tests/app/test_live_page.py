"""The live page, in a real browser: what it shows, that it can be worked without a mouse, and what it may do."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

import pytest

from tests.app.browser import Browser
from tests.app.stand import BRIEF, JSON_SCHEMA, NEVER, elsewhere

PICTURES = os.environ.get("GUARDPROXY_PICTURES")
"""A folder for screenshots; with `docs` in it the documentation's are made anew."""
SETTINGS = {
    "circuit_breaker": {"minimum_requests": 2, "timeout": 30},
    "json_guard": {"max_retries": 1, "schemas": {"brief": BRIEF}},
    "retry": {"min_per_second": 100},
}


MARKUP = "<img/src=x/onerror=document.title='caught'>"
CEILING = "document.getElementById('ceiling').textContent"
DONE = "document.getElementById('done').textContent"
LINK = "document.getElementById('link').textContent"
ROWS = "document.querySelectorAll('#calls > tr').length"
REACHABLE = """return [...document.querySelectorAll('a, button, select, input, [tabindex="0"]')]
.filter(node => node.offsetParent !== null || node.className === 'skip')
.map(node => node.ariaLabel || node.id || node.innerText)"""
NAMELESS = """return [...document.querySelectorAll('button, select, input')]
.filter(node => !(node.innerText || node.ariaLabel || (node.labels && node.labels.length)))
.map(node => node.outerHTML)"""
REGIONS = """return [...document.querySelectorAll('section')]
.every(region => document.getElementById(region.getAttribute('aria-labelledby')))"""


def card(name: str) -> str:
    return f"document.querySelector('[aria-label={name}]').innerText"


@pytest.fixture
async def page(needs):
    needs("chromium", "chromedriver")
    async with Browser.start() as browser, browser.page() as page:
        yield page


async def some_traffic(stand):
    """A bit of everything: hits and misses, streams, JSON that had to be asked for again, an outage."""
    for number in range(6):
        await stand.chat(f"number {number % 4}", model="fast", stream=number % 2 == 0)
    await stand.chat("valid", model="llama", response_format=JSON_SCHEMA)
    prose = {**NEVER, "X-Simulate": "not-json", "X-Guardproxy-Schema": "brief"}
    await stand.chat("prose", model="mistral", headers=prose)
    stand.sims["llama"].down()
    for number in range(3):
        await stand.chat(f"call {number}", model="creative", headers={"X-Request-Id": f"moved-{number}"})


async def take_pictures(stand, page):
    """After half a minute of calls that are answered now sooner, now later."""
    for number in range(120):
        slow = f"slow-first-token={0.03 + 0.2 * (number % 7) / 7 * (1 + number % 3):.2f}"
        model = ("qwen", "mistral")[number % 2]
        await stand.chat(f"picture {number}", model=model, stream=True, headers={"X-Simulate": slow})
    looks = {
        "live-light": {"height": 1500},
        "live-dark": {"height": 1500, "dark": True},
        "live-narrow": {"width": 360, "height": 780},
    }
    for name, look in looks.items():
        await page.look(**look)
        await page.run("window.scrollTo(0, 0)")
        await asyncio.sleep(0.5)
        (Path(PICTURES or ".") / f"{name}.png").write_bytes(await page.picture())


@pytest.mark.timeout(180)
async def test_what_it_shows(make, page):
    """An outage, seen: who is up, which circuit, where the ceiling is, what became of each call."""
    stand = await make(SETTINGS)
    await page.look()
    await page.open(f"{stand.admin}/guard/")
    await page.until(LINK, lambda text: text == "live")
    await some_traffic(stand)
    await page.until(ROWS, lambda count: count == 11)
    cards = await page.text("#upstreams")
    for name in ("qwen", "mistral", "llama"):
        assert name in cards
    await page.until(card("llama"), lambda text: "circuit open" in text and re.search(r"next probe\s+in \d+ s", text))
    assert await page.until(CEILING) == "balanced: circuit open"
    assert await page.text("#ladder .at") == "balanced"
    assert "closed → open" in await page.text("#events")
    assert re.search(r"hits\s+\d+ %", await page.text("#cache"))
    assert re.search(r"fallback\s+1\b", await page.text("#json"))
    plot = "document.querySelector('[aria-label=qwen] svg').getAttribute('aria-label')"
    await page.until(plot, lambda text: "p95 –" not in text)
    points = "document.querySelector('[aria-label=qwen] .s95').getAttribute('points')"
    await page.until(points, lambda text: text.count(",") >= 3)

    # A call's steps open and close, from the keyboard.
    await page.run("document.querySelector('#calls button').focus()")
    await page.press("Enter")
    steps = await page.until("document.querySelector('.steps')?.innerText")
    assert "mode creative" in steps
    assert "creative → balanced: circuit_open" in steps
    assert await page.run("return document.activeElement.getAttribute('aria-expanded')") == "true"

    if PICTURES:
        await take_pictures(stand, page)
        return
    await page.run("document.querySelector('#calls button').focus()")
    await page.press("Enter")
    await page.until("document.querySelector('.steps') === null")
    await page.click("#odd")
    shown = await page.run("return [...document.querySelectorAll('#calls > tr')].filter(tr => !tr.hidden).length")
    assert shown == 4  # the fallback and the three that were moved
    # What a caller has written is shown as text, whatever it looks like.
    await stand.chat("markup", model="fast", headers={"X-Request-Id": MARKUP})
    await stand.get(f"/{MARKUP}/v1/models")
    titled = f"[...document.querySelectorAll('#calls button')].some(node => node.title === {json.dumps(MARKUP)})"
    await page.until(titled)
    assert await page.run("return document.querySelectorAll('#calls img').length") == 0

    assert await page.complaints() == []


@pytest.mark.timeout(180)
async def test_how_it_fits(make, page):
    """360 pixels without scrolling sideways, light and dark, quickly there, and nothing but its own."""
    stand = await make(SETTINGS)
    await page.open(f"{stand.app}/guard/")
    await page.until(LINK, lambda text: text == "live")
    await some_traffic(stand)
    await page.until(ROWS, lambda count: count == 11)
    seen = set()
    for dark in (False, True):
        for width in (360, 768, 1280):
            await page.look(width=width, dark=dark)
            wide = await page.run("return document.documentElement.scrollWidth")
            assert wide <= width, (width, wide)
        seen.add(await page.run("return getComputedStyle(document.body).backgroundColor"))
    assert len(seen) == 2
    loaded = await page.run("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert {re.sub(r"^http://[^/]*", "", name) for name in loaded} <= {"/guard/live", "/favicon.ico"}
    # On the app's port nothing can be changed, and the page does not pretend otherwise.
    assert await page.run("return [...document.querySelectorAll('.orders')].every(node => node.hidden)")
    assert "on the admin port only" in await page.text("#may")


@pytest.mark.timeout(180)
async def test_everything_can_be_reached_and_has_a_name(make, page):
    """With the tabulator alone; what can be pressed says what it does; headings and regions are there to jump to."""
    stand = await make(SETTINGS)
    await page.open(f"{stand.admin}/guard/")
    await page.until("document.getElementById('reload').offsetParent !== null")
    await page.until("document.querySelectorAll('article').length", lambda count: count == 3)
    wanted = await page.run(REACHABLE)
    reached = []
    for _ in range(len(wanted) + 1):
        await page.press("Tab")
        reached.append(await page.run("const n = document.activeElement; return n.ariaLabel || n.id || n.innerText"))
    assert set(wanted) <= set(reached)
    assert await page.run(NAMELESS) == []
    assert await page.run(REGIONS)
    assert await page.run("return document.documentElement.lang") == "en"


@pytest.mark.timeout(180)
async def test_orders(make, page):
    """From loopback on the admin port: hold a mode, open a circuit, purge, reload."""
    stand = await make(SETTINGS)
    await stand.chat("kept", model="fast")
    await page.open(f"{stand.admin}/guard/")
    await page.until("document.getElementById('reload').offsetParent !== null")
    await page.run("document.getElementById('mode').value = 'fast'")
    await page.click("#hold button[type=submit]")
    await page.until(CEILING, lambda text: text == "fast: manual (held by hand)")
    await page.click("#release")
    await page.until(CEILING, lambda text: text == "creative, the highest")
    await page.click("[aria-label='Open the circuit of mistral']")
    await page.until(card("mistral"), lambda text: "circuit open, held" in text)
    assert await stand.circuit("mistral") == "open"
    await page.click("#purge")
    await page.until(DONE, lambda text: "1 dropped" in text)
    await page.click("#reload")
    await page.until(DONE, lambda text: text == "POST /guard/reload: done")
    await page.until(LINK, lambda text: text == "live")


@pytest.mark.timeout(180)
async def test_orders_from_elsewhere(make, page):
    """They need the token; a wrong one is refused, and asked for again."""
    address = elsewhere()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    stand = await make(SETTINGS | {"admin": f"{address}:0", "admin_token": "s3cret"})
    await page.open(f"{stand.admin}/guard/")
    await page.until("document.getElementById('token').offsetParent !== null")
    assert await page.run("return [...document.querySelectorAll('.orders')].every(node => node.hidden)")
    for token, then in (("wrong", "Refused: the bearer token is wrong"), ("s3cret", "POST /guard/reload: done")):
        await page.write("#token", token)
        await page.click("#key button")
        await page.click("#reload")
        await page.until(DONE, lambda text, then=then: text == then)
        if token == "wrong":
            await page.until("document.getElementById('token').offsetParent !== null")
    assert (
        await page.run("return document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage)")
        == "{}{}"
    )


# -- without a browser


async def test_its_size_and_its_policy(stand):
    """At most 60 kB; it may run its own script, reach its own origin, and be in nobody's frame."""
    for path in ("/guard", "/guard/"):
        answer = await stand.get(path)
        assert answer.status == 200
        assert len(answer.body) < 60_000
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert not re.search(r"(src|href)=\"(?!/guard|#)", answer.text)
        assert "innerHTML" not in answer.text


async def stream_of(stand, *, admin=True):
    """The first event of the stream."""
    async with stand.session.get((stand.admin if admin else stand.app) + "/guard/live") as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        async for line in response.content:
            if line.startswith(b"data: "):
                return json.loads(line[6:])
    return None


async def test_who_watches_sees_what_has_happened(stand):
    """The first event has the past, each later one what is new; nothing that was said is among it."""
    await stand.chat("a secret", headers={"X-Request-Id": "first"})
    told = await stream_of(stand)
    assert [call["id"] for call in told["calls"]] == ["first"]
    assert told["models"]["llama"]["circuit"]["state"] == "closed"
    assert sum(told["models"]["llama"]["first"]) == 1
    assert "secret" not in json.dumps(told)
    assert (told["may"], (await stream_of(stand, admin=False))["may"]) == ("yes", "port")
    await stand.until(lambda: stand.proxy.sinks.watchers == 0)


async def test_who_is_held_back_is_seen(make):
    """A limit of calls at once, and an upstream that has asked to be left alone."""
    stand = await make({"load": {"enabled": True, "initial": 7}})
    await stand.chat(headers={**NEVER, "X-Simulate": "status=429,retry-after=30"})
    gates = (await stream_of(stand))["models"]["llama"]["gates"]
    assert 1 < gates["load"]["limit"] <= 7
    assert gates["throttle"]["due_in"] > 1
    assert "throttle" not in (await stream_of(stand))["models"]["qwen"]["gates"]


async def test_watchers_are_bounded(stand):
    stand.proxy.sinks.watchers = 16
    answer = await stand.get("/guard/live")
    assert (answer.status, answer.code) == (503, "overloaded")
    stand.proxy.sinks.watchers = 0


async def test_a_watcher_does_not_hold_up_the_end(stand):
    """The stream ends when the proxy begins to."""
    async with stand.session.get(stand.admin + "/guard/live") as response:
        await response.content.readline()
        await asyncio.wait_for(stand.proxy.drain(), 10)
        await response.content.read()

"""Alerts, against a real server that fails first."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
from aiohttp import web

from guardproxy.core.values import News
from guardproxy.net.webhook import QUEUE, Webhook

MODES = ("creative", "balanced", "fast")
OPENED = News(5.0, "circuit", "llama", "closed", "open", "failures")


class Receiver:
    """A server that answers with the given statuses in turn, then with 200; nobody is answered unless it is `awake`."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.got: list[dict[str, Any]] = []
        self.tries = 0
        self.awake = asyncio.Event()
        self.awake.set()
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.tries += 1
        letter = await request.json()
        await self.awake.wait()
        status = self.answers.pop(0) if self.answers else 200
        if status == 200:
            self.got.append(letter)
        if status == 302:
            return web.Response(status=302, headers={"Location": "/elsewhere"})
        return web.Response(status=status)


@pytest.fixture
async def receiver(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    here = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", here.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    here.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield here
    here.awake.set()
    await runner.cleanup()


@pytest.fixture
async def hook(receiver):
    webhook = Webhook(receiver.url, MODES, lambda: 1_700_000_000.25, instance="sidecar-1", backoff=0.001)
    yield webhook
    await webhook.close(0)


async def test_a_letter(receiver, hook):
    """Fields for scripts, a sentence for people."""
    hook.tell(News(5.0, "ceiling", "global", "creative", "balanced", "circuit_open"))
    await hook.close()
    assert receiver.got == [
        {
            "event": "downshift", "at": "2023-11-14T22:13:20.250Z", "from": "creative", "to": "balanced",
            "subject": "global", "reason": "circuit_open", "instance": "sidecar-1",
            "text": "guardproxy sidecar-1: downshift: mode ceiling, creative → balanced (circuit_open)",
        }
    ]  # fmt: skip
    assert hook.failures == 0


@pytest.mark.parametrize(
    "news, event",
    [
        (News(1.0, "ceiling", "global", "balanced", "fast"), "downshift"),
        (News(1.0, "ceiling", "global", "", "fast"), "downshift"),
        (News(1.0, "ceiling", "global", "fast", "balanced"), "recovery"),
        (News(1.0, "ceiling", "global", "balanced", ""), "recovery"),
        (News(1.0, "ceiling", "global", "creative", ""), None),
        (News(1.0, "circuit", "llama", "closed", "open"), "circuit_open"),
        (News(1.0, "circuit", "llama", "half_open", "closed"), "circuit_closed"),
        (News(1.0, "circuit", "llama", "open", "half_open"), None),
        (News(1.0, "health", "llama", "healthy", "unhealthy"), None),
    ],
)
async def test_what_people_are_alerted_to(receiver, hook, news, event):
    """Falls and rises of the ceiling, circuits that open and close; nothing else."""
    hook.tell(news)
    await hook.close()
    assert [letter["event"] for letter in receiver.got] == ([event] if event else [])


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_a_server_that_fails_first(receiver, hook, status):
    """It is tried again, and delivered once."""
    receiver.answers = [status, status, status, status]
    hook.tell(OPENED)
    await hook.close(10)
    assert (len(receiver.got), receiver.tries, hook.failures) == (1, 5, 0)


async def test_after_five_tries_it_has_failed(receiver, hook):
    """The next one is delivered all the same."""
    receiver.answers = [500] * 5
    hook.tell(OPENED)
    hook.tell(News(1.0, "circuit", "qwen", "closed", "open"))
    await hook.close(10)
    assert [letter["subject"] for letter in receiver.got] == ["qwen"]
    assert (receiver.tries, hook.failures) == (6, 1)


@pytest.mark.parametrize("status", [302, 400, 404, 410])
async def test_what_asking_again_would_not_change(receiver, hook, status):
    """One try; a redirect is not followed, for the letter is for this address alone."""
    receiver.answers = [status]
    hook.tell(OPENED)
    await hook.close()
    assert (receiver.tries, len(receiver.got), hook.failures) == (1, 0, 1)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/hook", "http://" + "a" * 70 + ".test/hook", "nonsense"])
async def test_nobody_there(url):
    """No connection is a failure like another; nothing is raised anywhere."""
    webhook = Webhook(url, MODES, lambda: 0.0, backoff=0.001)
    webhook.tell(OPENED)
    await webhook.close(10)
    assert webhook.failures == 1


async def test_telling_never_waits(receiver, hook):
    """The server is asleep; so many news wait, the oldest of them leave, and all that fail are counted."""
    receiver.awake.clear()
    for number in range(QUEUE + 20):
        hook.tell(News(1.0, "circuit", str(number), "closed", "open"))
        await asyncio.sleep(0)
    assert repr(hook) in {f"<Webhook {QUEUE} waiting, {dropped} failed>" for dropped in (19, 20)}
    await hook.close(0.05)
    assert hook.failures == QUEUE + 20
    assert repr(hook) == f"<Webhook 0 waiting, {QUEUE + 20} failed>"


async def test_news_stay_in_order(receiver, hook):
    receiver.answers = [503]
    for number in range(5):
        hook.tell(News(1.0, "circuit", str(number), "closed", "open"))
    await hook.close(10)
    assert [letter["subject"] for letter in receiver.got] == list("01234")


async def test_it_starts_anew_after_a_rest(receiver, hook):
    """The task ends when nothing waits, and holds no connection meanwhile."""
    hook.tell(OPENED)
    await asyncio.wait_for(hook._task, 5)
    hook.tell(OPENED)
    await hook.close()
    assert len(receiver.got) == 2


async def test_after_closing_nothing_is_sent(receiver, hook):
    await hook.close()
    hook.tell(OPENED)
    await hook.close()
    assert (receiver.tries, hook.failures) == (0, 1)


async def test_nothing_in_a_letter_calls_a_channel(receiver, hook):
    """In Slack, `<!channel>` in a text wakes everybody; a reason may hold what an upstream said."""
    hook.tell(News(1.0, "circuit", "llama", "closed", "open", "<!channel> & more"))
    await hook.close()
    assert "&lt;!channel&gt; &amp; more" in receiver.got[0]["text"]
    assert receiver.got[0]["reason"] == "<!channel> & more"


@pytest.mark.parametrize("known", [True, False], ids=["a certificate that is trusted", "one that is not"])
async def test_over_tls_the_receiver_is_verified(known, certs, monkeypatch):
    """Against the certificates of the system, whatever aiohttp was made to believe when it was imported."""
    if known:
        monkeypatch.setenv("SSL_CERT_FILE", str(certs / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / "server.pem")
    here = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", here.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://localhost:{runner.addresses[0][1]}/hook"
    webhook = Webhook(url, MODES, lambda: 1_700_000_000.25, backoff=0.001)
    webhook.tell(OPENED)
    await webhook.close()
    await runner.cleanup()
    assert (len(here.got), webhook.failures) == ((1, 0) if known else (0, 1))

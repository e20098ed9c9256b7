"""When the sinks read what they are told: late, together, and always before anybody looks."""

from __future__ import annotations

from guardproxy.app.sinks import LARGE, MANY
from guardproxy.core.values import News, Record, Reply


def over(stand, **fields):
    """Tell of a call that is over."""
    reply = Reply(200, fields.pop("body", b""), source="upstream")
    now = stand.proxy.desk.last
    stand.proxy.sinks.record(Record(now, ended=now, reply=reply, **fields))


def shown(stand):
    """What the feed has been told, without having the list read first."""
    return len(stand.proxy.sinks.feed.calls())


async def test_what_ends_together_is_told_together(stand):
    """Nothing happens in the call itself; a moment later it is counted, shown and written."""
    over(stand)
    over(stand)
    assert shown(stand) == 0
    await stand.until(lambda: shown(stand) == 2)


async def test_a_list_that_grows_long_is_read_at_once(stand):
    for _ in range(MANY - 1):
        over(stand)
    assert shown(stand) == 0
    over(stand)
    assert shown(stand) == MANY


async def test_a_large_body_is_let_go_at_once(stand):
    """A record holds the bodies of its call: a few large ones must not pile up."""
    over(stand, body=b"x" * (LARGE + 1))
    assert shown(stand) == 1


async def test_news_do_not_wait(stand):
    """And come after the call that caused them."""
    over(stand)
    over(stand, news=[News(0.0, "circuit", "llama", "closed", "open", "failures")])
    assert shown(stand) == 2
    assert stand.proxy.sinks.feed.events()[-1]["to"] == "open"


async def test_counts_are_exact_when_they_are_read(stand):
    """Whoever has his answer is in the next scrape."""
    name = 'guardproxy_requests_total{source="upstream",status="2xx"}'
    before = await stand.metric(name)
    for number in range(1, 6):
        assert (await stand.chat(f"number {number}")).status == 200
        assert await stand.metric(name) == before + number


async def test_nothing_is_lost_at_the_end(stand):
    """What nobody has read yet is written when the proxy closes."""
    over(stand)
    await stand.proxy.close()
    assert [line["msg"] for line in stand.log()][-2:] == ["request", "stopped"]

"""What moves the mode ceiling, and the places that a call may go to."""

from __future__ import annotations

import pytest

from guardproxy.core.units import Seconds
from guardproxy.core.values import Call, News, Record, Reply
from guardproxy.guards.modes import Mode, Modes, Settings
from tests.flow.playbook import NEVER, House, code, header

SETTINGS = Settings(recovery_seconds=Seconds(60), dwell_seconds=Seconds(30))


def circuit(subject: str, new: str, now: float) -> News:
    return News(now, "circuit", subject, "closed", new)


def modes(sick: set[str] | None = None, due: set[str] | None = None, **how) -> Modes:
    """Three modes on upstreams a, b and c; those in *sick* are unavailable."""
    names = {"high": Mode("a"), "middle": Mode("b"), "low": Mode("c")}
    return Modes(
        how.pop("settings", SETTINGS),
        names,
        {name: f"{name}-id" for name in "abcd"},
        available=lambda upstream, _now: upstream not in (sick or ()),
        due=lambda upstream, _now: upstream in (due or ()),
        **how,
    )


def test_a_fall_and_a_rise():
    """Down at once when the circuit opens, up by one step a minute after it has closed."""
    guard = modes()
    news = guard.hear(circuit("a", "open", 100.0), 100.0)
    assert news is not None
    assert (news.old, news.new, news.reason) == ("high", "middle", "circuit_open")
    assert guard.state(100.0)["rises_in"] is None
    assert guard.hear(circuit("a", "closed", 130.0), 130.0) is None
    assert guard.state(150.0) == {
        "ceiling": "middle",
        "modes": ["high", "middle", "low"],
        "reason": "circuit_open",
        "held": False,
        "heard": None,
        "rises_in": 40.0,
    }
    assert list(guard.tick(189.0)) == []
    (news,) = guard.tick(190.0)
    assert (news.old, news.new) == ("middle", "high")
    assert guard.state(190.0)["reason"] is None


def test_only_the_ceilings_own_upstream_counts():
    """A lower mode's outage does not take the higher ones down; the fall comes when it matters, all the way."""
    guard = modes()
    assert guard.hear(circuit("b", "open", 1.0), 1.0) is None
    first = guard.hear(circuit("a", "open", 2.0), 2.0)
    assert first is not None
    second = guard.hear(first, 2.0)  # the story lets it hear its own news
    assert second is not None
    assert guard.hear(second, 2.0) is None
    assert [first.new, second.new] == ["middle", "low"]


def test_no_flapping():
    """Right after a rise the ceiling stays for `dwell_seconds`; then it falls without being asked."""
    guard = modes()
    guard.hear(circuit("a", "open", 0.0), 0.0)
    guard.hear(circuit("a", "closed", 1.0), 1.0)
    assert len(list(guard.tick(61.0))) == 1
    assert guard.hear(circuit("a", "open", 62.0), 62.0) is None
    assert list(guard.tick(90.0)) == []
    assert [news.new for news in guard.tick(91.0)] == ["middle"]


def test_by_hand():
    """Held, the ceiling stands there; what happens meanwhile is heeded when it is let go."""
    guard = modes()
    news = guard.hold("low", 1.0)
    assert news is not None
    assert (news.old, news.new, news.reason) == ("high", "low", "manual")
    assert guard.hold("low", 1.0) is None
    assert guard.hear(circuit("a", "open", 2.0), 2.0) is None
    assert list(guard.tick(3.0)) == []
    assert guard.hold(None, 4.0) is not None
    assert [one.new for one in guard.tick(4.0)] == ["middle"]


def test_the_ceiling_can_be_left_to_people():
    """`auto_downshift: false`: circuits open, the ceiling stays, and calls stay where they were sent."""
    guard = modes(automatic=False)
    assert guard.hear(circuit("a", "open", 1.0), 1.0) is None
    assert list(guard.tick(1.0)) == []
    call = admitted(guard, mode="high", upstream="a")
    assert [target.mode for target in call.targets] == ["high"]


def admitted(guard: Modes, *, mode: str | None, upstream: str, **more) -> Call:
    """A call for *mode*, admitted."""
    house = House()
    call = house.read()
    assert isinstance(call, Call)
    call.mode, call.upstream = mode, upstream
    for name, value in more.items():
        setattr(call, name, value)
    result = guard.admit(call, Record(0.0), 0.0)
    assert isinstance(result, Call)
    return result


@pytest.mark.parametrize(
    "sick, due, asked, order",
    [
        ("", "", "high", "high middle low"),
        ("", "", "middle", "middle low high"),
        ("", "", "low", "low middle high"),
        ("a", "", "high", "middle low high"),
        ("ab", "", "high", "low high middle"),
        ("b", "", "middle", "low high middle"),
        ("bc", "", "middle", "high middle low"),
        ("c", "", "low", "middle high low"),
        ("abc", "", "high", "high middle low"),
    ],
)
def test_the_effective_mode(sick, due, asked, order):
    """The highest available one at or below what was asked for; none below: the nearest above; none: as asked."""
    guard = modes(set(sick), set(due))
    upstream = {"high": "a", "middle": "b", "low": "c"}[asked]
    places = admitted(guard, mode=asked, upstream=upstream).targets
    assert [target.mode for target in places] == order.split()
    assert [target.moved_from for target in places] == ["" if target.mode == asked else asked for target in places]


def test_below_the_ceiling():
    """While the ceiling is down, a call for more gets what there is, and is told why; a due circuit gets its probe."""
    guard = modes()
    guard.hear(circuit("a", "open", 0.0), 0.0)
    places = admitted(guard, mode="high", upstream="a").targets
    assert (places[0].mode, places[0].reason) == ("middle", "circuit_open")
    assert admitted(guard, mode="low", upstream="c").targets[0].mode == "low"
    guard = modes(set(), {"a"})
    guard.hear(circuit("a", "open", 0.0), 0.0)
    assert admitted(guard, mode="high", upstream="a").targets[0].mode == "high"
    guard.hold("middle", 1.0)
    first = admitted(guard, mode="high", upstream="a").targets[0]
    assert (first.mode, first.reason) == ("middle", "manual")


def test_no_modes():
    """Without modes, and for an upstream that serves none, a call goes where it was sent."""
    guard = Modes(SETTINGS, {}, {"a": "a-id"}, available=lambda _u, _n: True, due=lambda _u, _n: False)
    assert [target.model for target in admitted(guard, mode=None, upstream="a").targets] == ["a-id"]
    assert guard.state(0.0) == {"ceiling": None, "modes": []}
    assert guard.hold(None, 0.0) is None
    assert list(guard.tick(0.0)) == []
    assert guard.hear(circuit("a", "open", 0.0), 0.0) is None
    assert [target.upstream for target in admitted(modes(), mode=None, upstream="d").targets] == ["d"]


def test_never_and_by_hand():
    """A caller who wants no other mode cannot have one that an operator has closed: he hears it at once."""
    house = House()
    house.modes.hold("fast", 0.0)
    reply = house.admit(Record(0.0), b'{"model":"creative"}', headers=NEVER)
    assert isinstance(reply, Reply)
    assert (reply.status, code(reply), header(reply, "x-should-retry")) == (503, "circuit_open", "false")


def throttled(subject: str, new: str, now: float) -> News:
    return News(now, "throttle", subject, "open" if new == "held" else "held", new, "throttled")


def test_every_reason_counts():
    """A throttle that lasts and a circuit that opened for slowness lower the ceiling too, and say so."""
    guard = modes()
    news = guard.hear(throttled("a", "held", 0.0), 0.0)
    assert news is not None
    assert (news.new, news.reason, guard.state(0.0)["reason"]) == ("middle", "throttled", "throttled")
    guard.hear(throttled("a", "open", 10.0), 10.0)
    assert guard.state(10.0)["rises_in"] == 60.0
    guard = modes()
    news = guard.hear(News(0.0, "circuit", "a", "closed", "open", "slow"), 0.0)
    assert news is not None
    assert news.reason == "slow"
    assert guard.hear(News(0.0, "health", "a", "healthy", "unhealthy"), 0.0) is None


SCOPED = Settings(recovery_seconds=Seconds(60), dwell_seconds=Seconds(30), scope="upstream")


def test_scope_upstream():
    """Only calls of the mode that is ill are moved: the others' ceiling stays where it is."""
    guard = modes(settings=SCOPED)
    news = guard.hear(circuit("b", "open", 0.0), 0.0)
    assert news is not None
    assert (news.subject, news.old, news.new, news.reason) == ("middle", "middle", "low", "circuit_open")
    assert guard.hear(news, 0.0) is None
    assert guard.state(0.0)["ceiling"] == "high"
    assert guard.state(0.0)["away"] == {"middle": "circuit_open"}
    assert admitted(guard, mode="high", upstream="a").targets[0].mode == "high"
    first = admitted(guard, mode="middle", upstream="b").targets[0]
    assert (first.mode, first.reason) == ("low", "circuit_open")
    guard.hear(circuit("b", "closed", 10.0), 10.0)
    assert list(guard.tick(69.0)) == []
    (news,) = guard.tick(70.0)
    assert (news.old, news.new) == ("low", "middle")
    assert admitted(guard, mode="middle", upstream="b").targets[0].mode == "middle"


def test_the_lowest_mode_has_nowhere_to_go():
    """With `scope: upstream` its calls stay, or go up where it cannot be had; an operator's ceiling still holds."""
    guard = modes({"c"}, settings=SCOPED)
    assert guard.hear(circuit("c", "open", 0.0), 0.0) is None
    assert admitted(guard, mode="low", upstream="c").targets[0].mode == "middle"
    guard.hold("middle", 1.0)
    assert admitted(guard, mode="high", upstream="a").targets[0].mode == "middle"


def test_two_modes_of_one_upstream():
    """Both are told, one after the other, as the story lets the guard hear its own news."""
    names = {"high": Mode("a"), "middle": Mode("a"), "low": Mode("c")}
    guard = Modes(SCOPED, names, {"a": "", "c": ""}, available=lambda _u, _n: True, due=lambda _u, _n: False)
    first = guard.hear(circuit("a", "open", 0.0), 0.0)
    assert first is not None
    second = guard.hear(first, 0.0)
    assert second is not None
    assert guard.hear(second, 0.0) is None
    assert [first.subject, second.subject] == ["high", "middle"]


@pytest.mark.parametrize("dice, mode", [(0.09, "high"), (0.1, "middle")])
def test_a_canary(dice, mode):
    """While the ceiling is on its way back a share of the calls goes ahead; while there is a reason nobody does."""
    canary = Settings(recovery_seconds=Seconds(60), dwell_seconds=Seconds(30), canary=0.1)
    guard = modes(settings=canary, dice=lambda: dice)
    guard.hear(circuit("a", "open", 0.0), 0.0)
    assert admitted(guard, mode="high", upstream="a").targets[0].mode == "middle"
    guard.hear(circuit("a", "closed", 1.0), 1.0)
    assert admitted(guard, mode="high", upstream="a").targets[0].mode == mode
    guard.hold("middle", 2.0)
    assert admitted(guard, mode="high", upstream="a").targets[0].mode == "middle"


TOOLS = {"tools": [{"type": "function"}]}


@pytest.mark.parametrize(
    "can, doc, order",
    [
        ({}, TOOLS, "middle low high"),
        ({"b": ["text"]}, {}, "middle low high"),
        ({"b": ["text"]}, TOOLS, "low high"),
        ({"b": ["text"], "c": ["tools", "context=10"]}, {**TOOLS, "max_tokens": 99}, "high"),
        ({"b": ["tools"], "c": ["tools", "schema"]}, {"response_format": {"type": "json_schema"}}, "low high"),
        ({"b": ["tools"], "a": ["text"]}, TOOLS, "middle low high"),
    ],
)
def test_nobody_is_moved_to_who_cannot_serve(can, doc, order):
    """A mode whose model has no tools, or no room, is no place for a call that needs them; the asked one always is."""
    guard = modes({"a"}, capabilities=can)
    guard.hear(circuit("a", "open", 0.0), 0.0)
    places = admitted(guard, mode="high", upstream="a", doc=doc).targets
    assert [target.mode for target in places] == order.split()
    assert places[0].reason == ("circuit_open" if places[0].moved_from else "")


def test_reloaded():
    """The ceiling and who is away from his mode survive a reload that leaves the modes as they were."""
    old, new = modes(settings=SCOPED), modes(settings=SCOPED)
    old.hear(circuit("a", "open", 0.0), 0.0)
    new.inherit(old)
    assert new.state(1.0)["away"] == {"high": "circuit_open"}
    sick: set[str] = set()
    other = modes(sick)
    other.inherit(new)
    assert admitted(other, mode="high", upstream="a").targets[0].mode == "high"
    sick.add("a")
    assert [news.new for news in other.tick(40.0)] == ["middle"]  # it knows who is ill


def test_reasons_that_nobody_has_any_more():
    """After a reload the guard that had one may be off, or the upstream another: who is well keeps no ceiling down."""
    old = modes({"a"})
    old.hear(circuit("a", "open", 0.0), 0.0)
    for heir, rises in ((modes({"a"}), False), (modes(set(), {"a"}), False), (modes(), True)):
        heir.inherit(old)
        assert list(heir.tick(1.0)) == []
        assert (heir.state(1.0)["rises_in"] is not None) is rises
        assert [news.new for news in heir.tick(70.0)] == ["high"] * rises


def test_who_turns_downshifts_off_is_rid_of_them():
    """A ceiling that moves by itself no more stands at the top, unless it is held by hand."""
    old = modes({"a"})
    old.hear(circuit("a", "open", 0.0), 0.0)
    heir = modes({"a"}, automatic=False)
    heir.inherit(old)
    assert heir.state(1.0)["ceiling"] == "high"
    old.hold("low", 2.0)
    heir = modes(automatic=False)
    heir.inherit(old)
    assert heir.state(3.0)["ceiling"] == "low"


def test_the_news_are_whole():
    """Falls, rises and orders say when, what and from where to where; the places know models, params and caps."""
    names = {"high": Mode("a", {"temperature": 1.0}), "low": Mode("c", {"top_p": 0.5}, {"max_tokens": 9})}
    guard = Modes(SETTINGS, names, {"a": "a-id", "c": "c-id"}, available=lambda _u, _n: True, due=lambda _u, _n: False)
    assert guard.hear(circuit("a", "open", 1.0), 1.0) == News(1.0, "ceiling", "ceiling", "high", "low", "circuit_open")
    guard.hear(circuit("a", "closed", 2.0), 2.0)
    assert guard.state(61.5)["rises_in"] == 0.5
    assert list(guard.tick(62.0)) == [News(62.0, "ceiling", "ceiling", "low", "high", "circuit_open")]
    assert guard.hold("low", 63.0) == News(63.0, "ceiling", "ceiling", "high", "low", "manual")
    (low, high) = admitted(guard, mode="high", upstream="a").targets
    assert (low.model, low.params, low.caps) == ("c-id", {"top_p": 0.5}, {"max_tokens": 9})
    assert (high.model, high.params, high.caps) == ("a-id", {"temperature": 1.0}, {})


def test_why_a_single_call_is_moved():
    """While the ceiling stands, the reason is that of whoever would refuse the upstream; open is what is assumed."""
    asked: list[str] = []

    def why(upstream, _now):
        asked.append(upstream)
        return "unhealthy"

    guard = modes({"b"}, why=why)
    assert admitted(guard, mode="middle", upstream="b").targets[0].reason == "unhealthy"
    assert asked == ["b"]
    assert admitted(modes({"b"}), mode="middle", upstream="b").targets[0].reason == "circuit_open"


def test_room_for_its_tokens():
    """A model with room for exactly what is asked for has room; one token less is too little, and one is some."""
    for room, order in (("context=25", "middle low high"), ("context=24", "low high"), ("context=1", "low high")):
        guard = modes({"a"}, capabilities={"b": [room]})
        places = admitted(guard, mode="high", upstream="a", body=b"x" * 100, doc={}).targets
        assert [target.mode for target in places] == order.split()
    guard = modes({"a"}, capabilities={"b": ["text"]})
    places = admitted(guard, mode="high", upstream="a", wants_schema="brief", doc={}).targets
    assert [target.mode for target in places] == ["low", "high"]


def test_held_lower_than_ill():
    """With `scope: upstream` an operator's ceiling below the mode's own counts, and is the reason."""
    guard = modes(settings=SCOPED)
    guard.hear(circuit("a", "open", 0.0), 0.0)
    guard.hold("low", 1.0)
    first = admitted(guard, mode="high", upstream="a").targets[0]
    assert (first.mode, first.reason) == ("low", "manual")
    reply = guard.admit(fixed_call("middle", "b"), Record(0.0), 2.0)
    assert isinstance(reply, Reply)
    assert (reply.source, reply.code) == ("fault", "circuit_open")
    assert b"mode middle is not to be had: the ceiling is held at low by hand" in reply.body
    kept = guard.admit(fixed_call("low", "c"), Record(0.0), 2.0)
    assert isinstance(kept, Call)


def fixed_call(mode: str, upstream: str) -> Call:
    """A call that may not be moved."""
    call = House().read()
    assert isinstance(call, Call)
    call.mode, call.upstream, call.fixed = mode, upstream, True
    return call

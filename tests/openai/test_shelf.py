"""A schema is made ready once: here where it is light, and elsewhere where nobody can know what it takes."""

from __future__ import annotations

from typing import Any

import pytest

from guardproxy.core.jsonschema import Distant, InvalidSchema, Validator
from guardproxy.openai.shelf import AGAIN, KEPT, KEPT_BYTES, LARGE, ROOM, TURN, Order, Shelf, digest_of
from guardproxy.openai.weighing import Weighing, ask_about, read_about


def flat(size: int, **more: Any) -> dict[str, Any]:
    """A schema of about *size* characters."""
    return {"properties": {f"member {number:06}": {"type": "string"} for number in range(size // 34)}, **more}


def elsewhere(order: Order) -> Any:
    return read_about(Weighing()(ask_about(order.heavy)))


def test_the_last_are_kept():
    """What is asked for again is not made ready again, until others have come in its place."""
    shelf = Shelf()
    first = shelf.validator({"const": 0}, Order(0.0))
    assert isinstance(first, Validator)
    prefix = shelf.prefix(digest_of(b"0"), first, strict=False)
    for number in range(KEPT):
        assert shelf.validator({"const": 0}, Order(0.0)) is first
        assert shelf.prefix(digest_of(b"0"), first, strict=False) is prefix
        other = shelf.validator({"const": [number]}, Order(0.0))
        assert isinstance(other, Validator)
        shelf.prefix(digest_of(b"[%d]" % number), other, strict=False)
    assert len(shelf) == KEPT
    assert repr(shelf).startswith(f"<Shelf of {KEPT} schemas, ")
    for number in range(KEPT):
        shelf.validator({"const": [number]}, Order(0.0))
    assert shelf.validator({"const": 0}, Order(0.0)) is not first


def test_they_do_not_fill_the_memory():
    """Large ones are kept within a bound on their size, not only on their number."""
    shelf = Shelf()
    for number in range(12):
        text = b'{"const":"%d%s"}' % (number, b"x" * (1 << 20))
        shelf.learn([text], None)
    assert len(shelf) == KEPT_BYTES // (1 << 20) - 1


@pytest.mark.parametrize(
    "schema, here",
    [
        (flat(ROOM - 2_000), True),
        (flat(ROOM + 2_000), False),
        ({"pattern": f"a{{{ROOM // TURN - 100}}}"}, True),
        ({"pattern": f"a{{{ROOM // TURN + 100}}}"}, False),
        ({"pattern": r"\p{L}{1,100}"}, False),
    ],
)
def test_what_is_light_is_made_ready_here(schema, here):
    """How much work it is, is known by its length and by its patterns."""
    order = Order(0.0)
    made = Shelf().validator(schema, order)
    assert (made is not None, order.heavy == []) == (here, here)


def test_many_light_ones_are_heavy():
    """There is room for so much in one call, whatever number of tools it is spread over."""
    order, shelf = Order(0.0), Shelf()
    made = [shelf.validator(flat(ROOM // 4, title=str(number)), order) for number in range(20)]
    assert sum(one is not None for one in made) == 20 - len(order.heavy)
    assert 2 <= 20 - len(order.heavy) <= 4


@pytest.mark.parametrize("size, kind", [(ROOM + 2_000, Validator), (LARGE + 8_000, Distant)])
def test_what_was_found_out_elsewhere(size, kind):
    """A schema that is one is made ready here unless it is large; then answers are judged by it elsewhere too."""
    shelf, order, schema = Shelf(), Order(0.0), flat(size)
    assert shelf.validator(schema, order) is None
    assert shelf.is_unknown(order.heavy)
    shelf.learn(order.heavy, elsewhere(order))
    assert not shelf.is_unknown(order.heavy)
    made = shelf.validator(schema, Order(1.0))
    assert type(made) is kind
    assert shelf.validator(schema, Order(2.0)) is made
    assert str(size)[:1] in repr(made) or kind is Validator


def test_many_from_elsewhere_are_made_ready_bit_by_bit():
    """A call that brings many does not hold the loop: by some of them answers are judged elsewhere for now."""
    shelf, order = Shelf(), Order(0.0, room=0)
    tools = [flat(10_000, title=str(number)) for number in range(12)]
    assert [shelf.validator(tool, order) for tool in tools] == [None] * 12
    shelf.learn(order.heavy, elsewhere(order))
    counts = []
    for _ in range(4):
        order = Order(1.0)
        counts.append(sum(type(shelf.validator(tool, order)) is Validator for tool in tools))
    assert counts == [4, 8, 12, 12]


@pytest.mark.parametrize("size", [10, ROOM + 2_000])
def test_what_is_none_is_refused_again(size):
    """What is wrong with it is found out once."""
    shelf, order, schema = Shelf(), Order(0.0), flat(size, minimum="x")
    if size > ROOM:
        assert shelf.validator(schema, order) is None
        shelf.learn(order.heavy, elsewhere(order))
    for now in (0.0, 1e6):
        with pytest.raises(InvalidSchema) as wrong:
            shelf.validator(schema, Order(now))
        assert (wrong.value.place, wrong.value.code) == ("/minimum", "invalid_schema")
    assert len(order.heavy) == (size > ROOM)


def test_what_took_too_long_is_tried_again_later():
    """A schema that could not be made ready in time is refused for a while, so that it costs nobody else anything."""
    shelf, order, schema = Shelf(), Order(0.0, seconds=2), flat(LARGE)
    shelf.validator(schema, order)
    shelf.learn(order.heavy, None)
    for now in (1.0, AGAIN):
        with pytest.raises(InvalidSchema, match="within 2 s") as wrong:
            shelf.validator(schema, Order(now, seconds=2))
        assert wrong.value.code == "schema_too_deep"
    order = Order(AGAIN + 1.0)
    assert shelf.validator(schema, order) is None
    assert order.heavy

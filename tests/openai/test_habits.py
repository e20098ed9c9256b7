"""Nobody is interrupted while he thinks aloud of whom it has not been seen that he never does."""

from __future__ import annotations

from guardproxy.openai.habits import ENOUGH, KEPT, Habits

WHO = ("llama", b"1")


def seen(*beginnings: bool) -> Habits:
    habits = Habits()
    for at_once in beginnings:
        habits.note(WHO, at_once=at_once)
    return habits


def test_some_answers_in_a_row():
    """A habit is what has been seen some times running; one exception, and it has to be seen anew."""
    assert not seen().terse(WHO)
    assert not seen(*[True] * (ENOUGH - 1)).terse(WHO)
    assert seen(*[True] * ENOUGH).terse(WHO)
    assert seen(*[True] * 100).terse(WHO)
    assert not seen(*[True] * 100, False).terse(WHO)
    assert not seen(*[True] * ENOUGH, False, *[True] * (ENOUGH - 1)).terse(WHO)


def test_a_habit_is_of_one_model_and_one_schema():
    """The same model may think aloud where another prompt tells it to."""
    habits = seen(*[True] * ENOUGH)
    assert not habits.terse(("llama", b"2"))
    assert not habits.terse(("qwen", b"1"))


def test_bounded():
    """Those last heard of are remembered."""
    habits = seen(*[True] * ENOUGH)
    for number in range(KEPT):
        habits.note(("qwen", b"%d" % number), at_once=True)
    assert repr(habits) == f"<Habits of {KEPT}>"
    assert not habits.terse(WHO)

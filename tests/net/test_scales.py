"""A question that takes too much is given up, alone: the loop, and whoever asks next, notice nothing of it."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from guardproxy.core.jsonschema import compile as compile_schema
from guardproxy.net.scales import PLACES, Scales
from guardproxy.openai import weighing
from guardproxy.openai.judge import FINE, Judged, Question

OBJECT = compile_schema({"type": "object", "required": ["x"]})
EVIL = compile_schema({"items": {"anyOf": [{"pattern": r"^(a|aa)+\1$"}, {"type": "string"}]}})
"""A tenth of a millisecond and more for each text, and none of them fits."""


def asked(text, check=OBJECT, *, mend=True):
    return weighing.ask([Question(text, check)], mend=mend)


def evil(texts):
    return asked(json.dumps(["a" * 15 + "!"] * texts), EVIL)


@pytest.fixture
async def scales():
    made = Scales(asyncio.get_running_loop(), seconds=20)
    yield made
    await made.close()
    assert repr(made) == "<Scales 0 busy, 0 idle>"


def gone(pid):
    """Whether a process has ended and been noticed by its parent."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def environment(pid):
    """The environment of a process, where the system tells."""
    place = Path(f"/proc/{pid}/environ")
    return place.read_text() if place.exists() else ""


async def test_what_is_judged_there_is_judged_as_here(scales):
    """The same findings as in this process, for several questions at once, and the process serves for the next ones."""
    questions = [
        Question('{"x": 1}', OBJECT),
        Question("{}", OBJECT, "what is given to the tool f"),
        Question('```json\n{"x": 1}\n```', OBJECT),
        Question("[]", None),
        Question('{"x": 2}', OBJECT, aside=True),
        Question('{"x": 1e999, "n": 123456789012345678901234567890}', compile_schema({"const": 10**400})),
    ]
    for mend in (True, False):
        answer = await scales.weigh(weighing.ask(questions, mend=mend))
        assert answer is not None
        assert answer == weighing.Weighing()(weighing.ask(questions, mend=mend))
        found = weighing.read(answer)
        assert found[0] == FINE
        assert found[1].problem.startswith("what is given to the tool f does not satisfy the schema: ")
        assert found[2] == (Judged(mended='{"x": 1}') if mend else found[2])
        assert found[4] == Judged(mended='{"x": 2}')
    assert repr(scales) == "<Scales 0 busy, 1 idle>"


async def test_too_slow(scales):
    """A question beyond its time is answered with None, its process is gone, and the next one gets a fresh one."""
    scales.seconds = 0.3
    assert await scales.weigh(evil(200_000)) is None
    scales.seconds = 20
    answer = await scales.weigh(asked("{}"))
    assert answer is not None
    assert "required" in weighing.read(answer)[0].problem or "x" in weighing.read(answer)[0].problem


async def test_too_much_memory(scales):
    """So it is with one that takes more memory than there is for it."""
    scales.memory = 48 << 20
    assert await scales.weigh(asked("[" + "[]," * 3_000_000 + "[]]", EVIL)) is None
    assert await scales.weigh(asked('{"x": 1}')) is not None


async def test_the_loop_is_free_meanwhile(scales):
    """While a slow question is judged the loop does other things."""
    slow = asyncio.create_task(scales.weigh(evil(4_000)))
    turns = 0
    while not slow.done():
        await asyncio.sleep(0.005)
        turns += 1
    assert weighing.read(slow.result() or b"[]") == [FINE]
    assert turns > 10


async def test_who_waits_does_so_until_his_deadline(scales):
    """When all places are taken the next one waits, and no longer than somebody waits for it."""
    slow = [asyncio.create_task(scales.weigh(evil(200_000))) for _ in range(PLACES)]
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    assert await scales.weigh(asked("{}"), loop.time() + 0.05) is None
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    assert await scales.weigh(asked('{"x": 1}')) is not None


async def test_nobody_is_left_behind(scales):
    """A caller who leaves takes the process with him that judged for him; closing ends those that rest."""
    await scales.weigh(asked("{}"))
    (process, _), *_ = scales._idle
    task = asyncio.create_task(scales.weigh(evil(200_000)))
    while not scales._busy:  # noqa: ASYNC110 -- nobody tells a test when a process has been started
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await scales.close()
    assert gone(process.pid)


async def test_it_inherits_nothing(scales, monkeypatch):
    """Secrets in the environment are not passed on to a process that works on what strangers sent."""
    monkeypatch.setenv("API_KEY", "secret")
    await scales.weigh(asked("{}"))
    (process, _), *_ = scales._idle
    assert "API_KEY" not in environment(process.pid)


def kernel_says(pid, name):
    """What Linux says of a process; nothing elsewhere."""
    place = Path(f"/proc/{pid}/{name}")
    return place.read_text().strip() if place.exists() else ""


async def test_it_is_the_first_to_go(scales):
    """Where memory runs out the kernel ends the process that judges, and not the proxy."""
    await scales.weigh(asked("{}"))
    (process, _), *_ = scales._idle
    assert kernel_says(process.pid, "oom_score_adj") in ("1000", "")


async def test_a_system_that_has_no_process_left(scales, monkeypatch):
    """Where none can be started nothing is judged: the answer counts as not valid."""

    async def refuse(*_args, **_more):
        raise BlockingIOError

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    assert await scales.weigh(asked("{}")) is None


async def test_a_process_that_has_kept_too_much(scales):
    """Who runs out of memory for what he has kept is followed by a fresh one, which answers; nobody notices."""
    scales.memory = 96 << 20
    schemas = [compile_schema({"pattern": rf"^[\p{{L}}\p{{N}}]{{0,{300 + number}}}$"}) for number in range(6)]
    for check in schemas:
        answer = await scales.weigh(asked('"abc"', check))
        assert answer is not None
        assert weighing.read(answer) == [FINE]
    assert repr(scales) == "<Scales 0 busy, 1 idle>"

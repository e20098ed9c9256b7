"""No answer passes that breaks the schema it was asked for with."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from guardproxy.core.heft import LIGHT
from guardproxy.core.jsonschema import InvalidSchema
from guardproxy.core.steps import Weigh
from guardproxy.core.values import Answer, Call, Record, Reply, Verdict
from guardproxy.guards.schema import JsonGuard, Settings
from guardproxy.openai.schemas import declare
from guardproxy.openai.shelf import KEPT
from guardproxy.openai.weighing import Weighing
from tests.flow.playbook import GUARDED, SCHEMA, House, answered, code, completion, said

OBJECT = {"type": "json_object"}


def asked(doc: dict, **how) -> Call | Reply:
    return House(fallback={"x": 7}).admit(Record(0.0), json.dumps({"model": "creative", **doc}).encode(), **how)


def wanted(schema: object, **more: object) -> dict:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, **more}}}


@pytest.mark.parametrize(
    "doc", [{}, {"response_format": None}, {"response_format": {"type": "text"}}, {"response_format": {}}]
)
def test_who_asks_for_nothing_is_not_judged(doc):
    """No schema, no verdict, and a stream may leave as it comes."""
    call = asked(doc)
    assert isinstance(call, Call)
    assert (call.schema, call.whole) == (None, False)


@pytest.mark.parametrize(
    "doc, headers, name",
    [
        ({"response_format": OBJECT}, (), "json_object"),
        (wanted(SCHEMA), (), "n"),
        ({}, GUARDED, "brief"),
        ({"response_format": OBJECT}, GUARDED, "brief"),
    ],
)
def test_where_a_schema_comes_from(doc, headers, name):
    """The caller's header or his route, else his `response_format`; then the whole answer is waited for."""
    call = asked(doc, headers=headers)
    assert isinstance(call, Call)
    assert call.schema is not None
    assert (call.schema.name, call.whole) == (name, True)


@pytest.mark.parametrize(
    "schema, says",
    [
        (3, "invalid_schema"),
        (None, "invalid_schema"),
        ({"type": "nonsense"}, "invalid_schema"),
        ({"$ref": "http://example.com/s.json"}, "invalid_schema"),
        ({"$ref": "file:///etc/passwd"}, "invalid_schema"),
        ({"$schema": 3}, "invalid_schema"),
        ({"minimum": 10**40}, None),
        ({"const": 10**40}, None),
    ],
)
def test_a_schema_that_is_none(schema, says):
    """400 before anybody is asked, and nothing is fetched from anywhere; numbers may be as large as they like."""
    got = asked(wanted(schema))
    if says is None and isinstance(got, Call):
        return
    assert isinstance(got, Reply)
    assert (got.status, code(got)) == (400, says or "invalid_schema")
    assert json.loads(got.body)["error"]["param"] == "response_format"


def test_an_unknown_name():
    """The message lists those there are."""
    reply = asked({}, headers=[("X-Guardproxy-Schema", "nobody")])
    assert isinstance(reply, Reply)
    assert (reply.status, code(reply)) == (400, "invalid_schema")
    assert "brief" in json.loads(reply.body)["error"]["message"]


def test_what_cannot_be_judged_is_not():
    """Embeddings and relayed calls have no text."""
    call = asked({"response_format": OBJECT, "input": "x"}, target="/v1/embeddings", headers=GUARDED)
    assert isinstance(call, Call)
    assert call.schema is None


def judged(answer: Answer, doc: dict | None = None, settings: Settings | None = None, **how):
    house = House(json_guard=settings, fallback={"x": 7})
    call = house.admit(Record(0.0), json.dumps({"model": "creative", **(doc or {})}).encode(), **how)
    assert isinstance(call, Call)
    assert call.dialect is not None
    read = call.dialect.examine(call, answer)
    assert isinstance(read, Answer)
    return house.json.judge(call, read)


@pytest.mark.parametrize(
    "text, note",
    [
        ('{"x": 1}', None),
        (' \n{"x": 1, "y": [null]} ', None),
        ("{}", "does not satisfy the schema"),
        ('{"x": "1"}', "does not satisfy the schema"),
        ('{"x": 1} and more', "not valid JSON"),
        ('```json\n{"x": 1}\n```', "not valid JSON"),
        ('{"x": 1, "x": 2}', "not valid JSON"),
        ('{"x": NaN}', "not valid JSON"),
        ('{"x": 1, "y": 1e999}', "not valid JSON"),
        ('{"x": 1', "not valid JSON"),
        ("", "not valid JSON"),
        (None, "not valid JSON"),
        ('{"x": 1, "y": "\\ud800"}', "not valid JSON"),
        ("[" * 5000, "not valid JSON"),
    ],
)
def test_the_verdict(text, note):
    """JSON as strict readers have it, and nothing but it; a note says what is wrong in words for the model."""
    verdict = judged(said(1.0, text), headers=GUARDED, settings=Settings(repair=False))
    assert verdict.note is None if note is None else note in verdict.note
    assert (verdict.label, verdict.flawed) == (("valid", False) if note is None else ("invalid", True))


def test_tool_calls_say_nothing():
    """An answer that calls a tool instead of speaking is not judged; among others those that speak are."""
    assert judged(said(1.0, None, tool_calls=[{"id": "t"}]), headers=GUARDED).label == "unchecked"
    doc = completion("{}")
    doc["choices"].append({"index": 1, "message": {"tool_calls": [{}]}, "finish_reason": "tool_calls"})
    verdict = judged(answered(1.0, 200, json.dumps(doc).encode()), headers=GUARDED)
    assert verdict.note.startswith("choice 0: it does not satisfy")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('```json\n{"x": 1}\n```', id="fence"),
        pytest.param('Here you are: {"x": 1}. Enjoy!', id="prose"),
        pytest.param('<think>an x, then</think>{"x": 1}', id="thoughts"),
        pytest.param("{'x': 1,}", id="syntax"),
    ],
)
def test_what_can_be_mended_is_not_asked_again(text):
    """JSON that an answer holds is taken out of it, without tokens; it still counts as an answer that was not valid."""
    verdict = judged(said(1.0, text), headers=GUARDED)
    assert (verdict.label, verdict.note, verdict.flawed) == ("repaired", None, True)
    assert json.loads(json.loads(verdict.answer.body)["choices"][0]["message"]["content"]) == {"x": 1}


def test_what_was_said_beside_an_empty_text():
    """An engine that puts the answer into a reasoning field is understood."""
    verdict = judged(said(1.0, "", reasoning_content='{"x": 1}'), headers=GUARDED)
    assert verdict.label == "repaired"
    assert json.loads(verdict.answer.body)["choices"][0]["message"]["content"] == '{"x": 1}'


def test_the_arguments_of_tools():
    """What a model gives to a tool must be what the tool takes; what can be mended is."""
    tools = {"tools": [{"type": "function", "function": {"name": "find", "parameters": SCHEMA}}]}

    def given(arguments: str):
        return judged(
            said(1.0, None, tool_calls=[{"id": "t", "function": {"name": "find", "arguments": arguments}}]), tools
        )

    assert given('{"x": 1}').label == "valid"
    assert "find" in given("{}").note
    mended = given('```json\n{"x": 1}\n```')
    call = json.loads(mended.answer.body)["choices"][0]["message"]["tool_calls"][0]
    assert (mended.label, call["function"]["arguments"], call["id"]) == ("repaired", '{"x": 1}', "t")
    assert judged(said(1.0, "no tool is needed"), tools) is None


def test_any_object():
    """`json_object` asks for an object, and no more."""
    assert judged(said(1.0, "{}"), {"response_format": OBJECT}).label == "valid"
    assert "not a JSON object but list" in judged(said(1.0, "[]"), {"response_format": OBJECT}).note


def test_lenient():
    """`strict_schema: false`: the wrong shape passes, flawed; what is no JSON does not."""
    lenient = Settings(strict_schema=False)
    verdict = judged(said(1.0, "{}"), settings=lenient, headers=GUARDED)
    assert (verdict.label, verdict.note, verdict.flawed) == ("unchecked", None, True)
    assert judged(said(1.0, "no"), settings=lenient, headers=GUARDED).note is not None


def test_many_problems_are_told_briefly():
    """The model is not told of a hundred choices at once."""
    doc = completion("no")
    doc["choices"] = [{**doc["choices"][0], "index": number} for number in range(100)]
    assert judged(answered(1.0, 200, json.dumps(doc).encode()), headers=GUARDED).note.count("choice ") == 5


def test_fallbacks():
    """As declared, for the schema of that name; for an app's own of that name only if it satisfies that too."""
    house = House(fallback={"x": 7})

    def rescued(doc: dict, **how) -> Reply | None:
        record = Record(0.0)
        call = house.admit(record, json.dumps({"model": "creative", **doc}).encode(), **how)
        assert isinstance(call, Call)
        return house.json.rescue(call, record, 5.0)

    reply = rescued({}, headers=GUARDED)
    assert reply is not None
    doc = json.loads(reply.body)
    assert (doc["choices"][0]["message"]["content"], doc["created"], doc["model"]) == ('{"x":7}', 1005, "creative")
    assert rescued(wanted(SCHEMA, name="brief")) is not None
    assert rescued(wanted({"type": "object", "required": ["y"]}, name="brief")) is None
    assert rescued(wanted(SCHEMA)) is None
    assert rescued(wanted(SCHEMA, name=["odd"])) is None
    assert rescued({"response_format": OBJECT}) is None
    assert rescued({}) is None
    house.json.settings = Settings(fallback_enabled=False)
    assert rescued({}, headers=GUARDED) is None


def test_declared():
    """A fallback that breaks its own schema is found at start, not in the outage."""
    with pytest.raises(ValueError, match="x"):
        declare("n", SCHEMA, {"y": 1})
    with pytest.raises(InvalidSchema):
        declare("n", {"type": "nonsense"}, None)
    assert declare("n", SCHEMA, None).fallback is None
    assert declare("n", {"const": 10**30}, 10**30).fallback == b"1" + b"0" * 30
    assert declare("a", SCHEMA, None).digest == declare("b", dict(SCHEMA), None).digest


def test_schemas_are_compiled_once():
    """The same schema in the next request costs nothing; many different ones do not fill the memory."""
    guard = JsonGuard(Settings(), {})
    house = House()
    call = house.read()
    assert isinstance(call, Call)
    for number in range(KEPT + 10):
        call.doc = wanted({"const": number})
        guard.admit(call, Record(0.0), 0.0)
    assert len(guard._schemas.shelf) == KEPT
    first = call.schema
    guard.admit(call, Record(0.0), 0.0)
    assert first is not None
    assert call.schema is not None
    assert call.schema.check is first.check


@pytest.mark.parametrize(
    "settings, doc, reads",
    [
        ({}, {}, True),
        ({}, {"stream": True}, True),
        ({"early_abort": False}, {}, False),
        ({"strict_schema": False}, {}, False),
        ({"stream_validation": "upstream_nonstream"}, {"stream": True}, False),
        ({"stream_validation": "upstream_nonstream"}, {}, True),
        ({}, {"best_of": 2}, False),
        ({}, {"response_format": OBJECT}, False),
    ],
)
def test_who_is_read_along(settings, doc, reads):
    """Wherever a schema can be checked as it grows and nothing forbids to stream."""
    house = House(json_guard=Settings(**settings))
    body = json.dumps({"model": "creative", **wanted(SCHEMA), **doc}).encode()
    call = house.admit(Record(0.0), body)
    assert isinstance(call, Call)
    assert (house.json.watch(call, call.targets[0]) is not None) is reads


def test_an_upstream_can_be_left_alone():
    """`early_abort: false` of an upstream: nobody reads along there, whatever holds for the others."""
    house = House()
    call = house.admit(Record(0.0), json.dumps({"model": "creative", **wanted(SCHEMA)}).encode())
    assert isinstance(call, Call)
    guard = JsonGuard(Settings(), {}, unwatched=frozenset({"llama"}))
    first, second, *_ = call.targets
    assert (first.upstream, guard.watch(call, first), guard.watch(call, second) is None) == ("llama", None, False)


def test_state():
    """Settings, and which schemas have a fallback."""
    assert House(fallback={"x": 7}).json.state(0.0) == {
        "max_retries": 3,
        "backoff_base": 1.0,
        "jitter": 0.5,
        "fallback_enabled": True,
        "strict_schema": True,
        "schemas": {"brief": {"fallback": True}},
    }


SHADOW = Settings(enabled="shadow")


@pytest.mark.parametrize("text", ['{"x": "1"}', '```json\n{"x": 1}\n```', "no"])
def test_in_shadow_it_only_counts(text):
    """`enabled: shadow`: what is wrong is counted, and passes as it came."""
    verdict = judged(said(1.0, text), wanted(SCHEMA), SHADOW)
    assert isinstance(verdict, Verdict)
    assert (verdict.label, verdict.note, verdict.answer, verdict.flawed) == ("unchecked", None, None, True)
    assert judged(said(1.0, '{"x": 1}'), wanted(SCHEMA), SHADOW) == Verdict("valid")


def test_in_shadow_nothing_is_changed():
    """Nothing is refused, held, read along or answered in its place."""
    house = House(json_guard=SHADOW, fallback={"x": 7})
    bad = house.admit(Record(0.0), json.dumps({"model": "creative", **wanted({"type": "nonsense"})}).encode())
    assert isinstance(bad, Call)
    assert bad.schema is None
    for stream in (False, True):
        body = {"model": "creative", "stream": stream, **wanted(SCHEMA, name="brief")}
        call = house.admit(Record(0.0), json.dumps(body).encode())
        assert isinstance(call, Call)
        assert (call.whole, call.keep) == (False, True)
        assert house.json.rescue(call, Record(0.0), 0.0) is None


def weighed(text: str, said_there: bytes | None = None, **how) -> Verdict | None:
    weigh = judged(said(1.0, text), wanted(SCHEMA), **how)
    assert isinstance(weigh, Weigh)
    assert weigh.until == 600.0
    return weigh.then(Weighing()(weigh.question) if said_there is None else said_there or None)


def test_much_work_is_put_as_a_question():
    """A long answer, or one by a schema that makes much work, is judged elsewhere, to the same verdict."""
    long = '{"x": 1, "y": "' + "y" * LIGHT + '"}'
    assert weighed(long) == Verdict("valid")
    mended = weighed(f"```json\n{long}\n```")
    assert mended is not None
    assert mended.answer is not None
    assert mended.label == "repaired"
    wrong = weighed(long.replace("1", '"1"'))
    assert wrong is not None
    assert "x: expected a whole number" in str(wrong.note)


def test_what_could_not_be_judged_is_not_valid():
    """Too much time or memory: the next rung, and in shadow nothing but a count."""
    long = '{"x": 1, "y": "' + "y" * LIGHT + '"}'
    verdict = weighed(long, b"")
    assert verdict is not None
    assert verdict.flawed
    assert "could not be checked within 2 s" in str(verdict.note)
    assert weighed(long, b"", settings=SHADOW) == Verdict("unchecked", flawed=True)


PROSE = "I think of a summer night by the sea. " * 20


def reads(
    house: House, text: str, *, asked_again: int = 0, schema: object = SCHEMA, model: str = "creative"
) -> str | None:
    """What somebody who reads along says to *text*."""
    call = house.admit(Record(0.0), json.dumps({"model": model, **wanted(schema)}).encode())
    assert isinstance(call, Call)
    watcher = house.json.watch(replace(call, asked_again=asked_again), call.targets[0])
    assert watcher is not None
    return watcher({"choices": [{"index": 0, "delta": {"content": text}}]})


def answers(house: House, *texts: str, model: str = "creative") -> None:
    """Have a model answer."""
    call = house.admit(Record(0.0), json.dumps({"model": model, **wanted(SCHEMA)}).encode())
    assert isinstance(call, Call)
    assert call.dialect is not None
    for text in texts:
        answer = call.dialect.examine(call, said(1.0, text))
        assert isinstance(answer, Answer)
        assert isinstance(house.json.judge(call, answer), Verdict)


DOCUMENT = '{"x": 1}'


def test_who_thinks_aloud_is_waited_for():
    """Of whom nothing has been seen yet may write for pages before his document; it is taken out of them."""
    house = House()
    assert reads(house, PROSE * 100) is None
    answers(house, *[PROSE + "</think>" + DOCUMENT] * 5)
    assert reads(house, PROSE * 100) is None


def test_who_never_does_is_interrupted_once():
    """Who has always come to the document at once and writes an essay has gone astray; asked again he may write."""
    house = House()
    answers(house, DOCUMENT, f"```json\n{DOCUMENT}\n```", DOCUMENT)
    assert "only" in str(reads(house, PROSE))
    assert reads(house, PROSE, asked_again=1) is None
    assert reads(house, "Here it is: " + DOCUMENT) is None
    assert reads(house, PROSE, schema={"type": "array"}) is None
    assert reads(house, PROSE, model="fast") is None
    answers(house, PROSE + DOCUMENT)
    assert reads(house, PROSE) is None


def test_what_is_wrong_is_no_habit():
    """Answers that hold no document say nothing of how this model begins one."""
    house = House()
    answers(house, *[PROSE] * 5, '{"x": "y"}')
    assert reads(house, PROSE) is None


def test_the_model_is_told_of_one_choice_at_a_time():
    """It is shown the choice that is wrong, with what is wrong with that; the app hears of all."""
    house = House()
    call = house.admit(Record(0.0), json.dumps({"model": "creative", "n": 3, **wanted(SCHEMA)}).encode())
    assert isinstance(call, Call)
    choices = [{"index": i, "message": {"content": text}} for i, text in enumerate(('{"x": 1}', '{"x": "y"}', "{"))]
    verdict = house.json.judge(call, Answer(0.0, 200, [], b"", doc={"choices": choices}))
    assert isinstance(verdict, Verdict)
    assert verdict.wrong is not None
    assert verdict.wrong.choice == 1
    assert verdict.wrong.note == 'it does not satisfy the schema: x: expected a whole number, got "y"'
    assert "choice 1: " in str(verdict.note)
    assert "choice 2: " in str(verdict.note)

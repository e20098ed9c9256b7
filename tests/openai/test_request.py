"""The fields of a request body that the proxy itself reads."""

from __future__ import annotations

import pytest

from guardproxy.openai.request import Unreadable, choices_wanted, read, wants_usage


@pytest.mark.parametrize(
    "body, code, param",
    [
        (b"", "invalid_json", None),
        (b"{", "invalid_json", None),
        (b'{"a":1,"a":2}', "invalid_json", None),
        (b'{"a":NaN}', "invalid_json", None),
        (b'{"a":"\\ud800"}', "invalid_json", None),
        (b"[" * 100_000, "invalid_json", None),
        (b"[]", "invalid_request", None),
        (b"null", "invalid_request", None),
        (b'"x"', "invalid_request", None),
        (b"1.5", "invalid_request", None),
        (b'{"model":3}', "invalid_request", "model"),
        (b'{"stream":"yes"}', "invalid_request", "stream"),
        (b'{"stream":1}', "invalid_request", "stream"),
        (b'{"n":true}', "invalid_request", "n"),
        (b'{"n":1.0}', "invalid_request", "n"),
        (b'{"response_format":"json"}', "invalid_request", "response_format"),
        (b'{"stream_options":[]}', "invalid_request", "stream_options"),
    ],
)
def test_refused(body, code, param):
    """Before any model is asked, the app is told what is wrong, and with which field."""
    with pytest.raises(Unreadable) as wrong:
        read(body)
    assert (wrong.value.code, wrong.value.param) == (code, param)


def test_read():
    """What is null is as good as left out; what nobody here reads may be anything."""
    doc = read(b'{"model":null,"stream":null,"n":null,"temperature":"hot"}')
    assert doc["temperature"] == "hot"


@pytest.mark.parametrize("doc, count", [({}, 1), ({"n": 3}, 3), ({"n": 0}, 1), ({"n": -1}, 1), ({"n": None}, 1)])
def test_choices(doc, count):
    """One, unless more are asked for."""
    assert choices_wanted(doc) == count


@pytest.mark.parametrize(
    "options, wants", [(None, False), ({}, False), ({"include_usage": 1}, False), ({"include_usage": True}, True)]
)
def test_usage(options, wants):
    """Only `true` asks for the usage chunk: some SDKs break over one that they did not ask for."""
    assert wants_usage({"stream_options": options}) is wants

"""The checklist as CI servers read it."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from guardproxy.checklist.junit import junit

RESULT = {
    "safe": False,
    "config": "0123456789ab",
    "checks": [
        {"name": "Circuit Breaker", "ok": True, "detail": "ALL BREAKERS CLOSED"},
        {"name": "LLM Health Check", "ok": False, "detail": 'llama is <unhealthy> & says "no"\x00'},
    ],
}


def test_one_case_for_each_check():
    suite = ET.fromstring(junit(RESULT, "http://127.0.0.1:8000", 1.25).encode())  # noqa: S314 -- our own words
    assert suite.attrib == {
        "name": "guardproxy verify", "tests": "2", "failures": "1", "errors": "0", "skipped": "0", "time": "1.250",
        "hostname": "http://127.0.0.1:8000",
    }  # fmt: skip
    assert suite.find("properties/property").attrib == {"name": "config", "value": "0123456789ab"}  # type: ignore[union-attr]
    well, ill = suite.findall("testcase")
    assert (well.get("name"), well.findtext("system-out")) == ("Circuit Breaker", "ALL BREAKERS CLOSED")
    assert ill.find("failure").get("message") == 'llama is <unhealthy> & says "no"\ufffd'  # type: ignore[union-attr]


def test_no_answer_is_an_error_not_a_success():
    suite = ET.fromstring(junit({}, "http://x", 0.0, "no answer from http://x"))  # noqa: S314 -- our own words
    assert (suite.get("tests"), suite.get("errors"), suite.get("failures")) == ("1", "1", "0")
    assert suite.find("testcase/error").get("message") == "no answer from http://x"  # type: ignore[union-attr]

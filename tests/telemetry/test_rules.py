"""The alert rules: each is known to fire and known not to, and each has a page that says what to do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "config/alerts.yaml"
TESTS = Path(__file__).parent / "rules.yaml"
WORDS = {"circuit_open", "circuit_breaker", "circuit_breaker_open"}
"""Reasons and settings."""
SECTIONS = ["What it means", "What callers notice", "Look at", "Do", "When it fires"]


def rules(kind: str) -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


def tried(kind: str) -> list[dict[str, Any]]:
    return [one for group in yaml.safe_load(TESTS.read_text())["tests"] for one in group.get(kind, ())]


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("command", [("check", "rules", str(RULES)), ("test", "rules", str(TESTS))])
def test_promtool(command):
    done = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", rules("alert"))
def test_every_alert_is_known_to_fire_and_not_to(alert):
    expected = [bool(one["exp_alerts"]) for one in tried("alert_rule_test") if one["alertname"] == alert]
    assert set(expected) == {True, False}


def test_every_recorded_series_is_looked_at():
    looked_at = " ".join(one["expr"] for one in tried("promql_expr_test"))
    assert [name for name in rules("record") if name not in looked_at] == []


@pytest.mark.parametrize("alert", rules("alert"))
def test_every_alert_has_its_page(alert):
    """It is linked in the alert, says the same things in the same order, and quotes the rule as it is."""
    rule = rules("alert")[alert]
    page = ROOT / rule["annotations"]["runbook_url"]
    text = page.read_text()
    assert text.startswith(f"# {alert}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert rule["expr"] in text
    assert f"`{rule['for']}`" in text


def test_there_is_no_page_without_an_alert():
    pages = {page.stem for page in (ROOT / "docs/runbooks").glob("*.md")} - {"README"}
    assert pages == set(rules("alert"))


def test_the_pages_name_metrics_that_there_are():
    """What a page tells one to look at can be looked at."""
    known = (ROOT / "docs/metrics.md").read_text() + RULES.read_text()
    for page in (ROOT / "docs/runbooks").glob("*.md"):
        for name in re.findall(r"\b(?:guardproxy|llm|cache|circuit)_[a-z_]+\b", page.read_text()):
            assert name.removesuffix("_bucket") in known or name in WORDS, f"{page.name}: {name}"

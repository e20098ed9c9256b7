"""The text of the metrics: both languages, the names of the manual and of docs/metrics.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from guardproxy.core.values import Record, Reply
from guardproxy.telemetry.exposition import OPENMETRICS, PLAIN, exposition, registry_of
from guardproxy.telemetry.gauges import Gauges, Readings
from guardproxy.telemetry.metrics import Metrics

UPSTREAMS = ("qwen", "mistral", "llama")
MODES = ("creative", "balanced", "fast")
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_2_TEXT = "text/plain;version=0.0.4;q=0.5,application/openmetrics-text;version=1.0.0;q=0.2,*/*;q=0.1"

# Every expression of the operators' manual, as it stands there.
MANUAL = """\
rate(llm_json_parse_failures_total[5m])
histogram_quantile(0.95, rate(llm_json_retry_count_bucket[5m]))
rate(llm_json_fallback_used_total[5m])
rate(llm_json_fallback_used_total[5m]) / rate(llm_requests_total[5m]) > 0.01
circuit_breaker_state{model="qwen"}
rate(llm_request_failures_total{model="qwen"}[5m]) / rate(llm_requests_total{model="qwen"}[5m])
rate(llm_mode_downshift_total[1h])
circuit_breaker_state{model="qwen"} == 1
rate(cache_hits_total[5m]) / (rate(cache_hits_total[5m]) + rate(cache_misses_total[5m]))
cache_size
rate(cache_evictions_total[5m])
rate(cache_ttl_expirations_total[5m])
rate(cache_hits_total[5m]) / (rate(cache_hits_total[5m]) + rate(cache_misses_total[5m])) < 0.7
llm_health_status{model="qwen"}
llm_health_check_duration_seconds{model="qwen"}
rate(llm_health_check_failures_total{model="qwen"}[5m])
llm_health_status == 0
"""
CONTRACT = {
    "llm_requests_total": {"model"},
    "llm_request_failures_total": {"model"},
    "llm_json_parse_failures_total": {"model"},
    "llm_json_retry_count": {"model"},
    "llm_json_fallback_used_total": {"model"},
    "circuit_breaker_state": {"model"},
    "llm_mode_downshift_total": {"from", "to"},
    "cache_hits_total": set(),
    "cache_misses_total": set(),
    "cache_size": set(),
    "cache_evictions_total": set(),
    "cache_ttl_expirations_total": set(),
    "llm_health_status": {"model"},
    "llm_health_check_duration_seconds": {"model"},
    "llm_health_check_failures_total": {"model"},
}


@pytest.fixture
def registry():
    gauges = Gauges(upstreams=UPSTREAMS, digest='ab"c\\', configured=1_700_000_000.25)
    metrics = Metrics(UPSTREAMS, MODES)
    metrics.told(Record(0.0, ended=1.5, reply=Reply(200, b"", source="upstream"), trace="ab" * 16), 1_700_000_000.25)
    return registry_of(metrics, Readings(lambda: gauges))


def documented() -> dict[str, tuple[str, set[str]]]:
    """Name -> type and labels, from the tables of docs/metrics.md."""
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ?([^|]*) \|", text, re.MULTILINE)
    assert len(rows) == len({name for name, _, _ in rows}), "a metric is listed twice"
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def exposed(registry) -> dict[str, tuple[str, set[str]]]:
    """Name -> type and labels, as a scraper sees them."""
    _, text = exposition(registry, "")
    families = {}
    for family in parse_plain(text.decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        families[name] = (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
    return families


def test_the_docs_name_every_metric_and_no_other(registry):
    """Both ways: with its type and its labels."""
    listed = documented()
    if sys.platform != "linux":
        listed = {name: row for name, row in listed.items() if not name.startswith("guardproxy_process_")}
    assert exposed(registry) == listed


def test_the_docs_name_every_closed_value(registry):
    """Values of labels that do not come from the configuration can be looked up."""
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)$", text, re.MULTILINE))
    for family in registry.collect():
        for sample in family.samples:
            for label, value in sample.labels.items():
                if label in {"status", "source", "code", "result", "kind", "direction", "state"}:
                    assert f"`{value}`" in rows.get(f"{family.name}_total", "") + rows.get(family.name, "") + (
                        rows["guardproxy_requests_total"] if label == "source" else ""
                    ), f"{family.name}: {label} {value}"


def test_the_names_of_the_contract(registry):
    """Exactly these, and everything else is ours by name."""
    shown = exposed(registry)
    assert {name: labels for name, (_, labels) in shown.items() if not name.startswith("guardproxy_")} == CONTRACT


@pytest.mark.parametrize("expression", MANUAL.splitlines())
def test_the_expressions_of_the_manual(registry, expression):
    """Each selector finds a series from the start, and the two sides of an operator have the same labels."""
    _, text = exposition(registry, PROMETHEUS_3)
    series = [(sample.name, sample.labels) for family in parse_openmetrics(text.decode()) for sample in family.samples]
    found = []
    for name, matcher in re.findall(r"\b((?:llm|cache|circuit)_\w+)(?:\{(.*?)\})?", expression):
        wanted = dict(re.findall(r'(\w+)="(.*?)"', matcher))
        hits = [labels for have, labels in series if have == name and wanted.items() <= labels.items()]
        assert hits, f"{name} {wanted} is not there"
        found.append({frozenset(labels.items()) for labels in hits})
    assert found
    assert all(labels == found[0] for labels in found)


def test_every_model_and_every_fall_is_there_from_the_start(registry):
    """`rate()` needs a 0 to see the first increase from."""
    _, text = exposition(registry, "")
    lines = text.decode().splitlines()
    for model in UPSTREAMS:
        assert f'llm_requests_total{{model="{model}"}} 0.0' in lines
        assert f'llm_json_retry_count_bucket{{le="10.0",model="{model}"}} 0.0' in lines
        assert f'circuit_breaker_state{{model="{model}"}} 0.0' in lines
    falls = {line for line in lines if line.startswith("llm_mode_downshift_total")}
    assert falls == {
        'llm_mode_downshift_total{from="creative",to="balanced"} 0.0',
        'llm_mode_downshift_total{from="creative",to="fast"} 0.0',
        'llm_mode_downshift_total{from="balanced",to="fast"} 0.0',
    }


@pytest.mark.parametrize("accept, library", [("", generate_latest), (PROMETHEUS_3, openmetrics.generate_latest)])
def test_they_are_written_as_the_library_writes_them(registry, accept, library):
    """Ours is faster, and says the same; the process goes on living between the two."""
    _, text = exposition(registry, accept)

    def families(text):
        parts = re.split(r"^# HELP ", text.decode(), flags=re.MULTILINE)
        return [part for part in parts if not part.startswith("guardproxy_process_")]

    assert families(text) == families(library(registry))


@pytest.mark.needs("promtool")
def test_promtool_has_nothing_to_say(registry):
    """Names, units, types and help are as Prometheus recommends them."""
    _, text = exposition(registry, "")
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


@pytest.mark.parametrize("accept", ["", PROMETHEUS_3])
def test_no_created_series(registry, accept):
    """They would double the series of every counter and say nothing."""
    _, text = exposition(registry, accept)
    assert b"_created" not in text


def test_both_languages_say_the_same(registry):
    """Each is read by its own parser, and every series is in both."""
    (_, plain), (_, strict) = exposition(registry, ""), exposition(registry, PROMETHEUS_3)
    assert strict.endswith(b"# EOF\n")

    def series(families):
        # The process goes on living between two scrapes.
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
            if not sample.name.startswith("guardproxy_process_")
        }

    assert series(parse_plain(plain.decode())) == series(parse_openmetrics(strict.decode()))


@pytest.mark.parametrize(
    "accept, content_type",
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("text/html,application/xhtml+xml,*/*;q=0.8", PLAIN),
        ("text/plain", PLAIN),
        (PROMETHEUS_2_TEXT, PLAIN),
        ("application/openmetrics-text;q=0", PLAIN),
        ("application/openmetrics-text;q=0,text/plain", PLAIN),
        ("application/openmetrics-text", OPENMETRICS),
        ("Application/OpenMetrics-Text; version=1.0.0; charset=utf-8", OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
        ("application/openmetrics-text;version=1.x", OPENMETRICS),
        ("application/openmetrics-text;q=nonsense", OPENMETRICS),
        (",,;;q=,=", PLAIN),
    ],
)
def test_the_scraper_chooses(registry, accept, content_type):
    """By weight, text where he does not care; nothing that he writes breaks it or comes back in a header."""
    assert exposition(registry, accept)[0] == content_type


def test_names_may_be_in_any_script():
    """Upstreams have the names that operators give them; quotes and line ends in them are escaped."""
    odd = 'ㄱ"\n\\'
    registry = registry_of(Metrics([odd], ["모드", "b"]))
    _, text = exposition(registry, "")
    models = {sample.labels.get("model") for family in parse_plain(text.decode()) for sample in family.samples}
    assert odd in models


@pytest.mark.parametrize("accept", ["", PROMETHEUS_3])
def test_ten_upstreams_fit_into_200_kb(accept):
    """A scrape is small: labels are few, and none is a caller's to choose."""
    names = [f"upstream-number-{number}" for number in range(10)]
    registry = registry_of(Metrics(names, MODES), Readings(lambda: Gauges(upstreams=names)))
    assert len(exposition(registry, accept)[1]) < 200_000

"""Every default is the contract's, and the field manual's sections work as they stand there."""

import dataclasses
from pathlib import Path

import pytest

from guardproxy.config.effective import as_json, leaves
from guardproxy.config.load import Invalid, load, loads
from guardproxy.config.settings import Config
from guardproxy.config.tree import dotted
from guardproxy.guards.breaker import Override

CONTRACT: dict[str, object] = {
    "listen": "127.0.0.1:8000",
    "admin": "127.0.0.1:9090",
    "admin_token": None,
    "own_hosts": [],
    "default_upstream": None,
    "routes": [],
    "upstreams.qwen.url": "http://127.0.0.1:18001",
    "upstreams.qwen.model": "Qwen/Qwen2.5-7B-Instruct",
    "upstreams.qwen.aliases": ["qwen2.5"],
    "upstreams.mistral.url": "http://127.0.0.1:18002",
    "upstreams.mistral.model": "mistralai/Mistral-7B-Instruct-v0.3",
    "upstreams.llama.url": "http://127.0.0.1:18003",
    "upstreams.llama.model": "meta-llama/Meta-Llama-3-8B-Instruct",
    "downshift.field": "mode",
    "downshift.forward": True,
    "downshift.recovery_seconds": 60,
    "downshift.dwell_seconds": 30,
    "downshift.scope": "global",
    "downshift.canary": 0.0,
    "modes.creative.upstream": "llama",
    "modes.creative.params": {"temperature": 1.0},
    "modes.creative.caps": {},
    "modes.balanced.upstream": "mistral",
    "modes.balanced.params": {"temperature": 0.7},
    "modes.balanced.caps": {},
    "modes.fast.upstream": "qwen",
    "modes.fast.params": {"temperature": 0.3},
    "modes.fast.caps": {"max_tokens": 512},
    "json_guard.enabled": True,
    "json_guard.max_retries": 3,
    "json_guard.escalate": False,
    "json_guard.repair": True,
    "json_guard.early_abort": True,
    "json_guard.judge_memory": 256 << 20,
    "json_guard.judge_seconds": 2.0,
    "json_guard.stream_validation": "hold",
    "json_guard.max_tokens_limit": 8192,
    "json_guard.backoff_base": 1.0,
    "json_guard.jitter": 0.5,
    "json_guard.fallback_enabled": True,
    "json_guard.strict_schema": True,
    "json_guard.schemas": {},
    "circuit_breaker.enabled": True,
    "circuit_breaker.failure_threshold": 0.5,
    "circuit_breaker.success_threshold": 5,
    "circuit_breaker.timeout": 60,
    "circuit_breaker.half_open_requests": 3,
    "circuit_breaker.auto_downshift": True,
    "circuit_breaker.minimum_requests": 5,
    "circuit_breaker.window": 60,
    "circuit_breaker.models": {},
    "hedge.enabled": False,
    "hedge.quantile": 0.95,
    "hedge.budget": 0.05,
    "hedge.least_seconds": 0.5,
    "load.enabled": False,
    "load.floor": 4,
    "load.ceiling": 256,
    "load.initial": 32,
    "load.tolerance": 3.0,
    "load.queue": 128,
    "load.queue_seconds": 5,
    "load.signal_seconds": 1,
    "throttle.enabled": True,
    "throttle.max_seconds": 60,
    "circuit_breaker.consecutive_failures": 5,
    "circuit_breaker.slow_first_token": 30,
    "circuit_breaker.slow_threshold": 0.8,
    "circuit_breaker.max_timeout": 240,
    "circuit_breaker.warmup_seconds": 300,
    "cache.enabled": True,
    "cache.type": "lru_ttl",
    "cache.max_size": 1000,
    "cache.max_bytes": 256 * 2**20,
    "cache.ttl_seconds": 600,
    "cache.ttl_jitter": 0,
    "cache.export": False,
    "cache.keep_length": False,
    "cache.keep_content_filter": False,
    "cache.single_flight": True,
    "cache.cleanup_interval": 60,
    "cache.eviction_policy": "lru",
    "cache.when": "always",
    "cache.vary": ["authorization", "x-api-key", "api-key", "openai-organization", "openai-project", "cookie"],
    "cache.stale_while_revalidate_seconds": 0,
    "cache.stale_if_error_seconds": 0,
    "health.interval": 30,
    "health.timeout": 10,
    "health.prompt": "Generate a brief perfume description.",
    "health.params": {"chat_template_kwargs": {"enable_thinking": False}},
    "health.fresh_for": 30,
    "health.tokens_per_day": 200_000,
    "health.rise": 1,
    "health.fall": 2,
    "timeouts.connect": 5,
    "timeouts.first_token": 60,
    "timeouts.stall": 30,
    "timeouts.total": 600,
    "retry.attempts": 2,
    "retry.budget": 0.2,
    "retry.min_per_second": 1,
    "limits.request_bytes": 64 * 2**20,
    "limits.response_bytes": 64 * 2**20,
    "limits.connections": 4096,
    "limits.header_timeout": 10,
    "limits.body_timeout": 60,
    "limits.memory": None,
    **{f"{port}.{key}": None for port in ("tls", "admin_tls") for key in ("certificate", "key", "client_ca")},
    "limits.connections_per_client": 512,
    "drain.seconds": 25,
    "drain.idle_seconds": 2,
    "alerts.webhook": None,
    "shared.url": None,
    "shared.secret": None,
    "shared.timeout": 0.005,
    "shared.ca_file": None,
    "shared.prefix": "guardproxy",
    "shared.compress_above": 1024,
    "shared.cache": True,
    "shared.state": False,
    "shared.stream_wait": 30,
    "log.level": "info",
    "log.format": "auto",
    "log.sample": 1.0,
    "debug.bodies": False,
    "tracing.endpoint": None,
    "tracing.service": "guardproxy",
    "tracing.sample": 1.0,
}
UPSTREAM: dict[str, object] = {
    "aliases": [],
    "api_key": None,
    "ca_file": None,
    "client_cert": None,
    "headers": {},
    "capabilities": [],
    "early_abort": True,
}

MANUAL = {
    "json_guard": """
# configs/llm_ensemble.yaml
json_guard:
  enabled: true
  max_retries: 3
  backoff_base: 1.0  # seconds
  jitter: 0.5        # max jitter in seconds
  fallback_enabled: true
  strict_schema: true
""",
    "circuit_breaker": """
# configs/llm_ensemble.yaml
circuit_breaker:
  enabled: true
  failure_threshold: 0.5  # 50%
  success_threshold: 5    # 5 consecutive successes
  timeout: 60             # seconds
  half_open_requests: 3
  auto_downshift: true

  # Per-model overrides
  models:
    qwen:
      failure_threshold: 0.4  # More sensitive for Qwen
    mistral:
      failure_threshold: 0.5
    llama:
      failure_threshold: 0.5
""",
    "cache": """
# configs/llm_ensemble.yaml
cache:
  enabled: true
  type: lru_ttl
  max_size: 1000          # Maximum entries
  ttl_seconds: 600        # 10 minutes
  cleanup_interval: 60    # Cleanup every 60s
  eviction_policy: lru    # Least Recently Used
""",
}


def values(config):
    return {dotted(path): as_json(value) for path, value in leaves(config)}


def test_every_default_is_the_contracts():
    """Nothing more, nothing less: a new setting has to be written down here and there."""
    expected = dict(CONTRACT)
    for name in ("qwen", "mistral", "llama"):
        for key, value in {**UPSTREAM, "structured_output": "none"}.items():
            expected.setdefault(f"upstreams.{name}.{key}", value)
    assert values(Config()) == expected


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "{}", "cache:\nroutes:\nupstreams:\nmodes:\n"])
def test_an_empty_file_means_the_defaults(text):
    """A section of which everything is commented out counts as absent."""
    assert loads(text, env={}).config == Config()


def test_modes_keep_their_order():
    """A downshift moves down the list as it is written."""
    assert list(loads("", env={}).config.modes) == ["creative", "balanced", "fast"]
    loaded = loads("modes: {b: {upstream: qwen}, a: {upstream: llama}}", env={})
    assert list(loaded.config.modes) == ["b", "a"]


def test_default_upstreams_read_the_environment():
    loaded = loads("", env={"QWEN_URL": "http://models:1"})
    assert loaded.config.upstreams["qwen"].url == "http://models:1"
    assert loaded.origins["upstreams.qwen.url"] == "default (env QWEN_URL)"
    with pytest.raises(Invalid, match=r"default: upstreams\.qwen\.url: .* \(from the environment's QWEN_URL\)"):
        loads("", env={"QWEN_URL": "nonsense"})


def test_default_modes_without_their_upstream_are_left_out():
    """Whoever writes only his own upstreams has not asked for modes of others."""
    assert loads("upstreams: {own: {url: http://h}}", env={}).config.modes == {}
    kept = loads("upstreams: {llama: {url: http://h}, fast: {url: http://i}}", env={}).config.modes
    assert list(kept) == ["creative"]


@pytest.mark.parametrize("section", MANUAL)
def test_each_section_of_the_manual_works_alone(section):
    """The field manual's sections keep their names and meanings, and are the defaults."""
    config = loads(MANUAL[section], env={}).config
    assert (
        dataclasses.replace(config, circuit_breaker=dataclasses.replace(config.circuit_breaker, models={})) == Config()
    )


def test_the_manuals_sections_work_together():
    config = loads("".join(MANUAL.values()), env={}).config
    assert config.circuit_breaker.models["qwen"] == Override(failure_threshold=0.4)
    assert config.circuit_breaker.models["llama"] == Override(failure_threshold=0.5)


def test_the_shipped_file_has_the_defaults():
    """config/guardproxy.yaml spells the defaults out; it adds a schema and the manual's override, nothing else."""
    loaded = load(str(Path(__file__).parents[2] / "config" / "guardproxy.yaml"), env={})
    own, built_in = values(loaded.config), values(Config())
    differing = {key.split(".")[0] + "." + key.split(".")[1] for key in own.keys() ^ built_in.keys()}
    assert differing <= {"json_guard.schemas", "circuit_breaker.models"}
    assert {key for key in own.keys() & built_in.keys() if own[key] != built_in[key]} == set()
    assert loaded.warnings == []

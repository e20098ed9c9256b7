"""What is measured, each in turn: how it is configured, started and asked.

Here belongs one function for each system, which writes its configuration and says how to run it.  All are told to
use one core, to log nothing per request (guardproxy does, at info, as it is shipped) and to wait without limit.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

from bench import peers
from bench.process import free_port
from bench.upstream import MODEL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """How one system is run and asked."""

    command: list[str]
    env: dict[str, str] | None = None
    ready: str = "/v1/models"
    """What it answers 200 once it can serve."""
    headers: dict[str, str] = field(default_factory=dict)
    """What callers must send along."""
    patience: float = 20.0
    """Seconds it may take to start."""
    cwd: Path | None = None


@final
@dataclass(frozen=True, slots=True)
class Place:
    """Where a system is run: its port, the model server's, a folder of its own, and the folder of the peers."""

    port: int
    upstream: int
    folder: Path
    peers: Path


def guardproxy(place: Place) -> Plan:
    """Every guard on, metrics on, the log at info."""
    url = f"http://127.0.0.1:{place.upstream}"
    config = {
        "listen": f"127.0.0.1:{place.port}",
        "admin": "127.0.0.1:0",
        "upstreams": {
            "qwen": {"url": url, "model": MODEL},
            "mistral": {"url": url, "model": "mistralai/Mistral-7B-Instruct-v0.3"},
            "llama": {"url": url, "model": "meta-llama/Meta-Llama-3-8B-Instruct"},
        },
    }
    path = place.folder / "guardproxy.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return Plan([sys.executable, "-m", "guardproxy", "run", str(path)], ready="/readyz")


def naive(place: Place) -> Plan:
    """What `bench.naive` is."""
    return Plan([sys.executable, "-m", "bench.naive", str(place.port), f"http://127.0.0.1:{place.upstream}"])


def nginx(place: Place) -> Plan | None:
    """One worker, keep-alive upstream, nothing buffered on disk."""
    if (program := peers.find(place.peers, "nginx")) is None:
        return None
    config = f"""daemon off; master_process off; worker_processes 1; pid {place.folder}/nginx.pid; error_log stderr;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_max_body_size 0; keepalive_requests 100000000;
  client_body_temp_path {place.folder}/b; proxy_temp_path {place.folder}/p; fastcgi_temp_path {place.folder}/f;
  uwsgi_temp_path {place.folder}/u; scgi_temp_path {place.folder}/s;
  upstream model {{ server 127.0.0.1:{place.upstream}; keepalive 4096; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{place.port} backlog=4096;
    location / {{
      proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 600s;
      proxy_buffer_size 64k; proxy_buffers 8 64k; client_body_buffer_size 64k;
    }}
  }}
}}
"""
    path = place.folder / "nginx.conf"
    path.write_text(config)
    return Plan([str(program), "-p", str(place.folder), "-c", str(path)], peers.surroundings(place.peers))


def envoy(place: Place) -> Plan | None:
    """One worker, no limits of time."""
    if (program := peers.find(place.peers, "envoy")) is None:
        return None
    at = {"socket_address": {"address": "127.0.0.1", "port_value": place.port}}
    to = {"socket_address": {"address": "127.0.0.1", "port_value": place.upstream}}
    kind = "type.googleapis.com/envoy.extensions.filters"
    route = {"match": {"prefix": "/"}, "route": {"cluster": "model", "timeout": "0s"}}
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    many = {"priority": "DEFAULT", "max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000}
    cluster = {
        "name": "model",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [many]},
        "load_assignment": {"cluster_name": "model", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": to}}]}]},
    }
    listener = {"name": "app", "address": at, "filter_chains": [chain]}
    path = place.folder / "envoy.json"
    path.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    options = ["--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]
    return Plan([str(program), "-c", str(path), *options])


def sglang_router(place: Place) -> Plan | None:
    """One worker behind it, its own circuit breaker and retries as they are."""
    if (program := peers.find(place.peers, "sglang-router")) is None:
        return None
    command = [str(program), "-m", "sglang_router.launch_router", "--worker-urls", f"http://127.0.0.1:{place.upstream}"]
    options = ["--policy", "round_robin", "--log-level", "error", "--prometheus-port", str(free_port())]
    return Plan([*command, "--host", "127.0.0.1", "--port", str(place.port), *options], ready="/v1/models", patience=60)


def litellm(place: Place) -> Plan | None:
    """Its proxy, one worker, no database."""
    if (program := peers.find(place.peers, "litellm")) is None:
        return None
    params = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{place.upstream}/v1", "api_key": "none"}
    config = {"model_list": [{"model_name": MODEL, "litellm_params": params}], "litellm_settings": {"telemetry": False}}
    path = place.folder / "litellm.yaml"
    path.write_text(json.dumps(config))
    env = {
        **peers.surroundings(place.peers),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # the other one is fetched from the net
        "LITELLM_LOG": "ERROR",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # it asks nobody for a key, as the others
    }
    options = ["--host", "127.0.0.1", "--port", str(place.port), "--num_workers", "1", "--telemetry", "False"]
    return Plan([str(program), "--config", str(path), *options], env, "/health/liveliness", patience=90)


def portkey(place: Place) -> Plan | None:
    """Its gateway on Node, without its console."""
    if (program := peers.find(place.peers, "portkey")) is None:
        return None
    config = {"provider": "openai", "api_key": "none", "custom_host": f"http://127.0.0.1:{place.upstream}/v1"}
    command = ["node", str(program), f"--port={place.port}", "--headless"]
    env = {**peers.surroundings(place.peers), "NODE_ENV": "production"}
    return Plan(command, env, "/", {"x-portkey-config": json.dumps(config)}, patience=30)


SYSTEMS: dict[str, Callable[[Place], Plan | None]] = {
    "guardproxy": guardproxy,
    "nginx": nginx,
    "envoy": envoy,
    "sglang-router": sglang_router,
    "naive aiohttp": naive,
    "portkey": portkey,
    "litellm": litellm,
}
"""By the names that the tables use; None where a peer is absent."""

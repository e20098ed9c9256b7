"""Real clients, unchanged but for the base URL, before real servers; docs/clients.md says what came of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.e2e.cast import Proxy, proxy
from tests.e2e.conftest import calling, upstreams
from tests.e2e.places import HERE, LOCKS, NODE, ROOT, Places, version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.cast import Engine

pytestmark = pytest.mark.timeout(300)

ROWS = {
    "chat": "a chat completion, with its usage",
    "stream": "the same as a stream",
    "structured": "an answer that satisfies a schema",
    "structured stream": "the same as a stream, which is held until it is known to be valid",
    "tools": "calls of a tool whose arguments satisfy its parameters",
    "async": "without blocking",
    "responses": "the Responses API, whole and streamed",
    "headers": "`X-Guardproxy-…` can be read",
    "choices": "`n` and log probabilities",
    "models": "the list of models and modes",
    "error": "an error of the proxy arrives as the client's own exception",
    "gives up": "a call that cannot succeed is tried once, not three times (`x-should-retry`)",
}


@dataclass(frozen=True)
class Client:
    """One client: the environment it runs in, the package that it is, and its script."""

    name: str
    place: str
    package: str
    script: str
    base: str = "OPENAI_BASE_URL=http://localhost:8000/v1"
    """What an app changes."""

    def version(self) -> str:
        """What was tested; the machine's own curl has none that could be pinned."""
        if self.place == NODE:
            lock = json.loads((LOCKS / NODE / "package-lock.json").read_text())
            return str(lock["packages"][f"node_modules/{self.package}"]["version"])
        return version(self.place, self.package) if self.place else ""


CLIENTS = (
    Client("openai-python", "openai", "openai", "openai_client.py"),
    Client("openai-node", NODE, "openai", "openai_node.mjs"),
    Client("langchain-openai", "langchain", "langchain-openai", "langchain_client.py", "`ChatOpenAI(base_url=…)`"),
    Client("LiteLLM SDK", "litellm", "litellm", "litellm_client.py", "`completion(api_base=…)`"),
    Client("instructor", "instructor", "instructor", "instructor_client.py", "the client it is given"),
    Client("pydantic-ai", "pydantic-ai", "pydantic-ai-slim", "pydantic_ai_client.py", "`OpenAIProvider(base_url=…)`"),
    Client("llm", "llm", "llm", "llm_client.py", "`api_base` in extra-openai-models.yaml"),
    Client("anthropic-python", "anthropic", "anthropic", "anthropic_client.py", "`ANTHROPIC_BASE_URL`, without /v1"),
    Client("curl", "", "", "curl_client.py", "the URL"),
)


@pytest.fixture(scope="module")
def running(all_engines: dict[str, Engine], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The proxy as it is by default, with a mode in which the model calls tools, and an upstream that is not there."""
    for engine in all_engines.values():
        engine.start()
    nobody = socket.socket()
    nobody.bind(("127.0.0.1", 0))  # held, so that nobody else listens there
    config = {
        "upstreams": {**upstreams(all_engines), "dead": {"url": f"http://127.0.0.1:{nobody.getsockname()[1]}"}},
        "modes": {
            "caller": {"upstream": "qwen", "params": {"logit_bias": calling(all_engines["qwen"]), "max_tokens": 120}},
            "creative": {"upstream": "llama"},
            "balanced": {"upstream": "mistral"},
            "fast": {"upstream": "qwen"},
        },
        "downshift": {"forward": False},
        "json_guard": {"max_retries": 9, "backoff_base": 0.01, "jitter": 0.01, "max_tokens_limit": 120},
        "circuit_breaker": {"minimum_requests": 1000, "consecutive_failures": 0},
        "drain": {"idle_seconds": 0.1},
    }
    with nobody, proxy(config, tmp_path_factory.mktemp("clients")) as one:
        yield one


@pytest.fixture(scope="module")
def told() -> dict[str, dict[str, str]]:
    """What became of each row, by client."""
    return {}


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_client(client: Client, running: Proxy, places: Places, told: dict[str, dict[str, str]]):
    """It does all that it has words for."""
    script, cwd = HERE / "clients" / client.script, None
    if client.place == NODE:
        cwd = places.node()
        (cwd / script.name).write_bytes(script.read_bytes())  # modules are looked for beside the script
        command = ["node", script.name, running.app]
    else:
        python = places.python(client.place) if client.place else sys.executable
        command = [str(python), str(script), running.app]
    found = rows(command, cwd)
    if failed(found):  # on a machine that does much else a client may lose its patience: once more
        found = rows(command, cwd)
    told[client.name] = found
    assert set(found) == set(ROWS), found
    assert failed(found) == {}


def rows(command: list[str], cwd: Path | None) -> dict[str, str]:
    """Run a client's script; answers what became of each row."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "ANTHROPIC_"))}
    env["PYTHONWARNINGS"] = "ignore"
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=140)
    assert done.stdout.strip(), done.stderr
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def failed(found: dict[str, str]) -> dict[str, str]:
    """The rows that were not done although the client has words for them."""
    return {row: what for row, what in found.items() if what != "yes" and not what.startswith("no: ")}


def test_the_table(told: dict[str, dict[str, str]]):
    """docs/clients.md says what came of this run; in CI it must have said so before."""
    assert set(told) == {client.name for client in CLIENTS}
    table, file = page(told), ROOT / "docs" / "clients.md"
    before = file.read_text() if file.exists() else ""
    if not os.environ.get("GUARDPROXY_CI"):
        file.write_text(table)
    else:
        assert before == table, "docs/clients.md is not what this run found: `make e2e` writes it"


def page(told: dict[str, dict[str, str]]) -> str:
    """docs/clients.md."""
    notes: dict[str, int] = {}
    lines = [
        "# Clients",
        "",
        "An app changes its base URL and nothing else. These tables are written by `make e2e`, which runs each client",
        "in an environment of its own, pinned, against the proxy in front of three llama.cpp servers. All of it was",
        "done.",
        "",
        "| | " + " | ".join(client.name for client in CLIENTS) + " |",
        "|---" * (len(CLIENTS) + 1) + "|",
    ]
    for row in ROWS:
        cells = []
        for client in CLIENTS:
            what = told[client.name][row]
            if what == "yes":
                cells.append("✓")
            elif what.startswith("no: "):
                cells.append(f"– {notes.setdefault(what[4:], len(notes) + 1)}")
            else:
                cells.append(f"✗ {notes.setdefault(' '.join(what.split()), len(notes) + 1)}")
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    lines += ["", "✓ done; – not offered, and why:", ""]
    lines += [f"{number}. {why}" for why, number in notes.items()]
    lines += ["", "## What each row is", "", "| | |", "|---|---|"]
    lines += [f"| {row} | {says} |" for row, says in ROWS.items()]
    lines += ["", "## What is changed in the app", "", "| client | version | what is changed |", "|---|---|---|"]
    lines += [f"| {client.name} | {client.version()} | {_code(client.base)} |" for client in CLIENTS]
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return f"`{text}`" if "=" in text and "`" not in text else text

"""What the tests with real servers and real clients share: environments, tiny models, and three servers of them."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.cast import Engine, fetch
from tests.e2e.places import HERE, Places

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("qwen", "mistral", "llama")


@pytest.fixture(scope="session")
def places() -> Iterator[Places]:
    made = Places()
    yield made
    made.close()


@pytest.fixture(scope="session")
def models(places: Places, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the tiny models, made on the spot."""
    folder = tmp_path_factory.mktemp("models")
    subprocess.run([places.python("engine"), HERE / "tiny.py", folder], check=True)
    return folder


@pytest.fixture(scope="session")
def all_engines(places: Places, models: Path) -> Iterator[dict[str, Engine]]:
    engines = {name: Engine(places.python("engine"), HERE / "engine.py", models / f"{name}.gguf") for name in NAMES}
    yield engines
    for engine in engines.values():
        engine.kill()


@pytest.fixture
def engines(all_engines: dict[str, Engine]) -> dict[str, Engine]:
    """The three servers, all of them well."""
    for engine in all_engines.values():
        engine.start()
    return all_engines


@pytest.fixture
def slow(places: Places, models: Path) -> Iterator[Engine]:
    """A server that takes some seconds for a long answer."""
    engine = Engine(places.python("engine"), HERE / "engine.py", models / "slow.gguf")
    engine.start()
    yield engine
    engine.kill()


def upstreams(engines: dict[str, Engine]) -> dict[str, Any]:
    return {name: {"url": engine.url, "model": name} for name, engine in engines.items()}


def calling(engine: Engine) -> dict[str, int]:
    """The ``logit_bias`` that makes this server's model call a tool."""
    biases = {"<tool_call>": 60, "</tool_call>": 30}
    tokens = {}
    for text, bias in biases.items():
        (token,) = json.loads(fetch(f"{engine.url}/tokenize", {"content": text, "parse_special": True})[2])["tokens"]
        tokens[str(token)] = bias
    return tokens

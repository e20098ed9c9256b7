"""The `llm` command, with the proxy's models in its list of OpenAI-compatible ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rows import ASK, KEY, URL, Rows, fits, sent

rows = Rows()
folder = tempfile.TemporaryDirectory()
(Path(folder.name) / "extra-openai-models.yaml").write_text(
    "".join(
        f"- {{model_id: guarded-{name}, model_name: {name}, api_base: '{URL}'"
        ", supports_schema: true, supports_tools: true}\n"
        for name in ("creative", "balanced", "fast", "caller", "nobody", "dead")
    )
)


def llm(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "LLM_USER_PATH": folder.name, "OPENAI_API_KEY": KEY}
    return subprocess.run(
        [sys.executable, "-m", "llm", *arguments], env=env, capture_output=True, text=True, check=False, timeout=60
    )


def good(*arguments: str) -> str:
    done = llm(*arguments)
    assert done.returncode == 0, done.stderr[-300:]
    return done.stdout.strip()


@rows.does("chat")
def _() -> None:
    assert good("-m", "guarded-creative", "-o", "max_tokens", "20", "--no-stream", ASK)


@rows.does("stream")
def _() -> None:
    assert good("-m", "guarded-balanced", "-o", "max_tokens", "20", ASK)


SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "n": {"type": "integer", "minimum": 0, "maximum": 9},
        },
        "required": ["name", "n"],
    }
)


@rows.does("structured")
def _() -> None:
    fits(good("-m", "guarded-fast", "-o", "max_tokens", "300", "--no-stream", "--schema", SCHEMA, ASK))


@rows.does("structured stream")
def _() -> None:
    fits(good("-m", "guarded-creative", "-o", "max_tokens", "300", "--schema", SCHEMA, ASK))


@rows.does("tools")
def _() -> None:
    look = 'def look(name: str, n: int) -> str:\n    "Looks."\n    return name'
    done = llm("-m", "guarded-caller", "--functions", look, "--cl", "1", "--no-stream", ASK)
    # this model calls a tool whatever it is told: that it wants to go on says that the first call was done
    assert "Chain limit of 1 exceeded" in done.stderr, done.stderr[:300]


for row, why in {
    "async": "it is a command",
    "responses": "its own models speak chat completions",
    "headers": "it does not show them",
    "choices": "it takes one",
    "models": "its list is its own",
}.items():
    rows.lacks(row, why)


@rows.does("error")
def _() -> None:
    done = llm("-m", "guarded-nobody", ASK)
    assert done.returncode != 0
    assert "there is no model" in done.stderr, done.stderr[-300:]


@rows.does("gives up")
def _() -> None:
    before = sent("dead")
    assert llm("-m", "guarded-dead", ASK).returncode != 0
    assert sent("dead") == before + 1


folder.cleanup()
rows.tell()

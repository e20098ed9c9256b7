"""A model that errs: `python -m bench.erring`, on a free port that it prints.

Here belong the seven ways in which it errs, the counting of every token that it generates, and an HTTP server that
writes them at the speed of a real one and stops when nobody listens any more.  Whether it errs is thrown for each
question and try alike, whoever asks: all that are compared meet the same mistakes.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from guardproxy.simulator.perfume import brief

if TYPE_CHECKING:
    from collections.abc import Callable

RATE: Final = 0.3
"""Share of answers that are wrong, whichever way."""
PACE: Final = 0.01
"""Seconds for a token: 100 of them a second."""
MOST: Final = 512
"""Tokens of an answer where the request bounds none."""
TOKEN: Final = 4
"""Characters of a token."""
_ASKED = re.compile(r"question (\d+)")


def right(question: int) -> str:
    """The valid answer to *question*, of some 150 tokens."""
    one = brief(question)
    return json.dumps({**one, "accords": [brief(question + n)["description"] for n in range(1, 5)]}, indent=1)


def _fenced(text: str, _dice: Random) -> str:
    return f"```json\n{text}\n```"


def _prose_around(text: str, _dice: Random) -> str:
    return f"Here is the brief that you asked for:\n\n{text}\n\nShall I change anything?"


def _bad_syntax(text: str, _dice: Random) -> str:
    return re.sub(r"\n}$", ",\n}", text).replace('"intensity"', "'intensity'")


def _wrong_type(text: str, dice: Random) -> str:
    doc = json.loads(text)
    name = dice.choice(list(doc))
    doc[name] = f"{doc[name]}" if not isinstance(doc[name], str) else 7
    return json.dumps(doc, indent=1)


def _unknown_member(text: str, dice: Random) -> str:
    items = list(json.loads(text).items())
    items.insert(dice.randrange(len(items) + 1), ("price", 90))
    return json.dumps(dict(items), indent=1)


def _no_json(text: str, _dice: Random) -> str:
    said = re.sub(r'[\[\]{}"]', "", text)
    return f"A perfume should be described in words rather than in data. {said}"


def _blanks(text: str, dice: Random) -> str:
    cut = dice.choice([match.end() for match in re.finditer(",\n", text)])
    return text[:cut] + " \n" * MOST * TOKEN


WAYS: Final[dict[str, Callable[[str, Random], str]]] = {
    "in a code fence": _fenced,
    "prose around it": _prose_around,
    "a trailing comma and single quotes": _bad_syntax,
    "a wrong type": _wrong_type,
    "an unknown member": _unknown_member,
    "no JSON at all": _no_json,
    "white space without end": _blanks,
}


def said(question: int, attempt: int, rate: float = RATE) -> str:
    """What the model says to *question* when it is asked for the *attempt*-th time."""
    dice = Random(question * 1_000 + attempt)
    text = right(question)
    return dice.choice(list(WAYS.values()))(text, dice) if dice.random() < rate else text


def tokens(text: str) -> list[str]:
    """*text* in pieces of a token each."""
    return [text[start : start + TOKEN] for start in range(0, len(text), TOKEN)]


class Model:
    """The server's memory."""

    def __init__(self) -> None:
        self.generated = 0
        """Tokens since the last reset, also those of answers that nobody waited for."""
        self.asked: Counter[int] = Counter()

    async def reset(self, _request: web.Request) -> web.Response:
        """Tell what was generated, and forget it."""
        told = {"generated": self.generated, "asked": sum(self.asked.values())}
        self.generated, self.asked = 0, Counter()
        return web.json_response(told)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one call, whole or as events."""
        doc = await request.json()
        asked = _ASKED.search(json.dumps(doc["messages"]))
        if asked is None:  # a health check
            return web.json_response(_completion("well", "stop", 1))
        question = int(asked[1])
        self.asked[question] += 1
        pieces = tokens(said(question, self.asked[question]))
        most = doc.get("max_tokens") or MOST
        finish = "stop" if len(pieces) <= most else "length"
        pieces = pieces[:most]
        if not doc.get("stream"):
            for _ in pieces:
                self.generated += 1
                await asyncio.sleep(PACE)
            return web.json_response(_completion("".join(pieces), finish, len(pieces)))
        return await self._stream(request, pieces, finish)

    async def _stream(self, request: web.Request, pieces: list[str], finish: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            self.generated += 1
            await response.write(_event({"delta": {"content": piece}, "finish_reason": None}))
            await asyncio.sleep(PACE)
        await response.write(_event({"delta": {}, "finish_reason": finish}) + b"data: [DONE]\n\n")
        return response


def _event(choice: dict[str, Any]) -> bytes:
    doc = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, **choice}],
    }
    return b"data: " + json.dumps(doc).encode() + b"\n\n"


def _completion(text: str, finish: str, count: int) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 1, "completion_tokens": count, "total_tokens": count + 1}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


async def main() -> None:
    """Serve until killed."""
    model = Model()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", model.answer)
    app.router.add_post("/reset", model.reset)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)  # whoever started it has gone
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())

"""The client library instructor, asking for valid answers.

Here belongs nothing else: it is run by a Python of its own (``python by_instructor.py URL QUESTIONS AT_ONCE RETRIES``),
since the library needs older versions of what this project needs, and imports nothing of ours.  Prints how many answers
were valid, and the seconds that each took, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import instructor  # type: ignore[import-not-found,unused-ignore] # only its own Python has it
import openai
import pydantic


class Brief(pydantic.BaseModel):
    """The same shape as `askers.SHAPE`."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    description: str
    notes: list[str]
    families: list[str]
    intensity: int
    longevity: str
    accords: list[str]


async def main(url: str, questions: int, at_once: int, retries: int) -> None:
    """Ask them all."""
    gate, times = asyncio.Semaphore(at_once), []
    client = instructor.from_openai(openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none"), mode=instructor.Mode.JSON)

    async def one(question: int) -> bool:
        text = f"A brief for a summer perfume, as JSON. This is question {question}."
        async with gate:
            begun = time.perf_counter()
            try:
                await client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": text}], response_model=Brief, max_retries=retries
                )
            except Exception as error:  # noqa: BLE001 -- whatever it is called in this version: there is no answer
                print(f"question {question}: {type(error).__name__}", file=sys.stderr)
                return False
            finally:
                times.append(time.perf_counter() - begun)
            return True

    valid = sum(await asyncio.gather(*map(one, range(questions))))
    print(json.dumps({"valid": valid, "times": times}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))

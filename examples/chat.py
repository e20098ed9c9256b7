"""An app that never heard of guardproxy: only its base URL has changed.

$ pip install openai
$ OPENAI_BASE_URL=http://localhost:8000/v1 OPENAI_API_KEY=none python examples/chat.py
"""

from openai import OpenAI
from pydantic import BaseModel


class Brief(BaseModel):
    """What the app wants to get."""

    description: str
    notes: list[str]
    intensity: int


client = OpenAI()

brief = client.chat.completions.parse(
    model="creative",
    messages=[{"role": "user", "content": "A brief for a summer perfume"}],
    response_format=Brief,
)
print(brief.choices[0].message.parsed)

for chunk in client.chat.completions.create(
    model="fast", messages=[{"role": "user", "content": "And in one sentence?"}], stream=True
):
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()

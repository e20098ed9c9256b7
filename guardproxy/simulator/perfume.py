"""What the simulated models talk about: perfumes. The brief as an object, as prose, and as hints for schemas.

Here belong the canned texts, chosen by a seed. Here does not belong which of them a request wants (`composing`).
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

_OPENINGS: Final = (
    ("Lune de Cèdre", "a dry cedar wood under cold moonlight, with bergamot that fades into smoke"),
    ("Salt Meadow", "sea salt on warm skin, wild sage and a breath of ambergris at low tide"),
    ("Jardin de Pluie", "wet leaves and lily of the valley, green and quiet after the first summer rain"),
    ("Velvet Saffron", "saffron and rose in a dark velvet of oud, sweetened by a trace of honey"),
    ("Paper Lantern", "green tea, yuzu and white musk, light as a paper lantern over water"),
    ("Ember & Fig", "fig milk and burning vetiver, the last warm evening of September"),
)
_NOTES: Final = (
    "bergamot", "cedarwood", "vetiver", "sea salt", "lily of the valley", "rose", "saffron", "oud", "yuzu", "green tea",
    "white musk", "fig leaf", "sandalwood", "pink pepper", "iris", "tonka bean",
)  # fmt: skip
_FAMILIES: Final = ("woody", "floral", "citrus", "aromatic", "oriental", "fresh", "gourmand")
_LONGEVITIES: Final = ("short", "medium", "long")


def brief(seed: int) -> dict[str, Any]:
    """A perfume brief: description, notes, families, intensity (0 to 100) and longevity (short, medium or long)."""
    dice = Random(seed)
    name, story = dice.choice(_OPENINGS)
    return {
        "description": f"{name}: {story}.",
        "notes": dice.sample(_NOTES, 4),
        "families": dice.sample(_FAMILIES, 2),
        "intensity": dice.randint(20, 90),
        "longevity": dice.choice(_LONGEVITIES),
    }


def hints(seed: int) -> dict[str, list[Any]]:
    """Values to try, by property name, where a schema asks for something that sounds like a perfume brief."""
    facts = brief(seed)
    name = facts["description"].partition(":")[0]
    text = facts["description"]
    words = [*facts["notes"], *facts["families"]]
    return {
        **{key: [value] for key, value in facts.items()},
        "name": [name], "title": [name], "story": [text], "summary": [text], "text": [text],
        "note": facts["notes"][:1], "family": facts["families"][:1],
        "top_notes": [facts["notes"][:2]], "heart_notes": [facts["notes"][1:3]], "base_notes": [facts["notes"][2:]],
        "ingredients": [facts["notes"]], "accords": [facts["families"]], "tags": [words[:3]], "keywords": [words[:3]],
        "language": ["en"], "score": [round(facts["intensity"] / 100, 2), facts["intensity"]], "gender": ["unisex"],
    }  # fmt: skip


def words(seed: int) -> list[str]:
    """Single words for strings that no hint fits, in an order that depends on the seed."""
    return Random(seed).sample(_NOTES, len(_NOTES))


def prose(seed: int, speaker: str) -> str:
    """A few sentences that begin with who speaks, so that a person sees which model answered and how it was asked."""
    facts = brief(seed)
    return (
        f"[{speaker}] {facts['description']} It opens with {facts['notes'][0]} and {facts['notes'][1]}, settles on "
        f"{facts['notes'][2]} and {facts['notes'][3]}, and belongs to the {facts['families'][0]} family. Its "
        f"intensity is {facts['intensity']} of 100 and its longevity {facts['longevity']}."
    )

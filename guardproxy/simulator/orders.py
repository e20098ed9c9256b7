"""Which manners are due for which request: the standing orders, how often each was followed, who has tried how often.

Here belongs the counting (`times`, `rate`, `right-on`). Here does not belong the vocabulary (`manners`) nor what a due
manner does to an answer.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

import orjson

from guardproxy.simulator.manners import Manners

if TYPE_CHECKING:
    from collections.abc import Iterable

# Conversations whose tries are remembered; a benchmark with a new prompt per request must not grow without end.
_CONVERSATIONS = 10_000


@final
@dataclass(slots=True)
class Order:
    """One standing order and how far it is: `seen` requests came since it was given, `used` of them got it."""

    manners: Manners
    seen: int = 0
    used: int = 0

    @property
    def left(self) -> bool:
        """Whether `times` is not used up."""
        return self.manners.times is None or self.used < self.manners.times

    def due(self) -> bool:
        """Count one more request; whether the order holds for it."""
        self.seen += 1
        rate = self.manners.rate
        # Evenly spread and without dice, so that a test with rate=0.25 may assert on the fourth request. The epsilon is
        # there because 10 * 0.3 must be 3.
        if rate is not None and int(self.seen * rate + 1e-9) == int((self.seen - 1) * rate + 1e-9):
            return False
        if not self.left:
            return False
        self.used += 1
        return True

    def state(self) -> dict[str, Any]:
        """For `GET /simulate`: the order as it was written, and how often it was followed."""
        return {"fault": str(self.manners), "seen": self.seen, "used": self.used}


@final
class Orders:
    """The standing orders of one server, and the tries of every conversation."""

    def __init__(self, standing: Iterable[Manners] = ()) -> None:
        """Hold these orders; all that are due for a request are merged, the later winning where they collide."""
        self.standing = [Order(manners) for manners in standing]
        self._tries: OrderedDict[bytes, int] = OrderedDict()

    def stand(self, standing: Iterable[Manners]) -> None:
        """Replace the standing orders; their counting, and that of every conversation, starts anew."""
        self.standing = [Order(manners) for manners in standing]
        self._tries.clear()

    def state(self) -> list[dict[str, Any]]:
        """For `GET /simulate`."""
        return [order.state() for order in self.standing]

    def due(self, of_request: Manners, conversation: bytes) -> Manners:
        """What holds for this request: its own order (the header), over the standing ones that are due."""
        merged = Manners()
        for order in self.standing:
            if order.due():
                merged = order.manners.over(merged)
        merged = replace(of_request.over(merged), times=None, rate=None)
        if merged.right_on is not None and self._try_of(conversation, merged.right_on) >= merged.right_on:
            return merged.relieved()
        return merged

    def beside_inference(self) -> Manners:
        """What holds for /health and the like: nothing but `loading`, while it is not used up; it is not counted.

        A real engine that hangs still answers /health; one that is loading its model answers nothing.
        """
        for manners in (order.manners for order in self.standing if order.left):
            if manners.loading:
                return Manners(loading=True, retry_after=manners.retry_after)
        return Manners()

    def _try_of(self, conversation: bytes, last: int) -> int:
        number = self._tries.pop(conversation, 0) + 1
        # After the right answer the conversation starts anew, so that a demo run twice shows the same thing twice.
        if number < last:
            self._tries[conversation] = number
            if len(self._tries) > _CONVERSATIONS:
                self._tries.popitem(last=False)
        return number


def conversation_of(body: Any) -> bytes:
    """The key under which tries are counted: the model and the first user message (or the prompt, or the input).

    A re-ask appends messages and changes parameters; it is still the same conversation.
    """
    if not isinstance(body, dict):
        return b""
    said = body.get("prompt", body.get("input"))
    messages = body.get("messages")
    if isinstance(messages, list):
        of_user = (message for message in messages if isinstance(message, dict) and message.get("role") == "user")
        said = next(of_user, {}).get("content")
    return orjson.dumps([body.get("model"), said])

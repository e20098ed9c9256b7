"""Upstreams that do not let themselves be read along.

Here belongs what is learned of those that refuse to stream though it is us alone who wants events: who says so, and
answers well when asked for the answer in one piece, is not asked for events again for a while.  What is read along, and
why, is the guards' to say.

    refused a stream that we wanted, then answered whole   asked whole for `FORGET` seconds
    refused, and did not answer whole either               it was about something else: nothing is learned
    `FORGET` seconds later                                 asked for events again: engines are replaced
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from guardproxy.core.values import Answer, Kind

if TYPE_CHECKING:
    from collections.abc import Container

    from guardproxy.core.values import Fault, Outcome

FORGET: Final = 600.0
"""Seconds after which an upstream that refused to stream is asked to again."""
_LOOKED_AT: Final = 4096
"""Bytes of an error that are looked at for the word."""


@final
class Unread:
    """Who refuses to stream, and until when that is believed."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Unread {', '.join(self._until) or 'nobody'}>"

    def streams(self, upstream: str, now: float) -> bool:
        """Whether *upstream* may be asked for events that its caller does not want."""
        if not self._until:
            return True
        if now >= self._until.get(upstream, float("inf")):
            del self._until[upstream]
        return upstream not in self._until

    def learn(self, upstream: str, refused: Container[str], now: float) -> None:
        """*upstream* has answered; where it is among those that *refused* a stream it did so in one piece."""
        if upstream in refused:
            self._until[upstream] = now + FORGET


def refuses(outcome: Outcome) -> bool:
    """Whether *outcome* may be about `stream`: an error of the request that says so, or 501."""
    if type(outcome) is not Answer:
        return False
    return outcome.status == 501 or (400 <= outcome.status < 500 and b"stream" in outcome.body[:_LOOKED_AT].lower())


def excused(outcome: Answer | Fault) -> Answer | Fault:
    """The same *outcome*, held against nobody if it may be about a stream that only we wanted."""
    if refuses(outcome):
        outcome.kind = Kind.IGNORED
    return outcome

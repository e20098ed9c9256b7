"""A body on its way through.

Here belongs what is known of a body that is not read here: its pieces as they come, and its length where that was
declared.  How it is framed for an upstream is the exchange's.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Self, final

from guardproxy.net.inlet import TooLarge

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from guardproxy.net.inlet import Body


@final
class Upload:
    """The pieces of *body*, *limit* bytes at the most: more raises a kind of `Unreadable`."""

    __slots__ = ("_parts", "length")

    def __init__(self, body: Body, limit: int) -> None:
        self.length = body.length
        """How long it was declared to be; None where it comes in chunks, and is passed on in chunks."""
        self._parts = _bounded(body, limit)

    def __aiter__(self) -> Self:
        """Go through it once."""
        return self

    async def __anext__(self) -> bytes:
        """The next piece."""
        return await anext(self._parts)

    async def aclose(self) -> None:
        """Want no more of it."""
        await self._parts.aclose()


async def _bounded(body: Body, limit: int) -> AsyncGenerator[bytes]:
    size = 0
    async with aclosing(aiter(body)) as parts:
        async for part in parts:
            size += len(part)
            if size > limit:
                raise TooLarge(limit)
            yield part

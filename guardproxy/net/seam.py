"""Where this program is sewn to aiohttp's server protocol.

Here belongs every reliance on a name that aiohttp keeps to itself, so that a new version of it is checked against
one short file; a test fails, naming them, where some of `LEANS_ON` are gone.  Not here: any decision.

aiohttp reads and parses, holds the queue of requests and the flow of their bodies.  Taking them from the queue is
ours: its own `start` makes a task, a writer and a request object for every request.  Ours ends at once, and whoever
wants to know that something stands in the queue is told by `ready`, in the loop turn in which it came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task, TimerHandle
    from collections import deque
    from collections.abc import Callable, Coroutine

LEANS_ON = (
    "_buffer_paused",
    "_loop",
    "_messages",
    "_msg_queue_resume_size",
    "_parser",
    "_reading_paused",
    "_upgraded",
)


class Refused:
    """Stands in the queue for a request that is not served, so that the refusal keeps its turn."""

    __slots__ = ("code", "status", "text")

    def __init__(self, status: int, code: str, text: str) -> None:
        self.status = status
        self.code = code
        self.text = text

    def __repr__(self) -> str:
        return f"<Refused {self.status} {self.text!r}>"


class Seam(RequestHandler):
    """aiohttp's side of a connection, with plain names for what is used of it."""

    __slots__ = ("queue",)

    def __init__(self, manager: Any, loop: AbstractEventLoop, **settings: Any) -> None:
        super().__init__(manager, loop=loop, **settings)
        messages: deque[Any] = self._messages
        self.queue: deque[tuple[Any, StreamReader]] = messages
        """Requests whose heads are complete: messages, and what stands for one that cannot be served."""

    @property
    def switched(self) -> bool:
        """Whether the parser waits for the bytes of another protocol."""
        return self._upgraded

    def feed(self, data: bytes) -> None:
        """Give the parser *data*; what it makes of it stands in the queue and in the bodies."""
        super().data_received(data)

    def put(self, refused: Refused) -> None:
        """Queue a refusal."""
        self.queue.append((refused, EMPTY_PAYLOAD))
        self.ready()

    def ready(self) -> None:
        """Something stands in the queue."""

    async def start(self) -> None:
        """Do nothing: aiohttp makes a task of this for every connection, and turns are taken without one."""

    def take(self) -> tuple[Any, StreamReader]:
        """Take the next request out of the queue, which has one."""
        queue = self.queue
        taken = queue.popleft()
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(queue) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        return taken

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on reading where reading was paused: aiohttp asks for it with every piece of a body."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def now(self) -> float:
        """Tell the loop's time."""
        return self._loop.time()

    def call_at(self, when: float, what: Callable[..., None], *given: object) -> TimerHandle:
        """Have *what* called when it is time."""
        return self._loop.call_at(when, what, *given)

    def work_on(self, work: Coroutine[Any, Any, None]) -> Task[None]:
        """Make a task of *work*."""
        return self._loop.create_task(work)

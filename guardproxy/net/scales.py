"""Answering questions that are too much work for the loop, in processes that can be ended.

Here belong these processes: at most `PLACES`, started when one is needed, ended when nobody has needed it for a
while, and killed where a question takes too much time or memory.  What is asked is bytes, and so is the answer
(`openai.weighing`); the far side is `net.weigher`.

A question costs a fifth of a millisecond beside its work; the first one 140 ms and a process of 25 MB, until it is
idle.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from guardproxy.openai.weighing import ASKED, BY_THE_CLOCK, SAID

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from guardproxy.core.steps import Ready

PLACES: Final = 2
"""Processes at once that judge; who comes then waits, as long as somebody waits for him."""
ASIDE: Final = 1
"""The same for making ready what is asked before a call is admitted: so nobody's answer waits for a hostile schema."""
IDLE: Final = 60.0
"""Seconds after which a process that nobody needs is ended."""
GRACE: Final = 5.0
"""Seconds to start, and to notice that its time is over, which a process does by itself."""
_ENDED: Final = (-signal.SIGPROF, -signal.SIGALRM, -signal.SIGKILL, -signal.SIGTERM)
"""How a process ends that did not end of itself."""


@final
class Scales:
    """The processes that answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float = 2.0, memory: int = 256 << 20) -> None:
        self.seconds = seconds
        """How long one question may take, in seconds of the processor's time."""
        self.memory = memory
        """Bytes that a process may take besides what it needs to begin."""
        self._loop = loop
        self._places = asyncio.Semaphore(PLACES)
        self._aside = asyncio.Semaphore(ASIDE)
        self._idle: list[tuple[Process, asyncio.TimerHandle]] = []
        self._busy: set[Process] = set()
        self._ending: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Scales {len(self._busy)} busy, {len(self._idle)} idle>"

    async def weigh(self, question: bytes, until: float = float("inf")) -> bytes | None:
        """Answer *question*; None where that took too much, or *until* has come, or no process could be had."""
        try:
            async with asyncio.timeout_at(until if until < float("inf") else None), self._places:
                return await self._asked(question)
        except TimeoutError:
            return None

    async def make_ready(self, ready: Ready) -> bool:
        """Have answered what has to be known before a call is admitted, unless that has become known meanwhile.

        False where `until` has come first.
        """
        try:
            async with asyncio.timeout_at(ready.until if ready.until < float("inf") else None), self._aside:
                if ready.is_needed():
                    ready.then(await self._asked(ready.question))
                return True
        except TimeoutError:
            return False

    async def close(self) -> None:
        """End them all."""
        for process, timer in self._idle:
            timer.cancel()
            self._end(process)
        self._idle.clear()
        for process in list(self._busy):
            self._end(process)
        await asyncio.gather(*self._ending)

    async def _asked(self, question: bytes) -> bytes | None:
        """Ask a process that is there; one that ends of something else than time had kept too much: ask a fresh one."""
        process = self._free()
        if process is None:
            return (await self._answered(None, question))[0]
        answer, ended = await self._answered(process, question)
        return answer if answer is not None or ended else (await self._answered(None, question))[0]

    async def _answered(self, process: Process | None, question: bytes) -> tuple[bytes | None, bool]:
        """The answer of *process*, or of a fresh one.

        And whether it was ended, by its time or by whoever is short of memory.
        """
        answer = None
        try:
            if process is None:
                process = await self._start()
            self._busy.add(process)
            async with asyncio.timeout(self.seconds * BY_THE_CLOCK + GRACE):
                answer = await _exchange(process, ASKED.pack(self.seconds, len(question)) + question)
                if answer is None:
                    return None, await process.wait() in _ENDED
            return answer, False
        except (OSError, TimeoutError):
            return None, True
        finally:
            if process is not None:
                self._busy.discard(process)
                if answer is not None:
                    self._rest(process)
                else:
                    self._end(process)

    def _free(self) -> Process | None:
        while self._idle:
            process, timer = self._idle.pop()
            timer.cancel()
            if process.returncode is None:
                return process
        return None

    async def _start(self) -> Process:
        # nothing of ours is inherited: neither secrets in the environment nor a signal meant for the terminal's group
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "guardproxy.net.weigher", str(self.memory)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PYTHONPATH": _path(), "PATH": os.environ.get("PATH", "")},
            start_new_session=True,
        )

    def _rest(self, process: Process) -> None:
        self._idle.append((process, self._loop.call_later(IDLE, self._forget, process)))

    def _forget(self, process: Process) -> None:
        self._idle = [(one, timer) for one, timer in self._idle if one is not process]
        self._end(process)

    def _end(self, process: Process) -> None:
        task = self._loop.create_task(_end(process))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


async def _exchange(process: Process, question: bytes) -> bytes | None:
    reader, writer = process.stdout, process.stdin
    if reader is None or writer is None:
        return None
    try:
        writer.write(question)
        await writer.drain()
        size = SAID.unpack(await reader.readexactly(SAID.size))[0]
        return await reader.readexactly(size)
    except (asyncio.IncompleteReadError, ConnectionError):  # it has ended: too much time, or too much memory
        return None


async def _end(process: Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    if process.stdin is not None:
        process.stdin.close()
    await process.wait()


def _path() -> str:
    """Where the far side finds this program, installed or not."""
    own = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join([own, *(place for place in sys.path if place)])

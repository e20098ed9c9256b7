"""The far side of `net.scales`: a process that answers one question after the other until nobody asks any more.

Here belong its limits and the reading and writing.  It ends itself by a signal where a question takes too long, also if
nobody is left who could kill it, and for want of memory where one takes too much.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from typing import BinaryIO, Final

from guardproxy.openai.weighing import ASKED, BY_THE_CLOCK, SAID, Weighing

KIND: Final = 5
"""How much less than the loop it is to be served by the processor."""


def main(memory: int, source: BinaryIO, sink: BinaryIO) -> None:
    """Answer until *source* ends."""
    os.nice(KIND)
    _first_to_go()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = _taken() + memory
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    weighing = Weighing()
    while len(head := source.read(ASKED.size)) == ASKED.size:
        seconds, size = ASKED.unpack(head)
        question = source.read(size)
        # nobody handles their signals, so they end the process: what a question takes does not hang on who else is busy
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, seconds * BY_THE_CLOCK)
        answer = weighing(question)
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        sink.write(SAID.pack(len(answer)) + answer)
        sink.flush()


def _first_to_go() -> None:
    """Where the container runs out of memory the kernel is to end this process, and not the one that serves."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123 -- a line for the kernel
        file.write("1000")


def _taken() -> int:
    """Bytes of address space that are in use already; a guess where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 -- a line of the kernel's
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 512 << 20


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer)

"""Look for what nobody thought of, for as long as there is time: ``make fuzz SECONDS=300``.

Here belongs the loop alone: the properties are those of the test suite, each tried with many more examples and another
seed every round, then the storm against the whole proxy with seeds of its own, and the smuggling payloads with every
byte at every place.  What fails is printed with the seed that makes it fail again; the exit code is 1.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import uvloop

from tests.faults.storm import play
from tests.faults.test_smuggling import exhaustive

ROOT = Path(__file__).parents[2]
PROPERTIES = (
    "tests/net/test_framing.py",  # the client's parser of answers
    "tests/net/test_server_refusals.py",  # the server's parser of requests
    "tests/openai/test_events.py",  # server-sent events
    "tests/openai/test_cutting.py",
    "tests/openai/test_scan.py",
    "tests/openai/test_examine.py",
    "tests/openai/test_mend.py",
    "tests/openai/test_identity.py",  # the cache's key
    "tests/dialects",  # NDJSON among them
    "tests/core/test_prefix.py",  # the prefix checker
    "tests/core/test_circuit.py",
    "tests/core/test_limiter.py",
    "tests/core/test_line.py",
    "tests/flow/test_foreseen.py",
    "tests/telemetry/test_crowd.py",
    "tests/config/test_fuzz.py",  # the decoder of the configuration
)
ROUND = 20
"""Seconds of storms between two rounds of properties."""


def properties(seed: int, until: float) -> bool:
    """Try every property anew, as far as there is time; whether all held."""
    found = [path for path in PROPERTIES if (ROOT / path).exists()]
    env = os.environ | {"HYPOTHESIS_PROFILE": "fuzz"}
    words = [sys.executable, "-m", "pytest", "-q", "-x", "--timeout=600", f"--hypothesis-seed={seed}", *found]
    left = max(until - time.monotonic(), 1.0)
    try:
        return subprocess.run(words, cwd=ROOT, env=env, check=False, timeout=left).returncode == 0
    except subprocess.TimeoutExpired:
        return True


def storms(until: float, dice: random.Random) -> int:
    """Play storms until it is time; how many."""
    count = 0
    while time.monotonic() < until:
        seed = dice.randrange(1 << 32)
        try:
            uvloop.run(play(seed, calls=150))
        except BaseException:
            sys.stderr.write(f"storm {seed} failed\n")
            raise
        count += 1
    return count


def main(seconds: float) -> int:
    """Go on for so long; the exit code."""
    dice = random.Random()
    end = time.monotonic() + seconds
    uvloop.run(exhaustive())
    rounds = played = 0
    while time.monotonic() < end:
        played += storms(min(end, time.monotonic() + ROUND), dice)
        if time.monotonic() >= end:
            break
        if not properties(dice.randrange(1 << 32), end):
            return 1
        rounds += 1
    sys.stdout.write(f"nothing found: {played} storms, {rounds} rounds of properties, every smuggling payload\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0))

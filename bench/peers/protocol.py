"""The lines a contestant and the harness exchange, from the contestant's side. Standard library only.

A contestant is a process that loads, prints one line of JSON, sleeps on its standard input and answers every line of it
with one line of JSON:

    -> {"ready": true, "name": "torch", "version": "2.15.0", "precision": "bf16", "threads": 2, "peak": true}
    <- go
    -> {"ms": 4493.1, "gflop": 1607.0, "mean": 0.0012, "std": 0.998}
    <- peak
    -> {"peak_gflops": 414.0}

README.md says what each field means. Standard output belongs to the protocol alone: what libraries print goes to
standard error.
"""

import json
import os
import sys
import time
from typing import Callable


class Replies:
    """Takes standard output for the protocol; to be made before any library is imported."""

    def __init__(self) -> None:
        self.stream = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def send(self, reply: dict) -> None:
        """One line."""
        self.stream.write(json.dumps(reply) + "\n")
        self.stream.flush()


def timed(work: Callable[[], object]) -> tuple[float, object]:
    """Milliseconds and the result of one call."""
    start = time.perf_counter()
    result = work()
    return (time.perf_counter() - start) * 1e3, result


def serve(replies: Replies, ready: dict, commands: dict[str, Callable[[], dict]]) -> None:
    """Answers until standard input ends."""
    replies.send({"ready": True, "peak": "peak" in commands} | ready)
    for line in sys.stdin:
        name = line.strip()
        if not name:
            continue
        if name in commands:
            replies.send(commands[name]())
        else:
            replies.send({"error": f"unknown command {name!r}, known: {', '.join(commands)}"})


def matmul_gflops(multiply: Callable[[], object], size: int, seconds: float = 1.0) -> float:
    """The best rate of a square matrix product over about `seconds`: the peak that a process can reach, measured in it,
    so that clock and neighbours are those of the timed work."""
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        best = min(best, timed(multiply)[0])
    return 2 * size**3 / best / 1e6

"""Stands in for `tintype` in tests: the arguments and lines of the real program, no model, made-up times.

    python mock.py bench --model M --precision fast --stage unet --width 64 --height 64 --batch 2 --threads 1 \\
        --json --interactive
    python mock.py generate PROMPT --out FILE ..

MOCK_MS is the length of a turn; MOCK_FAULT one of: spin, die, lie, mute, garbage, unready.
"""

import argparse
import os
import struct
import sys
import threading
import time
import zlib

from protocol import Replies, serve

FAULT = os.environ.get("MOCK_FAULT", "")
SECONDS = float(os.environ.get("MOCK_MS", "20")) / 1e3


def burn(seconds: float) -> None:
    """Work that uses the processor."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def spin() -> None:
    """Steals from whoever's turn it is."""
    while True:
        burn(1.0)


def bench(replies: Replies, taken: argparse.Namespace) -> None:
    """The interactive form."""

    def go() -> dict:
        if FAULT == "die":
            raise SystemExit("mock: out of memory")
        if FAULT == "mute":
            time.sleep(3600)
        if FAULT == "garbage":
            replies.stream.write("not json\n")
            replies.stream.flush()
        burn(SECONDS / taken.threads)
        claimed = 1e6 if FAULT == "lie" else SECONDS / taken.threads * 1e3
        return {"ms": claimed, "gflop": 2.0, "mean": 0.0, "std": 1.0}

    if FAULT == "spin":
        threading.Thread(target=spin, daemon=True).start()
    ready = {"name": "mock", "version": "0", "precision": taken.precision, "threads": taken.threads}
    if FAULT == "unready":
        ready["ready"] = False
    serve(replies, ready, {"go": go, "peak": lambda: {"peak_gflops": 400.0}})


def png(path: str, width: int, height: int) -> None:
    """A grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = (b"\0" + b"\x80" * (3 * width)) * height
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)))
        file.write(chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))


def main() -> None:
    """Reads the command line; what the real program does not know is an error here too."""
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="command", required=True)
    for kind in ("bench", "generate"):
        one = kinds.add_parser(kind)
        one.add_argument("--model", required=True)
        one.add_argument("--precision", choices=["fast", "f32"], required=True)
        one.add_argument("--width", type=int, required=True)
        one.add_argument("--height", type=int, required=True)
        one.add_argument("--threads", type=int, required=True)
        one.add_argument("--json", action="store_true", required=True)
        if kind == "bench":
            one.add_argument("--stage", choices=["unet", "vae", "text"], required=True)
            one.add_argument("--batch", type=int, required=True)
            one.add_argument("--interactive", action="store_true", required=True)
            continue
        one.add_argument("prompt")
        for name in ("--out", "--sampler"):
            one.add_argument(name, required=True)
        for name in ("--seed", "--steps", "--guidance"):
            one.add_argument(name, type=float, required=True)
    replies, taken = Replies(), parser.parse_args()
    if taken.command == "bench":
        bench(replies, taken)
        return
    burn(SECONDS)
    png(taken.out, taken.width, taken.height)
    replies.send({"timings": {"load": 0.0, "text": 0.0, "denoise": 0.0, "decode": 0.0, "total": SECONDS}})


if __name__ == "__main__":
    sys.exit(main())

"""What the peers' whole runs share: their command line and their account of time. Standard library only."""

import argparse
import json
import pathlib


def arguments(description: str | None, precisions: list[str]) -> argparse.Namespace:
    """The command line of both peers' pictures."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder written by prepare.py")
    parser.add_argument("--family", default="sd15")
    parser.add_argument("--precision", choices=precisions, required=True)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="PNG to write")
    parser.add_argument("--cache", type=pathlib.Path, help="folder for OpenVINO's compiled models")
    return parser.parse_args()


def report(start: float, marks: list[float]) -> None:
    """Seconds of each part, as `tintype generate --json` names them; `load` has the start of Python in it."""
    parts = dict(zip(("load", "text", "denoise", "decode"), (after - before for before, after in zip(marks, marks[1:]))))
    parts["load"] += marks[0] - start
    print(json.dumps({"timings": parts | {"total": marks[-1] - start}}))

"""Measures Tintype beside its peers, in turns, and writes one table.

    python run.py [--work FOLDER] [--tintype PROGRAM] [--out FOLDER] [--rows step-fast,decode-fast] [--threads 2]

FOLDER of --work is prepare.py's. Rows measured before stay in --out, so that a run can be stopped and gone on with. It
ends with status 1 where a bar of a row asked for stayed without a figure.
"""

import argparse
import dataclasses
import datetime
import json
import pathlib
import shlex
import sys

import lineup
import machine
import measure
import rows
import table
from work import HOME, Work


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, default=HOME / "work", help="[default: target/peers/work]")
    parser.add_argument("--tintype", default="tintype", help="the program, or a command with its arguments in one word")
    parser.add_argument("--out", type=pathlib.Path, default=HOME / "out", help="results [default: target/peers/out]")
    parser.add_argument("--rows", help=f"comma separated [default: {','.join(row.name for row in rows.ROWS)}]")
    parser.add_argument("--rounds", type=int, help="clean rounds of each row [default: the row's own, 3 to 15]")
    parser.add_argument("--threads", type=int, default=2, help="of every contestant [default: 2]")
    parser.add_argument("--settle", type=float, default=0.5, help="seconds of rest before each turn [default: 0.5]")
    parser.add_argument("--limit", type=float, default=1800, help="seconds a load or a turn may take [default: 1800]")
    parser.add_argument("--least-memory", type=float, default=1500, help="MiB left after each load [default: 1500]")
    parser.add_argument("--without", default="", help="contestants to leave out, by name, comma separated")
    parser.add_argument("--candle", type=pathlib.Path, help="the program of bench/candle-stock, to join the f32 rows")
    parser.add_argument("--steps", type=int, default=20, help="guided steps of the picture row [default: 20]")
    parser.add_argument("--size", type=int, help="pixels of SD1.5's rows instead of 512, for small models")
    parser.add_argument("--cold-openvino", action="store_true", help="the picture row without OpenVINO's model cache")
    parser.add_argument("--peer-isa", help="ONEDNN_MAX_CPU_ISA of the peers, such as AVX512_CORE_BF16 (no AMX)")
    parser.add_argument("--tintype-isa", help="TINTYPE_ISA of rows that have none of their own, such as avx512bf16")
    taken = parser.parse_args()
    if not 1 <= taken.threads <= machine.facts()["usable_cores"]:
        parser.error(f"--threads {taken.threads}: this machine has {machine.facts()['usable_cores']} cores for us")
    if taken.rounds is not None and taken.rounds < 1:
        parser.error("--rounds: at least 1")
    return taken


def record_of(taken: argparse.Namespace, held: Work) -> dict:
    """What is the same for all rows."""
    program = lineup.program(taken.tintype)
    return {
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", "bench/peers/run.py", *sys.argv[1:]]),
        "commit": machine.commit(pathlib.Path(__file__).resolve().parents[2]),
        "tintype": machine.fingerprint(program),
        "machine": machine.facts(),
        "versions": held.content["versions"],
        "checkpoints": held.content["checkpoints"],
        "threads": taken.threads,
        "peer_isa": taken.peer_isa,
        "tintype_isa": taken.tintype_isa,
    }


def measured(row: rows.Row, taken: argparse.Namespace, held: Work) -> dict:
    """One row, from loading to ending its contestants."""
    rounds, failures = taken.rounds or row.rounds, {}
    print(f"{row.name}: {row.title}", flush=True)
    entered = lineup.build(row, taken, held, failures)
    start = datetime.datetime.now(datetime.timezone.utc)
    able = []
    try:
        for contestant in entered:
            able += measure.warm([contestant], failures)
            if machine.available_mib() < taken.least_memory and able and able[-1] is contestant:
                failures[contestant.name] = f"only {machine.available_mib():.0f} MiB of memory left after its load"
                able.pop().close()
        first = {each.name: each.peak() for each in able}
        turns = measure.contest(able, rounds, taken.settle, failures, lambda text: print(text, flush=True))
        able = [each for each in able if each.name not in failures]
        last = {each.name: each.peak() for each in able}
        about = {each.name: describe(each) for each in able}
    finally:
        for contestant in able:
            contestant.close()
    counted, quiet = measure.kept([turn for turn in turns if turn.contestant in about], rounds)
    gflop = lineup.gflop(row, taken, held)
    for name, entry in about.items():
        own = [turn for turn in counted if turn.contestant == name]
        entry["summary"] = measure.summary(own, [first[name], last[name]], gflop)
    order = [contestant.name for contestant in row.contestants]
    about |= {name: {"failed": why} for name, why in failures.items()}
    lineup.compare_pictures(row, taken, about)
    return {
        "row": row.name,
        "title": row.title,
        "date": start.isoformat(timespec="seconds"),
        "job": dataclasses.asdict(row.job),
        "commit": machine.commit(pathlib.Path(__file__).resolve().parents[2]),
        "quiet": quiet,
        "contestants": {name: about[name] for name in order if name in about},
        "bars": [measure.verdict(bar, counted, failures) for bar in row.bars],
        "differences": measure.differences(counted),
        "rounds_asked": rounds,
        "turns": [dataclasses.asdict(turn) | {"clean": turn.clean} for turn in turns],
    }


def describe(contestant) -> dict:
    """What is known of a contestant besides its times."""
    return {
        "ready": contestant.ready,
        "load_s": round(contestant.load_seconds, 2),
        "memory_mib": contestant.memory_mib(),
        "command": contestant.command,
    }


def main() -> int:
    """All rows asked for; 1 if a bar of theirs stayed without a figure."""
    taken = options()
    held = Work(taken.work)
    record = record_of(taken, held)
    (taken.out / "rows").mkdir(parents=True, exist_ok=True)
    (taken.out / "run.json").write_text(json.dumps(record, indent=1) + "\n")
    whole = True
    for row in rows.chosen(taken.rows, taken.candle is not None):
        result = measured(lineup.resized(row, taken), taken, held)
        (taken.out / "rows" / f"{row.name}.json").write_text(json.dumps(result, indent=1) + "\n")
        whole &= all(bar["ratio"] is not None for bar in result["bars"])
        for bar in result["bars"]:
            print(f"  {bar['ours']} / {bar['peer']}: {bar['ratio'] or bar['why']} (at most {bar['at_most']:.2f})", flush=True)
    print(table.write(taken.out), end="")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())

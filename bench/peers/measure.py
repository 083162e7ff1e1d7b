"""Turns A-B-A-B, what disturbed them, and their medians. Standard library only."""

import dataclasses
import os
import statistics
import time

import machine
from contestants import Failure
from rows import Bar

# A turn counts if the hypervisor took and other programs used at most these shares of the machine during it.
MOST_STEAL = 0.02
MOST_FOREIGN = 0.05
# Processor time is counted in hundredths of a second: what cannot be told from the clock's own steps.
GRAIN_SECONDS = 0.04
# A round in which something disturbed a turn is run again, up to this many times the rounds asked for.
PATIENCE = 2


@dataclasses.dataclass(frozen=True)
class Turn:
    """One contestant's work, once."""

    contestant: str
    round: int
    ms: float
    wall_ms: float
    steal: float
    foreign: float
    idlers: float
    load: float
    reply: dict

    @property
    def clean(self) -> bool:
        """Whether the machine was its own."""
        grain = GRAIN_SECONDS / (self.wall_ms / 1e3 * os.cpu_count())
        return self.steal <= MOST_STEAL + grain and max(self.foreign, self.idlers) <= MOST_FOREIGN + grain


def take(contestant, others: list, number: int) -> Turn:
    """One turn. `foreign` is what programs outside the contest used, `idlers` what waiting contestants did."""
    own, idle = contestant.cpu_seconds(), sum(other.cpu_seconds() for other in others)
    before = machine.Moment.now()
    reply = contestant.turn()
    after = machine.Moment.now()
    own, idle = contestant.cpu_seconds() - own, sum(other.cpu_seconds() for other in others) - idle
    total = max(after.total - before.total, 1e-9)
    return Turn(
        contestant=contestant.name,
        round=number,
        ms=reply.pop("ms"),
        wall_ms=reply.pop("wall_ms"),
        steal=(after.steal - before.steal) / total,
        foreign=max(0.0, after.busy - before.busy - own - idle) / total,
        idlers=idle / total,
        load=os.getloadavg()[0],
        reply=reply,
    )


def warm(contestants: list, failures: dict[str, str]) -> list:
    """Loads everyone and lets everyone work once uncounted; returns who can go on and notes who cannot."""
    able = []
    for contestant in contestants:
        try:
            contestant.start()
            contestant.turn()
            able.append(contestant)
        except Failure as failure:
            failures[contestant.name] = str(failure)
            contestant.close()
    return able


def contest(contestants: list, rounds: int, settle: float, failures: dict[str, str], say=print) -> list[Turn]:
    """Rounds in which everyone takes a turn, until `rounds` were clean or patience ends. Who fails is out."""
    turns, clean, able = [], 0, list(contestants)
    for number in range(rounds * PATIENCE):
        if clean == rounds or not able:
            break
        fresh = []
        for contestant in list(able):
            time.sleep(settle)
            try:
                fresh.append(take(contestant, [other for other in able if other is not contestant], number))
            except Failure as failure:
                failures[contestant.name] = str(failure)
                able.remove(contestant)
                contestant.close()
        turns += fresh
        clean += bool(fresh) and all(turn.clean for turn in fresh)
        marks = "  ".join(f"{turn.contestant} {turn.ms:.0f} ms{'' if turn.clean else ' (disturbed)'}" for turn in fresh)
        say(f"  round {number + 1}: {marks}")
    return turns


def kept(turns: list[Turn], rounds: int) -> tuple[list[Turn], bool]:
    """The turns of clean rounds, if there are enough of them, else all; and whether they were enough. More than half of
    the rounds asked for, and at least two, is enough."""
    dirty = {turn.round for turn in turns if not turn.clean}
    clean = [turn for turn in turns if turn.round not in dirty]
    numbers = {turn.round for turn in clean}
    enough = len(numbers) >= min(rounds, max(2, rounds // 2 + 1))
    return (clean if enough else turns), enough


def summary(turns: list[Turn], peaks: list[float | None], gflop: float | None) -> dict:
    """A contestant's figures over its turns."""
    times = sorted(turn.ms for turn in turns)
    median = statistics.median(times)
    quarters = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else [median] * 3
    rate = gflop / median * 1e3 if gflop else None
    probes = [peak for peak in peaks if peak]
    peak = statistics.mean(probes) if probes else None
    return {
        "turns": len(times),
        "median_ms": median,
        "min_ms": times[0],
        "max_ms": times[-1],
        "quartiles_ms": [quarters[0], quarters[2]],
        "gflop": gflop,
        "gflops": rate,
        "peak_gflops": peak,
        "of_peak": rate / peak if rate and peak else None,
    }


def verdict(bar: Bar, turns: list[Turn], failures: dict[str, str]) -> dict:
    """A bar and what was measured: the ratio of medians, and the median of the ratios within each round."""
    ours = {turn.round: turn.ms for turn in turns if turn.contestant == bar.ours.name}
    peer = {turn.round: turn.ms for turn in turns if turn.contestant == bar.peer.name}
    about = {"ours": bar.ours.name, "peer": bar.peer.name, "at_most": bar.at_most, "ratio": None, "met": None}
    if not ours or not peer:
        absent = bar.peer.name if ours else bar.ours.name
        return about | {"why": f"{absent}: {failures.get(absent, 'not measured')}"}
    ratio = statistics.median(ours.values()) / statistics.median(peer.values())
    paired = [ours[number] / peer[number] for number in ours if number in peer]
    about |= {"ratio": ratio, "met": ratio <= bar.at_most}
    return about | {"paired_ratio": statistics.median(paired) if paired else None}


def differences(turns: list[Turn]) -> dict[str, float]:
    """How far each contestant's result is from the first one's, by its standard deviation: shows who computed something
    else, not who rounded."""
    spread = {turn.contestant: turn.reply["std"] for turn in turns if turn.reply.get("std")}
    first = next(iter(spread.values()), None)
    return {name: abs(value / first - 1) for name, value in spread.items()} if first else {}

"""The contestants as the harness sees them: processes that take a turn when told and sleep otherwise.

Standard library only.
"""

import json
import os
import pathlib
import select
import subprocess
import time

import machine

# Above the rest of the machine, so that a contestant dies first where memory ends.
OOM_SCORE = "1000"


class Failure(Exception):
    """A contestant did not do its work; the text says what it said last."""


def environment(threads: int, more: dict[str, str]) -> dict[str, str]:
    """The caller's, less what would change the work unseen. KMP_BLOCKTIME=0: Intel's OpenMP would otherwise spin for
    200 ms into the next contestant's turn; GNU's (torch's) and TBB (OpenVINO's) sleep within milliseconds."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TINTYPE_", "ONEDNN_", "DNNL_", "OMP_"))}
    return kept | {"OMP_NUM_THREADS": str(threads), "KMP_BLOCKTIME": "0", "HF_HUB_OFFLINE": "1"} | more


def last_words(log: pathlib.Path, count: int = 3) -> str:
    """The end of what a process wrote to standard error."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " / ".join(lines[-count:]) or "it said nothing"


def dies_first(pid: int) -> None:
    """Offers a process to the kernel where memory ends."""
    try:
        pathlib.Path(f"/proc/{pid}/oom_score_adj").write_text(OOM_SCORE)
    except OSError:
        pass


class Worker:
    """A process that stays alive between turns and speaks the lines of protocol.py."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], log: pathlib.Path, limit: float) -> None:
        self.name, self.command, self.env, self.log, self.limit = name, command, env, log, limit
        self.process: subprocess.Popen | None = None
        self.ready: dict = {}
        self.load_seconds = 0.0
        self.pending = b""

    def start(self) -> None:
        """Loads; returns when the process sleeps."""
        begin = time.perf_counter()
        with self.log.open("wb") as errors:
            try:
                self.process = subprocess.Popen(
                    self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=self.env
                )
            except OSError as error:
                raise Failure(f"{self.command[0]} does not start: {error}") from error
        dies_first(self.process.pid)
        self.ready = self.reply()
        if self.ready.get("ready") is not True:
            raise Failure(f'the first line was {self.ready}, expected {{"ready": true, ..}}')
        self.load_seconds = time.perf_counter() - begin

    def turn(self) -> dict:
        """One unit of work."""
        begin = time.perf_counter()
        answer = self.ask("go")
        answer["wall_ms"] = (time.perf_counter() - begin) * 1e3
        milliseconds = answer.get("ms")
        if not isinstance(milliseconds, (int, float)) or not 0 < milliseconds <= answer["wall_ms"]:
            raise Failure(f"it reports {milliseconds} ms for a turn of {answer['wall_ms']:.1f} ms")
        return answer

    def peak(self) -> float | None:
        """GFLOP/s of its own probe; None if it has none."""
        return self.ask("peak")["peak_gflops"] if self.ready.get("peak") is True else self.ready.get("peak_gflops")

    def ask(self, command: str) -> dict:
        """A line there, a line back."""
        try:
            self.process.stdin.write(command.encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise Failure(f"it is gone: {last_words(self.log)}") from error
        answer = self.reply()
        if "error" in answer:
            raise Failure(f"{command}: {answer['error']}")
        return answer

    def reply(self) -> dict:
        """The next line, within the time limit."""
        stream, end = self.process.stdout.fileno(), time.perf_counter() + self.limit
        while b"\n" not in self.pending:
            left = end - time.perf_counter()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                raise Failure(f"no answer within {self.limit:.0f} s")
            read = os.read(stream, 1 << 16)
            if not read:
                raise Failure(f"it ended with status {self.process.wait()}: {last_words(self.log)}")
            self.pending += read
        line, _, self.pending = self.pending.partition(b"\n")
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise Failure(f"it answered {line[:200]!r}, which is no JSON") from error
        if not isinstance(answer, dict):
            raise Failure(f"it answered {line[:200]!r}, which is no JSON object")
        return answer

    def cpu_seconds(self) -> float:
        """Processor time so far."""
        return machine.cpu_seconds(self.process.pid) if self.process else 0.0

    def memory_mib(self) -> float | None:
        """The most it ever held."""
        return machine.peak_mib(self.process.pid) if self.process else None

    def close(self) -> None:
        """Lets it end by itself, or ends it."""
        if not self.process:
            return
        try:
            self.process.stdin.close()
        except OSError:
            pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Command:
    """A program that is started anew for every turn: its whole time counts, or what `read` finds in its output."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], log: pathlib.Path, read=None) -> None:
        self.name, self.command, self.env, self.log, self.read = name, command, env, log, read
        self.ready: dict = {"name": name}
        self.load_seconds = 0.0
        self.spent = 0.0
        self.most: float | None = None

    def start(self) -> None:
        """Nothing stays alive between turns."""

    def turn(self) -> dict:
        """One run from start to end."""
        begin = time.perf_counter()
        with self.log.open("wb") as errors:
            try:
                process = subprocess.Popen(
                    self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=self.env
                )
            except OSError as error:
                raise Failure(f"{self.command[0]} does not start: {error}") from error
        dies_first(process.pid)
        output = process.stdout.read().decode(errors="replace")
        process.stdout.close()
        _, status, usage = os.wait4(process.pid, 0)
        wall = (time.perf_counter() - begin) * 1e3
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise Failure(f"it ended with status {process.returncode}: {last_words(self.log)}")
        self.spent += usage.ru_utime + usage.ru_stime
        self.most = max(self.most or 0.0, round(usage.ru_maxrss / 1024, 1))
        try:
            return {"ms": wall, "wall_ms": wall} | (self.read(output) if self.read else {})
        except (KeyError, ValueError, IndexError, StopIteration) as error:
            raise Failure(f"its output cannot be read ({error!r}): {output[-200:]!r}") from error

    def peak(self) -> None:
        """A whole run has no probe."""

    def cpu_seconds(self) -> float:
        """Processor time of all its runs."""
        return self.spent

    def memory_mib(self) -> float | None:
        """The most a run held."""
        return self.most

    def close(self) -> None:
        """Nothing to end."""

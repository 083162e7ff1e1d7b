"""What the machine is and what else it did meanwhile, from /proc. Standard library only."""

import dataclasses
import hashlib
import os
import pathlib
import platform
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True)
class Moment:
    """Processor time of the whole machine since its start, in seconds, at a point in time."""

    seconds: float
    busy: float
    steal: float
    total: float

    @classmethod
    def now(cls, stat: str | None = None) -> "Moment":
        """Reads the first line of /proc/stat: user nice system idle iowait irq softirq steal."""
        line = (stat or pathlib.Path("/proc/stat").read_text()).splitlines()[0]
        user, nice, system, idle, wait, irq, soft, steal = (int(field) / TICKS for field in line.split()[1:9])
        busy = user + nice + system + irq + soft
        return cls(time.perf_counter(), busy, steal, busy + idle + wait + steal)


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and its threads; 0 if it is gone."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_mib(pid: int) -> float | None:
    """The most memory a process ever held, mapped files included."""
    return field_mib(f"/proc/{pid}/status", "VmHWM:")


def available_mib() -> float:
    """Memory that can be had without swapping."""
    return field_mib("/proc/meminfo", "MemAvailable:") or 0.0


def field_mib(path: str, name: str) -> float | None:
    """A `name  number kB` line."""
    try:
        lines = pathlib.Path(path).read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(name):
            return round(int(line.split()[1]) / 1024, 1)
    return None


def facts() -> dict:
    """For the record."""
    about = {}
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        about.setdefault(name.strip(), value.strip())
    wide = ("avx", "amx", "fma", "f16c", "sse4")
    huge = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "cpu": about.get("model name", platform.processor()),
        "family": f"{about.get('cpu family')}/{about.get('model')}/{about.get('stepping')}",
        "mhz": about.get("cpu MHz"),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "flags": about.get("flags", ""),
        "vector_flags": [flag for flag in about.get("flags", "").split() if flag.startswith(wide)],
        "hypervisor": "hypervisor" in about.get("flags", "").split(),
        "memory_mib": field_mib("/proc/meminfo", "MemTotal:"),
        "kernel": platform.release(),
        "huge_pages": huge.read_text().strip() if huge.exists() else None,
        "load": os.getloadavg(),
        "python": platform.python_version(),
    }


def commit(root: pathlib.Path) -> str | None:
    """The checked-out commit, with a plus sign if tracked files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", root, *words], check=True, capture_output=True, text=True).stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def fingerprint(program: pathlib.Path) -> dict:
    """Which file was measured."""
    with program.open("rb") as file:
        return {"path": str(program), "bytes": program.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}

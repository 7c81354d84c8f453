"""Hosts made up for the reader's tests: what --phase monitor would have recorded of a service with a known truth."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from memory_leak_stress_test import HostStretch, ProcessMemory, RoleMemory, TaskResult
from unit.reader_runs import BEGIN, BORN, CSV_HEAD, numbered, task, with_settings

TASK_S, PAUSE_S = 10.0, 6.0
FIRST_S = 20.0  # release of the first task

Level = Callable[[float], float]  # MB at a second of the load's time


@dataclass(frozen=True)
class Process:
    """A watched process: what it holds, and when it works, in seconds of the load's time."""

    role: str
    pid: int
    mb: Level
    works: Sequence[tuple[float, float]] = ()
    begin: float = -100.0
    end: float = 1e9
    name: str = "rq"


@dataclass(frozen=True)
class MadeUp:
    """A host, its processes, and what is odd about its record; its clock is so many seconds `ahead` of the load's."""

    name: str
    processes: Sequence[Process]
    seconds: float
    ahead: float = 0.0
    zone_s: float = 0.0
    begin: float = 0.0
    holes: Sequence[tuple[float, float]] = ()  # (from, to) without samples, in the load's time
    clock: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path, stamp: str, *, lines: bool = True) -> Path:
        """The CSV, and the lines beside it; returns the CSV."""
        path = folder / f"system_resources_{stamp}.csv"
        times = [self.begin + n for n in range(int(self.seconds - self.begin))
                 if not any(a <= self.begin + n < b for a, b in self.holes)]
        rows = [f"{self.moment(t)},{t - self.begin:.2f},{p.name},{p.pid},{self.cpu(p, t)},{p.mb(t) + 30:.2f},1.0\n"
                for t in times for p in self.processes if p.begin <= t < p.end]
        path.write_text(CSV_HEAD + "".join(rows), encoding="utf-8")
        path.with_name(f"host_{stamp}.jsonl").unlink(missing_ok=True)
        if lines:
            head = {"schema": 2, "timestamp": self.moment(self.begin), "elapsed_seconds": 0.0, "limits": {},
                    "host": {"name": self.name, "cpus": 4, "memory_mb": 16000, "clock": {
                        "utc_offset_s": self.zone_s, "synchronised": None, "max_error_s": None, **self.clock}}}
            content = [head, *(dataclasses.asdict(each) for each in self.stretches(times))]
            path.with_name(f"host_{stamp}.jsonl").write_text("".join(json.dumps(c) + "\n" for c in content))
        return path

    def moment(self, t: float) -> str:
        local = BEGIN + timedelta(seconds=t + self.ahead + self.zone_s)
        return local.isoformat(timespec="milliseconds")

    def cpu(self, process: Process, t: float) -> float:
        """Percent of a core over the second before."""
        inside = sum(max(0.0, min(t, end) - max(t - 1, begin)) for begin, end in process.works)
        return round(100 * inside + 0.1, 1)

    def stretches(self, times: Sequence[float]) -> Iterable[HostStretch]:
        for first in range(0, len(times), 10):
            part = times[first : first + 10]
            gap = max([b - a for a, b in zip(times[max(0, first - 1):], part, strict=False)] or [0.2])
            roles = {p.role for p in self.processes}
            yield HostStretch(
                self.moment(part[-1]), part[-1] - self.begin,
                {role: self.role_memory(role, part) for role in sorted(roles)}, [t - self.begin for t in part],
                {role: [self.held(role, t, 30.0) for t in part] for role in roles},
                {role: [self.held(role, t, 0.0) for t in part] for role in roles}, max(0.2, gap - 1), 9000.0, 0)

    def held(self, role: str, t: float, shared: float) -> float | None:
        held = [p.mb(t) + shared for p in self.processes if p.role == role and p.begin <= t < p.end]
        return sum(held) if held else None

    def role_memory(self, role: str, part: Sequence[float]) -> RoleMemory:
        seen = [p for p in self.processes if p.role == role and p.begin <= part[-1] and p.end > part[0]]
        return RoleMemory(None, None, None, None, None, [
            ProcessMemory(p.pid, BORN, p.name, p.mb(part[-1]) + 30, p.end <= part[-1], p.begin < part[0], True,
                          p.mb(part[-1])) for p in seen])


def unwatched(cycles: int, pause_s: float = PAUSE_S, **changes: Any) -> list[TaskResult]:
    """A leak phase whose load came from elsewhere: a warm-up and one short and one long task per cycle."""
    results, at = [], FIRST_S
    for cycle in range(cycles + 1):
        for clip, seconds in (("short", 2.0), ("long", TASK_S)):
            at += seconds
            results.append(task(at, "leak", clip, {}, cycle=cycle, processing_time=seconds, settled=None,
                                sample_gap_s=None, **changes))
            at += pause_s
    return numbered(with_settings(results, no_watch=True, phase="leak"))


def windows(results: Sequence[TaskResult]) -> list[tuple[float, float]]:
    """When each task was worked on, seconds: all of its time but for the polls."""
    ends = [(moment_s(r.timestamp), r.processing_time or 0.0) for r in results]
    return [(end - taken + 0.05, end - 0.1) for end, taken in ends]


def moment_s(stamp: str) -> float:
    return (datetime.fromisoformat(stamp) - BEGIN).total_seconds()


def worker(works: Sequence[tuple[float, float]], keeps_mb: float, **odd: Any) -> Process:
    return Process("worker", 100, keeps(works, keeps_mb), works, **odd)


def keeps(works: Sequence[tuple[float, float]], mb: float, start: float = 300.0, model: float = 400.0) -> Level:
    """What a worker holds that loads its model at its first task and keeps so much of each."""
    def level(t: float) -> float:
        done = sum(end <= t for _, end in works)
        busy = any(begin <= t < end for begin, end in works)
        return start + (model if done or busy else 0.0) + mb * done + (120.0 if busy else 0.0)

    return level

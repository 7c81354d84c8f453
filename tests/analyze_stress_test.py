#!/usr/bin/env python3
"""Reader of recorded stress tests: judges a run and writes its report (markdown, charts as SVG beside it).

    analyze_stress_test.py RUN.jsonl [--resources CSV…] [--baseline BEFORE.jsonl] [--lang en|zh-CN]
                                     [--output PATH] [--no-charts] [--json]

RUN.jsonl is what memory_leak_stress_test.py recorded (or an older tool of the same purpose); the CSV of the same
timestamp beside it is found by itself. RUN may also be such a CSV alone: then only resources are reported.

With --json the summary goes to standard output and nothing else does; a report is then written only where --output
says. Exit status: 0 every criterion passed · 1 a criterion failed · 2 wrong command line or unreadable input ·
3 inconclusive.

Data flows from top to bottom: reading, judging, words, charts, markdown, terminal, main. What both tools share, the
record and the growth rule, comes from the instrument.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import csv
import dataclasses
import functools
import gc
import itertools
import json
import math
import os
import re
import shlex
import statistics
import sys
import traceback
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import quote

from rich.console import Console
from rich.table import Table
from rich.text import Text

from memory_leak_stress_test import (
    CSV_COLUMNS,
    EXIT_FAIL,
    EXIT_INCONCLUSIVE,
    EXIT_INTERRUPTED,
    EXIT_PASS,
    EXIT_USAGE,
    GAP_S,
    GROWTH_AFTERWARDS,
    GROWTH_REASONS,
    ROLES,
    SETTLE_S,
    VERSION,
    Breach,
    GrowthVerdict,
    HorseSeries,
    LevelRun,
    ProcessMemory,
    RoleMemory,
    RoleVerdict,
    Settings,
    TaskResult,
    afterwards,
    judge_leak,
    judge_level_run,
    median,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# ==================================================================================================== reading

STATUSES = ("success", "failed", "timeout")
PHASES = ("leak", "concurrency")
SANE = 1e9  # MB, seconds, percent: anything beyond is a broken line, not a measurement
MOST_TASKS = 100_000  # tasks at once, cycles, runs of a level: beyond is a broken line
CLOCK_JUMP_S = 2.0  # wall clock against monotonic clock between two samples
SAME_RUN_S = 60.0  # a CSV that lies further from every task belongs to another run
EPOCH = datetime(1970, 1, 1)
JSON = json.JSONDecoder(parse_constant=lambda word: None)  # NaN and Infinity are no measurements
LONGEST_HOLE_S = 3600.0  # a later elapsed time counts only if the wall clock agrees: one garbled digit is no hole
NUMBERED_ID = re.compile(r"_c\d+_(\d{4,8})$")  # the running number, from which a lost line shows
OLD_RAMP_ID = re.compile(r"_c\d+_t(\d+)_\d+$")  # an older tool's ramp; its other lines are its leak phase
MIB_PER_MB = 1.048576  # the older tool recorded clip sizes in MiB


class Unreadable(Exception):
    """The input cannot be judged; the message is one sentence for a person."""


@dataclass(frozen=True)
class Note:
    """A sentence of the word table and its facts: what is found is kept apart from how it is said."""

    key: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        """So that notes can be counted: equal ones come from one place, with their facts in one order."""
        return hash((self.key, str(self.facts)))


class BadLine(ValueError):
    """A line of results that cannot be reckoned with, and why."""

    def __init__(self, key: str, **facts: str) -> None:
        super().__init__()
        self.why = Note(f"skip_{key}", facts)

    def __str__(self) -> str:
        return Words("en").note(self.why)


@dataclass(slots=True)
class Process:
    """One process as the CSV saw it: sample numbers, RSS in MiB and CPU in percent of a core."""

    name: str
    pid: int
    at: array[int] = field(default_factory=lambda: array("I"))
    rss: array[float] = field(default_factory=lambda: array("d"))
    cpu: array[float] = field(default_factory=lambda: array("d"))


def hole_from(interval: float) -> float:
    """Seconds between two samples from which on it is a hole, where one is taken every `interval` seconds."""
    return max(GAP_S, 2.5 * interval)


@dataclass
class Samples:
    """One CSV of samples. `elapsed` is monotonic; `clock` relates it to the wall clock, one entry per clock jump."""

    path: Path
    elapsed: array[float] = field(default_factory=lambda: array("d"))
    processes: list[Process] = field(default_factory=list)
    clock: list[tuple[float, float]] = field(default_factory=list)  # (wall seconds, elapsed) where a stretch begins
    clock_end: float = 0.0  # wall seconds of the last sample
    gaps: list[tuple[float, float]] = field(default_factory=list)  # (elapsed, seconds) of holes between samples
    rows: int = 0
    skipped: int = 0

    @property
    def interval(self) -> float | None:
        """Median seconds between samples."""
        return median([b - a for a, b in itertools.pairwise(self.elapsed)])

    @functools.cached_property
    def stretches(self) -> list[tuple[float, float]]:
        return sorted(self.clock)

    def at_wall(self, wall: float) -> float:
        """Elapsed seconds of a wall-clock time."""
        begin, elapsed = self.stretches[max(0, bisect.bisect(self.stretches, (wall, math.inf)) - 1)]
        return elapsed + wall - begin

    def covers(self, wall: float) -> bool:
        end = max(self.clock_end, self.stretches[-1][0])
        return self.stretches[0][0] - SAME_RUN_S <= wall <= end + SAME_RUN_S

    def holes(self, interval: float) -> list[tuple[float, float]]:
        """(elapsed, seconds) of the holes that sampling at this interval (seconds) does not explain."""
        return [(at, length) for at, length in self.gaps if length > hole_from(interval)]

    def times(self, process: Process) -> list[float]:
        return [self.elapsed[i] for i in process.at]


@dataclass
class Run:
    """A recorded run: its lines, its samples, and what of them could not be read."""

    path: Path
    results: list[TaskResult] = field(default_factory=list)
    legacy: bool = False
    lines: int = 0
    skipped: Counter[Note] = field(default_factory=Counter)  # reason -> lines
    duplicates: int = 0
    missing: int = 0  # running numbers without a line
    samples: list[Samples] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def phase(self, name: str) -> list[TaskResult]:
        return [r for r in self.results if r.phase == name]

    def setting(self, name: str) -> Any:
        """The run's setting if it has the type of the default, else the default."""
        default = getattr(Settings(), name)
        value = self.results[0].settings.get(name) if self.results else None
        number = isinstance(default, (int, float)) and not isinstance(default, bool)
        if number and isinstance(value, (int, float)) and not isinstance(value, bool):
            return value if 0 <= value <= SANE else default
        return value if type(value) is type(default) and not number else default

    def asked(self, phase: str) -> bool:
        """Whether this phase was to be run."""
        return bool(self.results) and self.setting("phase") in ("all", phase)

    @property
    def watched(self) -> bool:
        return not self.setting("no_watch")

    @property
    def empty_texts(self) -> int | None:
        """Tasks that were done without a word of text; None where no result says whether there was one."""
        told = [r.empty_text for r in self.results if r.empty_text is not None]
        return sum(told) if told else None

    @property
    def failed_leak_tasks(self) -> list[TaskResult]:
        return [r for r in self.phase("leak") if r.status != "success" and r.error_kind != "interrupted"]

    @property
    def lost(self) -> int:
        """Results that are not there, as far as it shows: a line that cannot be read also leaves its number out."""
        return max(self.missing, self.skipped.total())


def read_run(path: Path, resources: Sequence[Path] | None) -> Run:
    """Read a run's JSONL and its CSVs. Raises Unreadable where there is nothing to judge."""
    run = Run(path)
    if path.suffix.lower() == ".csv":
        run.samples = [s for s in (read_samples(p) for p in (path, *(resources or ()))) if s.rows]
        if not run.samples:
            raise Unreadable(f"{path} holds no samples: expected the columns {','.join(CSV_COLUMNS)}.")
        return run
    read_results(run)
    if not run.results:
        why = "; ".join(f"{n} {Words('en').note(reason)}" for reason, n in run.skipped.most_common(3))
        raise Unreadable(f"{path} holds no test result ({run.lines} lines{': ' if why else ''}{why}). Name the .jsonl "
                         "of a run; for its resources alone, name its CSV.")
    beside = path.with_name(path.name.replace("memory_leak_stress_test", "system_resources", 1)).with_suffix(".csv")
    for csv_path in resources if resources is not None else [beside]:
        if resources is None and (csv_path == path or not csv_path.is_file()):
            run.notes.append(Note("csv_missing", {"file": csv_path.name}) if run.watched else Note("not_watched"))
        else:
            add_samples(run, read_samples(csv_path))
    return run


def add_samples(run: Run, samples: Samples) -> None:
    """Keep the samples if they belong to the run, and note what is wrong with them."""
    file = samples.path.name
    walls = [w for w in (wall_seconds(r.timestamp) for r in run.results) if w is not None]
    if not samples.rows:
        run.notes.append(Note("csv_empty", {"file": file, "skipped": samples.skipped}))
        return
    if walls and not any(samples.covers(w) for w in walls):
        run.notes.append(Note("csv_other_run", {"file": file}))
        return
    run.samples.append(samples)
    if samples.skipped:
        run.notes.append(Note("csv_skipped", {"file": file, "rows": samples.rows, "skipped": samples.skipped}))
    if len(samples.clock) > 1:
        run.notes.append(Note("csv_clock", {"file": file, "jumps": len(samples.clock) - 1}))
    missing = max(walls, default=samples.clock_end) - samples.clock_end
    if missing > SAME_RUN_S / 4:
        run.notes.append(Note("csv_short", {"file": file, "seconds": missing}))


def read_results(run: Run) -> None:
    """Read the JSONL line by line; a line that cannot be read is counted with its reason."""
    seen: dict[str, int] = {}
    old_ids: Counter[tuple[str, ...]] = Counter()
    try:
        with run.path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if not line.strip():
                    continue
                run.lines += 1
                try:
                    result = read_result(line, run, old_ids)
                except (ValueError, OverflowError, RecursionError) as error:
                    run.skipped[why_skipped(error)] += 1
                    continue
                if result.test_id not in seen:
                    seen[result.test_id] = hash(line)
                    run.results.append(result)
                elif seen[result.test_id] == hash(line):
                    run.duplicates += 1
                else:
                    run.skipped[Note("skip_id_twice")] += 1
    except OSError as error:
        raise Unreadable(f"{run.path} cannot be read: {error.strerror or error}.") from None
    numbers = [int(found.group(1)) for test_id in seen if not run.legacy and (found := NUMBERED_ID.search(test_id))]
    if len(set(numbers)) == len(numbers) == len(seen):
        run.missing = max(numbers) - len(numbers) if numbers else 0


def why_skipped(error: Exception) -> Note:
    """Why a line cannot be read: it was found bad, or it is torn, or it is more than Python takes."""
    if isinstance(error, BadLine):
        return error.why
    return Note("skip_not_json" if isinstance(error, json.JSONDecodeError) else "skip_too_large")


def read_result(line: str, run: Run, old_ids: Counter[tuple[str, ...]]) -> TaskResult:
    """One line as a result with values that can be reckoned with, else BadLine."""
    content = json_object(line)
    if "test_id" in content and "phase" not in content and "schema" not in content:
        run.legacy = True
        result = from_old_record(content, old_ids)
    else:
        result = record_of(TaskResult, content)
    if result.phase not in PHASES or result.status not in STATUSES:
        raise BadLine("unknown")
    if result.phase == "leak" and result.cycle is None:
        raise BadLine("missing", name="cycle")
    if result.audio_seconds is not None and result.audio_seconds <= 0:
        raise BadLine("range", name="audio_seconds")
    counts = {"concurrency": result.concurrency - 1, "cycle": result.cycle or 0, "level_run": result.level_run or 0}
    if beyond := [name for name, n in counts.items() if not 0 <= n < MOST_TASKS]:
        raise BadLine("range", name=beyond[0])
    if result.level is not None:
        deaths = result.level.get("deaths")
        result.level["deaths"] = [str(words) for words in deaths] if isinstance(deaths, list) else []
        result.level["client_limited"] = result.level.get("client_limited") is True
    if run.results:  # the same in every line, kept once
        last = run.results[-1]
        result.settings = last.settings if last.settings == result.settings else result.settings
        result.host = last.host if last.host == result.host else result.host
    return result


def json_object(line: str) -> dict[str, Any]:
    """One line of JSON. ValueError where it is no object."""
    content = JSON.decode(line)
    if not isinstance(content, dict):
        raise BadLine("no_object")
    return content


def result_from_json(line: str) -> TaskResult:
    """One line as the instrument writes it. ValueError says which field is missing or of the wrong type."""
    result: TaskResult = record_of(TaskResult, json_object(line))
    return result


def record_of(kind: Any, content: Mapping[str, Any]) -> Any:
    """Build a record from JSON, checking each field's type and range; fields of a later version are left out."""
    values = {}
    for name, hint, simple, required in fields_of(kind):
        if name in content:
            value = content[name]
            values[name] = value if type(value) in simple else checked(name, hint, value)
            if type(value) is float and not -SANE <= value <= SANE:
                raise BadLine("range", name=name)
        elif required:
            raise BadLine("missing", name=name)
    return kind(**values)


@functools.cache  # working the types out takes longer than all the rest of reading a line
def fields_of(kind: Any) -> list[tuple[str, Any, frozenset[Any], bool]]:
    """Name, type, the types of values that need no look inside, and "is required" of a record's fields."""
    hints = get_type_hints(kind)
    options = {name: frozenset(get_args(h)) if type(None) in get_args(h) else {h} for name, h in hints.items()}
    return [(f.name, hints[f.name], frozenset({str, int, float, bool, type(None)}.intersection(options[f.name])),
             f.default is f.default_factory is dataclasses.MISSING) for f in dataclasses.fields(kind)]


def checked(name: str, hint: Any, value: Any) -> Any:
    """The value if it has the type of the hint (records, lists and dicts of them, X | None), else BadLine."""
    kind, origin, inner, optional = parts_of(hint)
    if kind is Any or type(value) is kind or (optional and value is None):
        return value
    if origin is list and isinstance(value, list):
        return [checked(name, inner[0], item) for item in value]
    if origin is dict and isinstance(value, dict):
        return value if inner[1] is Any else {str(k): checked(name, inner[1], v) for k, v in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return record_of(kind, value)
    if kind is float and type(value) is int:
        return float(value)
    raise BadLine("wrong", name=name, value=plain(repr(value), 60))


@functools.cache
def parts_of(hint: Any) -> tuple[Any, Any, tuple[Any, ...], bool]:
    """A type without its "or None", its origin and arguments, and whether None will do."""
    optional = type(None) in get_args(hint)
    kind = get_args(hint)[0] if optional else hint
    return kind, get_origin(kind), get_args(kind), optional


def from_old_record(content: Mapping[str, Any], old_ids: Counter[tuple[str, ...]]) -> TaskResult:
    """A line of the older tool: no phase, no peaks, RSS of one process only.

    Its ramp has ids like clip_c3_t0_<time>; a clip's first task counts as first use, cycle 0. The length of a clip
    comes from time and RTF.
    """
    test_id = str(content["test_id"])
    task = OLD_RAMP_ID.search(test_id)
    clip = str(content.get("audio_file"))
    place = (clip, str(content.get("concurrency")), task.group(1)) if task else (clip,)
    taken, rtf, size = (content.get(key) for key in ("processing_time", "rtf", "audio_size_mb"))
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) and v > 0 for v in (taken, rtf))
    known = {f.name for f in dataclasses.fields(TaskResult)} - {"memory", "level", "settings", "host"}
    result: TaskResult = record_of(TaskResult, {k: v for k, v in content.items() if k in known} | {
        "phase": "concurrency" if task else "leak",
        "schema": 0,
        "status": content.get("status") if content.get("status") in STATUSES else "failed",
        "cycle": None if task else old_ids[place],
        "level_run": old_ids[place] + 1 if task else None,
        "audio_seconds": taken / rtf if numbers and taken is not None and rtf is not None else None,
        "audio_size_mb": size * MIB_PER_MB if isinstance(size, float) else None,
        "memory": {"worker": dict.fromkeys(("private_before_mb", "private_after_mb", "peak_mb")) | {
            "before_mb": content.get("worker_rss_before_mb"), "after_mb": content.get("worker_rss_after_mb")}},
    })
    old_ids[place] += 1
    return result


def read_samples(path: Path) -> Samples:
    """Read a CSV of samples; rows that cannot be read, or go back in time, are counted. Raises Unreadable.

    A million rows may pass through this one loop, so it calls nothing that most of them do not need.
    """
    samples = Samples(path)
    alive: dict[str, Process] = {}
    figures = Figures()
    last_stamp = last_elapsed = ""
    wall, elapsed, number = 0.0, -1.0, -1
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            for line in file:
                row = line.split(",") if '"' not in line else quoted_row(line)
                try:
                    stamp, elapsed_text, name, pid, cpu_text, rss_text, _ = row
                    cpu, rss = figures[cpu_text], figures[rss_text]
                    if line[-1] != "\n":  # cut off: digits may be lost
                        raise ValueError
                    if elapsed_text != last_elapsed or stamp != last_stamp:
                        now, then = float(elapsed_text), wall_seconds(stamp)
                        if then is None:
                            raise ValueError
                        if not 0 < now - elapsed <= GAP_S or abs(then - wall - (now - elapsed)) > CLOCK_JUMP_S:
                            note_break(samples, then, now, wall, elapsed)
                        if now > elapsed:
                            samples.elapsed.append(now)
                            number += 1
                        last_stamp, last_elapsed, wall, elapsed = stamp, elapsed_text, then, now
                    process = alive.get(pid)
                    if process is None or number - process.at[-1] > 2:  # the pid came back: another process
                        process = alive[pid] = Process(name, int(pid))
                        samples.processes.append(process)
                except (ValueError, OverflowError):
                    samples.skipped += bool(line.strip()) and not line.startswith(CSV_COLUMNS[0])
                    continue
                process.name = name  # the last name: a title may be set after the start
                process.at.append(number)
                process.rss.append(rss)
                process.cpu.append(cpu)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror or error}.") from None
    samples.rows = sum(len(process.at) for process in samples.processes)
    samples.clock_end = wall
    return samples


class Figures(dict[str, float]):
    """MB and percent by how they are written: few are seen once only, and reading one takes longer than finding it."""

    MOST = 50_000

    def __missing__(self, text: str) -> float:
        value = float(text)
        if not 0 <= value <= SANE:
            raise ValueError
        if len(self) >= self.MOST:
            self.clear()
        self[text] = value
        return value


def quoted_row(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def note_break(samples: Samples, wall: float, now: float, last_wall: float, last: float) -> None:
    """Note where the two clocks part, and holes between samples. ValueError where the sample cannot follow the last:

    elapsed time never goes back, nor hours ahead of the wall clock.
    """
    jumped = abs(wall - last_wall - (now - last)) > CLOCK_JUMP_S
    if not max(0.0, last) <= now <= SANE or (last >= 0 and jumped and now - last > LONGEST_HOLE_S):
        raise ValueError
    if jumped or not samples.clock:
        samples.clock.append((wall, now))
    if last >= 0 and now - last > GAP_S:
        samples.gaps.append((last, now - last))


def wall_seconds(timestamp: str) -> float | None:
    """A local ISO time as seconds on the wall clock; None where it is none."""
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    return ((moment.replace(tzinfo=None) if moment.tzinfo else moment) - EPOCH).total_seconds()


def task_window(result: TaskResult) -> tuple[float, float] | None:
    """Wall-clock seconds from a task's release to its end; one that was given up had all the time it was given."""
    end, taken = wall_seconds(result.timestamp), result.processing_time
    if taken is None and result.error_kind == "task_timeout":
        limit = result.settings.get("task_timeout")
        taken = limit if isinstance(limit, float) and 0 < limit < SANE else None
    return None if end is None else (end - (taken or 0.0), end)


def longest_gap(run: Run, tasks: Sequence[TaskResult]) -> float | None:
    """Longest time that these tasks' processes went unwatched, as the CSV shows; None where it is not known at all.

    What the results tell of it counts besides.
    """
    windows = [w for w in map(task_window, tasks) if w]
    told = all(r.sample_gap_s is not None for r in tasks)
    if not windows or not (told or run.samples):
        return None
    begin, end = min(w[0] for w in windows), max(w[1] for w in windows)
    gaps = [length for s in run.samples for at, length in s.holes(run.setting("interval"))
            if s.at_wall(begin) < at + length and at < s.at_wall(end)]
    # A CSV that begins late or was cut off has a hole, too, which the record alone can fill.
    unseen = [max(s.elapsed[0] - s.at_wall(begin), s.at_wall(end) - s.elapsed[-1]) for s in run.samples]
    return max([*gaps, 0.0 if told or run.legacy else min(unseen) - SAME_RUN_S / 4])


# ==================================================================================================== judging

DELTA_BAD_MB = 500.0  # a long task that leaves more is bad; between the limit (200) and this, poor
REAL_TIME = 1.0  # RTF from which a task takes longer than its recording
NEEDED_LEVEL, GOOD_LEVEL = 3, 5  # tasks at once that a service must stand, and that are good
KNEE_SHARE = 0.95  # of the highest throughput
ONLY_WAIT = 2  # max_stable beyond this many times the knee: what is above the knee only waits
ONE_AT_A_TIME = 1.5  # effective parallelism below it is nearer to one task at a time than to two
CONFIDENCE = 0.05  # no failure in n tasks bounds the failure rate by 1 - 0.05^(1/n), with 95 % confidence
MUCH_BIGGER_MB = 100.0  # an unrecorded process this much above the recorded one did the work
CRITERIA = ("long_audio_delta", "return_to_baseline", "no_cumulative_growth", "min_concurrency", "no_worker_crash",
            "rtf_under_load")
MEMORY_CRITERIA = CRITERIA[:3]  # observed and limit in MB


@dataclass(frozen=True)
class Criterion:
    """One criterion. `observed` and `limit` in MB (MiB), MB per cycle, tasks, deaths or RTF, as its id says."""

    id: str
    status: str  # pass | fail | inconclusive | not_measured
    observed: float | None
    limit: float
    text: Note
    asked: bool = True  # False: its phase was not to be run, so nothing is missing


@dataclass(frozen=True)
class Level:
    """One level of the ramp over all its runs; figures from runs in which the instrument was not the limit, if any."""

    concurrency: int
    runs: int
    submitted: int
    succeeded: int
    rtf_median: float | None
    rtf_max: float | None
    turnaround_median_s: float | None
    turnaround_max_s: float | None
    audio_seconds_per_second: float | None  # median over the runs
    worker_peak_mb: float | None
    client_limited: bool
    stable: bool
    complete: bool
    flaky: bool  # failed first, passed when confirmed: counted as failed
    interrupted: bool
    rtf_known: int  # tasks that succeeded with a known RTF


@dataclass(frozen=True)
class Ramp:
    """The three answers of the ramp (never one), and why it ended."""

    levels: list[Level]
    max_stable: int | None
    max_real_time: int | None
    knee: int | None
    effective_parallelism: float | None
    stop_reason: str | None
    first_breach: Breach | None
    failure_bound: float | None  # of one task at max_stable, 95 % confidence
    tasks_at_limit: int


@dataclass(frozen=True)
class Hidden:
    """A short-lived process that only the CSV saw. Seconds are elapsed time; MB are RSS."""

    name: str
    pid: int
    first_s: float
    last_s: float
    peak_mb: float
    held_mb: float  # at its last sample
    test_id: str | None  # the task it overlaps most


@dataclass(frozen=True)
class Evidence:
    """What the CSV says about which process did the work of an old record."""

    recorded: Process | None  # the process whose memory the results record, if one fits
    recorded_max_mb: float
    hidden: list[Hidden]


@dataclass
class Judged:
    """A run and everything derived from it."""

    run: Run
    verdict: str  # pass | fail | inconclusive
    criteria: list[Criterion]
    roles: dict[str, RoleVerdict]
    ramp: Ramp
    evidence: Evidence | None
    crashes: list[str]
    cut_short: Note | None  # why the record is not the whole run, which then never passes
    usage: list[tuple[Samples, list[RoleSeries]]]


def judge(run: Run) -> Judged:
    """Everything that is derived from a run."""
    evidence = seek_hidden(run) if run.legacy else None
    roles = judge_roles(run, evidence)
    ramp = judge_ramp(run)
    crashes = find_crashes(run.results)
    memory = [long_audio_delta(run, evidence), return_to_baseline(run, roles, evidence)]
    criteria = [*(doubted(c, evidence) for c in memory), no_cumulative_growth(run, roles, evidence),
                min_concurrency(run, ramp), no_worker_crash(run, crashes), rtf_under_load(run, ramp)]
    cut_short = find_cut(run, ramp)
    usage = [(samples, series_of_roles(run, samples)) for samples in run.samples]
    return Judged(run, overall(criteria, cut_short), criteria, roles, ramp, evidence, crashes, cut_short, usage)


def find_cut(run: Run, ramp: Ramp) -> Note | None:
    """Why the run as a whole is no evidence: its end or some lines are not there, or nothing was recognised."""
    if ramp.stop_reason == "interrupted" or any(r.error_kind == "interrupted" for r in run.results):
        return Note("cut_interrupted")
    if run.results and not run.legacy and run.asked("concurrency") and not run.phase("concurrency"):
        return Note("cut_early")
    if run.lost:
        return Note("cut_lost", {"count": run.lost})
    return Note("empty_text", {"count": run.empty_texts}) if run.empty_texts else None


def overall(criteria: Sequence[Criterion], cut_short: Note | None) -> str:
    """The verdict: what was not asked for is no reason to withhold a pass; anything else that is missing is."""
    counted = [c.status for c in criteria if c.asked or c.status != "not_measured"]
    if "fail" in counted:
        return "fail"
    return "pass" if set(counted) == {"pass"} and not cut_short else "inconclusive"


def judge_roles(run: Run, evidence: Evidence | None) -> dict[str, RoleVerdict]:
    """Leak verdict of every watched role; an old record never says NO LEAK."""
    leak = run.phase("leak")
    if not leak:
        return {}
    gap_s = longest_gap(run, [r for r in leak if r.cycle])
    roles = judge_leak(leak, tolerance_mb=run.setting("tolerance_mb"), min_cycles=run.setting("min_cycles"),
                       sampler_gap_s=gap_s)
    if gap_s is None and not run.legacy:
        roles = {role: dataclasses.replace(v, growth=undecided(v.growth, "gap_unknown")) for role, v in roles.items()}
    if all(r.cycle for r in leak):  # its beginning is lost, so is the growth at first use
        roles = {role: dataclasses.replace(v, first_use_growth_mb=None) for role, v in roles.items()}
    worker = roles.get("worker")
    if not run.legacy or not worker or worker.growth.verdict == "LEAK":
        return roles
    if evidence and evidence.hidden:
        peak = max(h.peak_mb for h in evidence.hidden)
        growth = GrowthVerdict("NOT MEASURED", "wrong_process", {"recorded": evidence.recorded_max_mb, "peak": peak},
                               None, None, 0)
        worker = dataclasses.replace(worker, growth=growth, peak_mb=peak, first_use_growth_mb=None)
    else:
        worker = dataclasses.replace(worker, growth=undecided(worker.growth, "old_record"))
    return roles | {"worker": worker}


def undecided(growth: GrowthVerdict, reason: str) -> GrowthVerdict:
    """The verdict where this is a reason to doubt a NO LEAK."""
    return dataclasses.replace(growth, verdict="INCONCLUSIVE", reason=reason) if growth.verdict == "NO LEAK" else growth


def seek_hidden(run: Run) -> Evidence:
    """Find, in the CSV alone, processes that did the work though the results record another one's memory.

    They are not the recorded one, reached far more memory than it, and used CPU as it did or more.
    """
    recorded_mb = [mb for r in run.results for mb in (r.worker_rss_before_mb, r.worker_rss_after_mb) if mb is not None]
    if not run.samples or not recorded_mb:
        return Evidence(None, max(recorded_mb, default=0.0), [])
    samples, most = run.samples[0], max(recorded_mb)
    recorded = find_recorded(run.results, samples)
    used = sum(recorded.cpu) if recorded else 0.0
    windows = [(r.test_id, samples.at_wall(w[0]), samples.at_wall(w[1])) for r in run.results if (w := task_window(r))]
    hidden = []
    for process in samples.processes:
        peak = max(process.rss)
        if process is recorded or peak < most + MUCH_BIGGER_MB or sum(process.cpu) <= used / 10:
            continue
        first, last = samples.elapsed[process.at[0]], samples.elapsed[process.at[-1]]
        overlaps = [(min(last, end) - max(first, begin), test_id) for test_id, begin, end in windows]
        overlap, test_id = max(overlaps, default=(0.0, ""))
        task = test_id if overlap > 0 else None
        hidden.append(Hidden(process.name, process.pid, first, last, peak, process.rss[-1], task))
    return Evidence(recorded, most, hidden)


def find_recorded(results: Sequence[TaskResult], samples: Samples) -> Process | None:
    """The process of the CSV whose RSS comes closest to what the results record at their ends."""
    misses: list[tuple[float, int]] = []
    ends = [(samples.at_wall(wall), r.worker_rss_after_mb) for r in results
            if r.worker_rss_after_mb is not None and (wall := wall_seconds(r.timestamp)) is not None]
    for place, process in enumerate(samples.processes):
        times = samples.times(process)
        found = [abs(process.rss[min(bisect.bisect(times, end), len(times) - 1)] - mb) / max(20.0, mb)
                 for end, mb in ends if times[0] <= end <= times[-1] + GAP_S]
        if 2 * len(found) > len(ends):  # the CSV may have been cut off
            misses.append((statistics.median(found), place))
    miss, place = min(misses, default=(1.0, 0))
    return samples.processes[place] if miss < 0.1 else None


def find_crashes(results: Sequence[TaskResult]) -> list[str]:
    """Every death of a process that serves a role, in words; each once."""
    found: dict[str, None] = {}
    for role in ROLES:
        known: dict[tuple[int, str], ProcessMemory] = {}
        for memory in (result.memory[role] for result in results if role in result.memory):
            roots = {(p.pid, p.started): p for p in memory.processes if p.root}
            if not roots:
                continue
            gone = [p for p in roots.values() if p.ended]
            if known.keys() - roots and any(p.resident for p in roots.values()):
                gone += [p for key, p in known.items() if key not in roots]
            found.update(dict.fromkeys(f"{role} process {p.pid} ({p.name}) ended" for p in gone))
            known = {key: p for key, p in roots.items() if not p.ended}
    for result in results:
        found.update(dict.fromkeys((result.level or {}).get("deaths", [])))
    if not found:
        died = (r for r in results if r.error_kind == "worker_died")
        found.update(dict.fromkeys(f"{r.test_id}: {r.error or r.error_kind}" for r in died))
    return list(found)


def memory_missing(run: Run, evidence: Evidence | None) -> Note | None:
    """Why a memory criterion of the leak phase cannot be measured; None where it can."""
    if not run.asked("leak"):
        return Note("no_leak_phase")
    if not run.watched:
        return Note("memory_not_watched")
    if evidence and evidence.hidden:
        return Note("reason_wrong_process", {"recorded": evidence.recorded_max_mb,
                                             "peak": max(h.peak_mb for h in evidence.hidden)})
    return None if run.phase("leak") else Note("no_leak_lines")


def unmeasured(name: str, limit: float, why: Note) -> Criterion:
    asked = why.key not in ("no_leak_phase", "memory_not_watched", "no_ramp_phase")
    return Criterion(name, "not_measured", None, limit, why, asked)


def doubted(criterion: Criterion, evidence: Evidence | None) -> Criterion:
    """An old record clears nobody unless its CSV shows the process it measured."""
    if evidence is None or evidence.recorded or criterion.status != "pass":
        return criterion
    return dataclasses.replace(criterion, status="inconclusive", text=Note("reason_old_record"))


def long_audio_delta(run: Run, evidence: Evidence | None) -> Criterion:
    """Median growth across tasks of the longest clip after its first use."""
    limit = run.setting("delta_limit_mb")
    if why := memory_missing(run, evidence):
        return unmeasured("long_audio_delta", limit, why)
    leak = run.phase("leak")
    clip = max(leak, key=lambda r: (r.audio_seconds or 0.0, r.audio_size_mb or 0.0)).audio_file
    tasks = [r for r in leak if r.cycle and r.audio_file == clip]
    deltas = [r.worker_rss_delta_mb for r in tasks
              if r.status == "success" and r.settled is not False and r.worker_rss_delta_mb is not None]
    if not deltas:
        return unmeasured("long_audio_delta", limit, Note("no_long_task", {"clip": clip}))
    kept = statistics.median(deltas)
    bad = max(limit, DELTA_BAD_MB)
    band = Note(f"band_{'good' if kept < limit else 'poor' if kept <= bad else 'bad'}", {"limit": limit, "bad": bad})
    facts = {"median": kept, "highest": max(deltas), "tasks": len(deltas), "clip": clip, "band": band,
             "submitted": len(tasks)}
    if kept >= limit:
        return Criterion("long_audio_delta", "fail", kept, limit, Note("delta_text", facts))
    if 2 * len(deltas) <= len(tasks):
        return Criterion("long_audio_delta", "inconclusive", kept, limit, Note("delta_few", facts))
    return Criterion("long_audio_delta", "pass", kept, limit, Note("delta_text", facts))


def return_to_baseline(run: Run, roles: Mapping[str, RoleVerdict], evidence: Evidence | None) -> Criterion:
    """Last settled reading of the worker against the one after first use; then that of each role after the ramp."""
    limit = run.setting("delta_limit_mb")
    if why := memory_missing(run, evidence):
        return unmeasured("return_to_baseline", limit, why)
    leak = [r for r in run.phase("leak") if r.worker_rss_after_mb is not None and r.status == "success"]
    first, later = [r for r in leak if r.cycle == 0], [r for r in leak if r.cycle]
    settled = [r for r in later if r.settled is not False]
    if not first or not later:
        return unmeasured("return_to_baseline", limit, Note("no_baseline"))
    base = first[-1].worker_rss_after_mb or 0.0
    kept = ((settled or later)[-1].worker_rss_after_mb or 0.0) - base
    after = growth_after_ramp(run, first[-1])
    highest = max(after, key=lambda role: after[role], default="worker")
    facts = {"kept": kept, "base": base, "limit": limit, "after_ramp": after.get("worker")}
    said = "baseline_text_ramp" if "worker" in after else "baseline_text"
    worker = roles.get("worker")
    if not settled or first[-1].settled is False:
        status, key = "inconclusive", "baseline_unsettled"
    elif kept >= limit:
        status, key = "fail", said
    elif worker and any(kind == "replaced" for _, kind in worker.breaks):
        status, key = "inconclusive", "baseline_replaced"
    elif after and after[highest] >= limit:
        status, key = "inconclusive", "baseline_ramp"
        facts |= {"role": highest, "after_ramp": after[highest]}
    else:
        status, key = "pass", said
    return Criterion("return_to_baseline", status, kept, limit, Note(key, facts))


def growth_after_ramp(run: Run, first: TaskResult) -> dict[str, float]:
    """RSS of each role at rest after the ramp above that after first use, MB; without roles that were replaced."""
    ramp = [r for r in run.phase("concurrency") if r.settled is not False and r.memory]
    growth = {}
    for role, last in (ramp[-1].memory if ramp else {}).items():
        before = first.memory.get(role)
        if before and roots_of(before) == roots_of(last) and before.after_mb is not None and last.after_mb is not None:
            growth[role] = last.after_mb - before.after_mb
    return growth


def roots_of(memory: RoleMemory) -> set[tuple[int, str]]:
    """The processes that served a role to the end."""
    return {(p.pid, p.started) for p in memory.processes if p.root and not p.ended}


def no_cumulative_growth(run: Run, roles: Mapping[str, RoleVerdict], evidence: Evidence | None) -> Criterion:
    """The growth rule's verdict over all watched roles."""
    limit = run.setting("tolerance_mb")
    if (why := memory_missing(run, evidence)) or not roles:
        return unmeasured("no_cumulative_growth", limit, why or Note("no_leak_lines"))
    verdicts = {v.growth.verdict for v in roles.values()}
    slopes = [v.growth.mb_per_cycle for v in roles.values() if v.growth.mb_per_cycle is not None]
    says = Note("growth_text", {"roles": [
        Note(f"growth_{v.growth.verdict}", {"role": role, "rate": num(v.growth.mb_per_cycle), "cycles": v.growth.cycles,
                                            "bound": num(v.growth.upper_bound_mb_per_cycle)})
        for role, v in roles.items()]})
    if verdicts == {"NOT MEASURED"}:
        return unmeasured("no_cumulative_growth", limit, says)
    status = "fail" if "LEAK" in verdicts else "pass" if verdicts == {"NO LEAK"} else "inconclusive"
    return Criterion("no_cumulative_growth", status, max(slopes, default=None), limit, says)


def no_worker_crash(run: Run, crashes: Sequence[str]) -> Criterion:
    """No process that serves a role died or was replaced."""
    if crashes:
        facts = {"first": [in_words(words) for words in crashes[:3]], "count": len(crashes)}
        return Criterion("no_worker_crash", "fail", len(crashes), 0, Note("crash_text", facts))
    if not run.results:
        return unmeasured("no_worker_crash", 0, Note("crash_unrecorded"))
    if not run.watched:
        return unmeasured("no_worker_crash", 0, Note("memory_not_watched"))
    unknown = sum(not alive_known(r) for r in run.results)
    if unknown == len(run.results):
        return unmeasured("no_worker_crash", 0, Note("crash_unrecorded"))
    if unknown or run.lost:
        facts = {"count": unknown + run.lost}
        return Criterion("no_worker_crash", "inconclusive", None, 0, Note("crash_unread", facts))
    return Criterion("no_worker_crash", "pass", 0, 0, Note("crash_none"))


def alive_known(result: TaskResult) -> bool:
    """Whether a line says which workers were there while its task ran."""
    return "worker" in result.memory and any(p.root for p in result.memory["worker"].processes)


def min_concurrency(run: Run, ramp: Ramp) -> Criterion:
    """At least three tasks at once are stable."""
    if not ramp.levels:
        why = Note("no_ramp_lines" if run.asked("concurrency") else "no_ramp_phase")
        return unmeasured("min_concurrency", NEEDED_LEVEL, why)
    observed, breach = ramp.max_stable, ramp.first_breach
    facts = {"stable": observed, "lowest": ramp.levels[0].concurrency, "highest": ramp.levels[-1].concurrency,
             "stop": Note(f"stop_{ramp.stop_reason or 'unknown'}")}
    if observed is not None and observed >= NEEDED_LEVEL:
        key = "stable_good" if observed >= GOOD_LEVEL else "stable_enough"
        return Criterion("min_concurrency", "pass", observed, NEEDED_LEVEL, Note(key, facts))
    if breach and breach.concurrency <= NEEDED_LEVEL and breach.what not in ("rtf_limit", "incomplete"):
        text = Note("stable_failed", {"breach": breach})
        return Criterion("min_concurrency", "fail", observed, NEEDED_LEVEL, text)
    return Criterion("min_concurrency", "inconclusive", observed, NEEDED_LEVEL, Note("stable_open", facts))


def rtf_under_load(run: Run, ramp: Ramp) -> Criterion:
    """RTF under 1.0 at every level up to three; the level where it stops being so is named."""
    levels = [level for level in ramp.levels if level.rtf_max is not None and not level.client_limited]
    if not levels:
        key = "no_ramp_phase" if not run.asked("concurrency") else "no_ramp_lines" if not ramp.levels else "no_rtf"
        return unmeasured("rtf_under_load", REAL_TIME, Note(key))
    slow = next((level for level in levels if (level.rtf_max or 0.0) >= REAL_TIME), None)
    enough = next((level for level in levels if level.concurrency >= NEEDED_LEVEL), None)
    top = enough.concurrency if enough else NEEDED_LEVEL
    judged = [level for level in levels if level.concurrency <= top]
    observed = max((level.rtf_max or 0.0 for level in judged), default=0.0)
    known = [level.concurrency for level in levels if level.complete and level.rtf_known == level.submitted]
    facts = {"rtf": observed, "highest": max(known, default=0), "level": slow.concurrency if slow else None,
             "at": judged[-1].concurrency if judged else 0, "slow_rtf": slow.rtf_max if slow else None}

    def conclude(status: str, key: str) -> Criterion:
        return Criterion("rtf_under_load", status, observed, REAL_TIME, Note(key, facts))

    if slow and slow.concurrency <= NEEDED_LEVEL:
        return conclude("fail", "rtf_slow")
    tested = [level for level in ramp.levels if level.concurrency <= top]
    whole = all(level.complete and level.rtf_known == level.submitted and not level.client_limited for level in tested)
    if not enough or not whole or observed >= REAL_TIME:
        return conclude("inconclusive", "rtf_open")
    return conclude("pass", "rtf_slow_later" if slow else "rtf_never_slow")


def judge_ramp(run: Run) -> Ramp:
    """Levels, their limits and the first breach (facts and formulas: turnaround from the common release)."""
    groups: dict[tuple[int, int], list[TaskResult]] = {}
    for result in run.phase("concurrency"):
        number = 1 if result.level_run is None else result.level_run
        if number:  # 0 is the warm-up task
            groups.setdefault((result.concurrency, number), []).append(result)
    judged = [(judge_level_run(results, run.setting("rtf_limit")), results) for results in groups.values()]
    by_level: dict[int, list[tuple[LevelRun, list[TaskResult]]]] = {}
    for level_run, results in judged:
        by_level.setdefault(level_run.concurrency, []).append((level_run, results))
    levels = [judge_level(size, runs) for size, runs in sorted(by_level.items())]

    good: list[Level] = []
    for level in levels:
        leap = bool(good) and level.concurrency - good[-1].concurrency > run.setting("step")
        if not level.stable or level.client_limited or (leap and run.lost):  # what was lost may be a level that failed
            break
        good.append(level)
    first = levels[0] if levels else None
    tried = first and first.concurrency == 1 and first.complete and not (first.client_limited or first.interrupted)
    max_stable = good[-1].concurrency if good else 0 if tried else None
    real_time = None if max_stable is None else 0
    for level in good:
        if level.rtf_known < level.succeeded or level.rtf_max is None or level.rtf_max >= REAL_TIME:
            break
        real_time = level.concurrency
    if first and not real_time and (first.concurrency > 1 or (max_stable and (first.rtf_max or 0.0) < REAL_TIME)):
        real_time = None  # lower levels were not tested, or the RTF of the lowest is not known

    speeds = {level.concurrency: x for level in levels
              if (x := level.audio_seconds_per_second) and not level.client_limited}
    top = max(speeds.values(), default=0.0)
    # What may be noise is no rise: a level's best run, less its timing error, is held against the plateau.
    best = {n: max(throughput(results, corrected=True) or 0.0 for _, results in by_level[n]) for n in speeds}
    plateau = highest_but_outliers([(x, len(by_level[n])) for n, x in sorted(speeds.items())])
    knee = min((n for n in speeds if best[n] >= KNEE_SHARE * plateau), default=None)
    breaches = [level_run.breach for level_run, _ in judged if level_run.breach and not level_run.client_limited]
    tasks = good[-1].succeeded if good else 0
    return Ramp(levels, max_stable, real_time, knee, top / speeds[1] if 1 in speeds else None, stop_reason(run, judged),
                breaches[0] if breaches else None, 1 - CONFIDENCE ** (1 / tasks) if tasks else None, tasks)


def highest_but_outliers(speeds: Sequence[tuple[float, int]]) -> float:
    """Highest of (throughput, runs) by level. A single run that stands out from the levels beside it is no peak."""
    values = [x for x, _ in speeds]
    for place, (x, runs) in enumerate(speeds[1:-1], start=1):
        values[place] = statistics.median((speeds[place - 1][0], x, speeds[place + 1][0])) if runs == 1 else x
    return max(values, default=0.0)


def judge_level(size: int, judged: Sequence[tuple[LevelRun, list[TaskResult]]]) -> Level:
    """All runs of one level as one. A run that was only interrupted says nothing where there is another."""
    judged = [(level_run, results) for level_run, results in judged if not level_run.interrupted] or judged
    limited = all(level_run.client_limited for level_run, _ in judged)
    free = [(level_run, results) for level_run, results in judged if limited or not level_run.client_limited]
    done = [r for _, results in free for r in results if r.status == "success"]
    rtfs = [r.rtf for r in done if r.rtf is not None]
    times = [r.processing_time for r in done if r.processing_time is not None]
    stable = [level_run.stable for level_run, _ in free]
    peaks = [r.worker_rss_peak_mb for _, results in judged for r in results if r.worker_rss_peak_mb is not None]
    return Level(
        concurrency=size,
        runs=len(judged),
        submitted=sum(level_run.submitted for level_run, _ in judged),
        succeeded=sum(level_run.succeeded for level_run, _ in judged),
        rtf_median=median(rtfs),
        rtf_max=max(rtfs, default=None),
        turnaround_median_s=median(times),
        turnaround_max_s=max(times, default=None),
        audio_seconds_per_second=median([x for _, results in free if (x := throughput(results)) is not None]),
        worker_peak_mb=max(peaks, default=None),
        client_limited=limited,
        stable=all(stable),
        complete=all(level_run.complete for level_run, _ in judged),
        flaky=not stable[0] and any(stable),
        interrupted=any(r.error_kind == "interrupted" for _, results in judged for r in results),
        rtf_known=sum(r.rtf is not None for _, results in judged for r in results if r.status == "success"),
    )


def throughput(results: Sequence[TaskResult], corrected: bool = False) -> float | None:
    """Seconds of audio recognised per second, from the common release to the last success.

    `corrected`: as if each success had come just after the poll before the one that saw it. Seen late by up to a poll,
    short tasks of a low level look slower than they are, and the service as if it did more of them together.
    """
    done = [(r.audio_seconds, (r.processing_time or 0.0) - ((r.time_error or 0.0) if corrected else 0.0))
            for r in results if r.status == "success"]
    pairs = [(audio, taken) for audio, taken in done if audio is not None and taken > 0]
    if not pairs or len(pairs) < len(done):
        return None
    return sum(audio for audio, _ in pairs) / max(taken for _, taken in pairs)


STOPS = ("failure", "worker_died", "rtf_limit", "memory_reserve", "max_concurrency", "client_limited", "interrupted")


def stop_reason(run: Run, judged: Sequence[tuple[LevelRun, Sequence[TaskResult]]]) -> str | None:
    """Why the ramp ended: as recorded, else what its last level shows; a file that just ends was interrupted."""
    recorded = [(r.level or {}).get("stop_reason") for r in run.results]
    if found := [reason for reason in recorded if reason in STOPS]:
        return str(found[-1])
    if not judged:
        return None
    last, results = judged[-1]
    if any(r.error_kind == "interrupted" for r in results):
        return "interrupted"
    if last.breach and last.breach.what in ("worker_died", "process_died", "rtf_limit"):
        return last.breach.what.replace("process", "worker")
    if last.breach and last.breach.what != "incomplete":
        return "failure"
    return None if run.legacy else "interrupted"


def failure_kinds(results: Iterable[TaskResult]) -> list[tuple[str, int, str]]:
    """Kinds of failure with their counts and the service's words, the most frequent first."""
    words: dict[str, Counter[str]] = {}
    for r in results:
        if r.status != "success":
            words.setdefault(r.error_kind or r.status, Counter())[plain(r.error or "", 300)] += 1
    kinds = sorted(words.items(), key=lambda item: -item[1].total())
    return [(kind, said.total(), " / ".join(text for text, _ in said.most_common(2) if text)) for kind, said in kinds]


@dataclass(frozen=True)
class RoleSeries:
    """All processes of a role in one CSV; RSS (MiB) and CPU (percent of a core) summed at each sample with any."""

    role: str
    processes: list[Process]
    at: Sequence[int]
    rss: Sequence[float]
    cpu: Sequence[float]


NAMES = {"rq": "worker", "rqworker": "worker", "uvicorn": "api", "gunicorn": "api", "asr-backend": "backend"}


def series_of_roles(run: Run, samples: Samples) -> list[RoleSeries]:
    """The CSV by role, or by process name where the results do not say the role; the known roles first."""
    by_pid = {p.pid: role for r in run.results for role, m in r.memory.items() for p in m.processes}
    by_name = dict(NAMES) | {p.name: by_pid[p.pid] for p in samples.processes if p.pid in by_pid}
    by_role: dict[str, list[Process]] = {}
    for process in samples.processes:
        role = by_pid.get(process.pid) or by_name.get(process.name, process.name)
        by_role.setdefault(role, []).append(process)
    order = sorted(by_role, key=lambda role: (ROLES.index(role) if role in ROLES else len(ROLES), role))
    return [summed(role, by_role[role], len(samples.elapsed)) for role in order]


def summed(role: str, processes: list[Process], samples: int) -> RoleSeries:
    if len(processes) == 1:
        return RoleSeries(role, processes, processes[0].at, processes[0].rss, processes[0].cpu)
    rss, cpu, present = [0.0] * samples, [0.0] * samples, bytearray(samples)
    for process in processes:
        for i, mb, percent in zip(process.at, process.rss, process.cpu, strict=True):
            rss[i] += mb
            cpu[i] += percent
            present[i] = 1
    at = array("I", itertools.compress(range(samples), present))
    return RoleSeries(role, processes, at, array("d", itertools.compress(rss, present)),
                      array("d", itertools.compress(cpu, present)))


# ================================================================================ comparison with a run before


@dataclass(frozen=True)
class Change:
    """One figure before and after."""

    what: Note
    before: float | Note | None
    after: float | Note | None
    digits: int = 1


ROLE_FIGURES: Mapping[str, Callable[[RoleVerdict], float | None]] = {
    "rate": lambda role: role.growth.mb_per_cycle,
    "bound": lambda role: role.growth.upper_bound_mb_per_cycle,
    "first_use": lambda role: role.first_use_growth_mb,
    "peak": lambda role: role.peak_mb,
}


def compare(before: Judged, after: Judged) -> tuple[Note, list[Change], list[Note]]:
    """Whether the fix is shown, the figures side by side, and what makes the two runs hard to compare."""
    changes = [Change(Note(old.id), old.observed, new.observed)
               for old, new in zip(before.criteria, after.criteria, strict=True)
               if old.id in ("long_audio_delta", "return_to_baseline")]
    role = compared_role(before, after)
    old_role, new_role = before.roles.get(role), after.roles.get(role)
    for key, pick in ROLE_FIGURES.items():
        figures = [pick(verdict) if verdict else None for verdict in (old_role, new_role)]
        changes.append(Change(Note(key, {"role": role}), figures[0], figures[1]))
    rtfs = [median([r.rtf for r in side.run.phase("leak") if r.cycle and r.rtf is not None])
            for side in (before, after)]
    changes.append(Change(Note("rtf_median"), rtfs[0], rtfs[1], 3))
    for key in ("max_stable", "max_real_time", "knee"):
        changes.append(Change(Note(key), getattr(before.ramp, key), getattr(after.ramp, key), 0))
    for each in (each for each in ROLES if each in before.roles or each in after.roles):
        changes.append(Change(Note("leak_verdict", {"role": each}), leak_word(before, each), leak_word(after, each)))
    changes.append(Change(Note("verdict"), Note(f"verdict_{before.verdict}"), Note(f"verdict_{after.verdict}")))

    old, new = (verdict.growth.verdict if verdict else "NOT MEASURED" for verdict in (old_role, new_role))
    others = [each for each, verdict in after.roles.items() if each != role and verdict.growth.verdict == "LEAK"]
    doubt = fix_doubt(old_role, new_role, after) if (old, new) == ("LEAK", "NO LEAK") else None
    if doubt:
        key = "fix_doubt"
    elif new == "NO LEAK":
        key = "fix_shown" if old == "LEAK" else "fix_both_clean" if old == "NO LEAK" else "fix_unproven"
        key = "fix_other_leaks" if others else key
    elif new == "LEAK":
        key = "fix_not_shown" if old == "LEAK" else "fix_new_leak" if old == "NO LEAK" else "fix_still_leaks"
    else:
        key = "fix_open"
    facts = {"role": role, "others": tuple(others), "why": doubt or "",
             "before": old_role.growth.mb_per_cycle if old_role else None,
             "after": new_role.growth.upper_bound_mb_per_cycle if new_role else None,
             "rate": new_role.growth.mb_per_cycle if new_role else None, "old": leak_word(before, role),
             "new": leak_word(after, role), "delta_before": changes[0].before, "delta_after": changes[0].after}
    shown = {name: num(v) if isinstance(v, float) or v is None else v for name, v in facts.items()}
    return Note(key, shown), changes, differences(before.run, after.run)


def fix_doubt(old: RoleVerdict | None, new: RoleVerdict | None, after: Judged) -> Note | None:
    """Why a fix is not shown though the role leaked before and has NO LEAK now."""
    left = next(c for c in after.criteria if c.id == "return_to_baseline")
    if left.status in ("fail", "inconclusive"):
        return left.text
    rate = old.growth.mb_per_cycle if old else None
    bound = new.growth.upper_bound_mb_per_cycle if new else None
    if rate is not None and bound is not None and bound >= rate:
        return Note("fix_same_rate", {"rate": rate, "bound": bound})
    return None


def compared_role(before: Judged, after: Judged) -> str:
    """The role the comparison is about: the one that leaked before, else the one that leaks now, else the worker."""
    leaking = [role for side in (before, after) for role, v in side.roles.items() if v.growth.verdict == "LEAK"]
    return leaking[0] if leaking else "worker"


def leak_word(side: Judged, role: str) -> Note:
    return Note(f"leak_{side.roles[role].growth.verdict if role in side.roles else 'NOT MEASURED'}")


def differences(before: Run, after: Run) -> list[Note]:
    """Conditions that differ between two runs: what changed may be due to them."""
    found = []
    for key, pick in CONDITIONS.items():
        old, new = (sorted({str(pick(r)) for r in run.results}) for run in (before, after))
        if old != new and not {"None", "[]"} & {*old, *new}:
            found.append(Note("differs", {"what": Note(key), "before": tuple(old), "after": tuple(new)}))
    for name in JUDGED_BY:
        limits = [f"{run.setting(name):g}" for run in (before, after)]
        if limits[0] != limits[1]:
            option = f"--{name.replace('_', '-')}"
            found.append(Note("differs", {"what": option, "before": limits[0], "after": limits[1]}))
    if before.legacy is not after.legacy:
        found.append(Note("differs_old"))
    begins = [span[0] if (span := run_span(run)) else None for run in (before, after)]
    later = begins[0] is not None and begins[1] is not None and begins[0] > begins[1]
    if later or before.path.resolve() == after.path.resolve():
        found.append(Note("differs_order"))
    return found


def host_memory(host: Mapping[str, Any]) -> Any:
    """The machine's memory with its unit; what is no number as it is."""
    memory = host.get("memory_mb")
    return f"{memory:,} MB" if isinstance(memory, int) else memory


# Settings that decide verdicts and levels.
JUDGED_BY = ("tolerance_mb", "delta_limit_mb", "min_cycles", "start", "step", "max_concurrency", "rtf_limit")
CONDITIONS: Mapping[str, Callable[[TaskResult], Any]] = {
    "host": lambda r: r.host.get("name"),
    "clips": lambda r: None if r.audio_seconds is None else f"{r.audio_seconds:.0f} s",
    "cpus": lambda r: r.host.get("cpus"),
    "host_memory": lambda r: host_memory(r.host),
    "tool_version": lambda r: r.host.get("tool_version"),
}


# ====================================================================================================== words

LANGUAGES = ("en", "zh-CN")
MOST_WORDS = 300  # characters of anything a user or service supplied

# Every word of report and terminal, in the order of LANGUAGES. Facts are formatted as in str.format; MB are MiB.
WORDS: dict[str, tuple[str, str]] = {
    # verdicts and statuses
    "title": ("Stress test report", "压力测试报告"),
    "verdict_pass": ("PASSED", "通过"),
    "verdict_fail": ("FAILED", "未通过"),
    "verdict_inconclusive": ("INCONCLUSIVE", "无法判定"),
    "head_pass": ("Every criterion that was tested is met.", "已测的判定项全部达标。"),
    "head_fail": ("Not met: {names}.", "未达标：{names}。"),
    "head_inconclusive": ("No criterion failed, but the run does not prove enough: {names}.",
        "没有不达标项，但证据不足：{names}。"),
    "head_whole": ("What was measured meets its criteria, but that is not enough.",
        "已测到的部分全部达标，但还不足以算通过。"),
    "head_tasks": ("{failed} of {submitted} tasks of the leak phase failed: {kinds}.",
        "泄漏测试的 {submitted} 个任务中有 {failed} 个失败：{kinds}。"),
    "head_resources": ("Only samples of processes were given: nothing is judged.",
        "只有进程采样，没有测试结果：不作任何判定。"),
    "head_untested": ("Not tested in this run: {names}.", "本次未测试：{names}。"),
    "lead": ("{sentences}.", "{sentences}。"),
    "lead_LEAK": ("Memory leaks in the {roles}", "内存泄漏出在 {roles}"),
    "lead_NO LEAK": ("No memory leak was found", "没有发现内存泄漏"),
    "lead_open": ("Whether memory leaks is not decided", "是否有内存泄漏尚无定论"),
    "lead_queued": ("the service stands {stable} at once, but is not much faster than one after another",
        "服务的稳定并发数为 {stable}，但并不比逐个处理快多少"),
    "lead_stands": ("the service stands {stable} at once", "服务的稳定并发数为 {stable}"),
    "lead_stands_none": ("the service does not stand even one task", "服务连单个任务也无法稳定完成"),
    "at_least": ("at least {count}", "{count} 以上"),
    "lead_stands_open": ("how many tasks at once the service stands is not known", "服务的稳定并发数尚不清楚"),
    "cut_interrupted": ("The run was interrupted: it never passes as a whole.", "测试中途被中断，因此整体不能算通过。"),
    "cut_early": ("The record ends before the ramp began: it never passes as a whole.",
        "记录在并发测试开始前就已结束，因此整体不能算通过。"),
    "cut_lost": ("{count} results are missing from the file or cannot be read, so the run never passes as a whole.",
        "结果文件中有 {count} 条结果缺失或无法读取，因此整体不能算通过。"),
    "status_pass": ("passed", "通过"),
    "status_fail": ("FAILED", "未通过"),
    "status_inconclusive": ("inconclusive", "无法判定"),
    "status_not_measured": ("not measured", "未测量"),
    "leak_LEAK": ("LEAK", "有泄漏"),
    "leak_NO LEAK": ("NO LEAK", "无泄漏"),
    "leak_INCONCLUSIVE": ("INCONCLUSIVE", "无法判定"),
    "leak_NOT MEASURED": ("NOT MEASURED", "未测量"),
    "yes": ("yes", "是"),
    "no": ("no", "否"),
    "unknown": ("not recorded", "未记录"),
    "none": ("–", "–"),
    "list": (", ", "、"),
    "semicolon": ("; ", "；"),
    "space": (" ", ""),
    # criteria
    "long_audio_delta": ("growth per long task", "每个长音频任务后的内存增量"),
    "return_to_baseline": ("growth since first use", "较首次使用后的内存增量"),
    "no_cumulative_growth": ("growth per cycle", "每轮内存增长"),
    "min_concurrency": ("stable tasks at once", "稳定并发数"),
    "no_worker_crash": ("deaths of service processes", "服务进程意外退出次数"),
    "rtf_under_load": ("slowest RTF, up to 3 tasks at once", "并发 3 以内的最大 RTF"),
    "limit_below": ("below {limit}", "低于 {limit}"),
    "limit_least": ("at least {limit}", "不低于 {limit}"),
    "limit_none": ("none", "不得发生"),
    "band_good": ("good (under {limit:g} MB)", "良好（低于 {limit:g} MB）"),
    "band_poor": ("poor ({limit:g} to {bad:g} MB)", "较差（{limit:g}–{bad:g} MB）"),
    "band_bad": ("bad (above {bad:g} MB)", "严重（超过 {bad:g} MB）"),
    "delta_text": ("the worker keeps {median:+,.1f} MB after a task on {clip} (median of {tasks} after first use, at "
        "most {highest:+,.1f}): {band}",
        "每处理完一个 {clip}，worker 内存变化 {median:+,.1f} MB（首次使用之后 {tasks} 个任务的中位数，最大 "
        "{highest:+,.1f} MB）：{band}"),
    "delta_few": ("{median:+,.1f} MB, but only {tasks} of {submitted} tasks on {clip} after its first use succeeded "
        "and came to rest",
        "变化 {median:+,.1f} MB，但 {clip} 首次使用之后的 {submitted} 个任务中，只有 {tasks} 个成功且内存回到稳定"),
    "baseline_text": ("at the end of the leak phase the worker held {kept:+,.1f} MB against {base:,.1f} MB after "
        "first use",
        "泄漏测试结束时，worker 内存与首次使用（第 0 轮）后的 {base:,.1f} MB 相比变化 {kept:+,.1f} MB"),
    "baseline_text_ramp": ("at the end of the leak phase the worker held {kept:+,.1f} MB against {base:,.1f} MB after "
        "first use, after the ramp {after_ramp:+,.1f} MB",
        "与首次使用（第 0 轮）后的 {base:,.1f} MB 相比，worker 内存在泄漏测试结束时变化 {kept:+,.1f} MB，并发测试结束"
        "后变化 {after_ramp:+,.1f} MB"),
    "baseline_ramp": ("{kept:+,.1f} MB in the worker after the leak phase, but {after_ramp:+,.1f} MB in the {role} "
        "after the ramp: either the high-water mark of many tasks at once, which stays but does not grow, or a leak "
        "that appears only under parallel load. Run the ramp again (--phase concurrency) without restarting the "
        "service: a high-water mark stays where it is, a leak adds as much again",
        "泄漏测试结束时 worker 变化 {kept:+,.1f} MB；但并发测试结束后 {role} 变化 {after_ramp:+,.1f} MB。可能"
        "是多任务并发留下的高水位（会保持，但不再增长），也可能是只在并发时才出现的泄漏。区分方法：不重启服务，再跑一遍并发测试"
        "（--phase concurrency）。若是高水位，内存不再上涨；若是泄漏，还会再涨差不多同样的量"),
    "baseline_unsettled": ("memory never came to rest for a reading ({kept:+,.1f} MB, unsettled): raise "
        "--settle-timeout",
        "内存始终没有稳定下来，读数（{kept:+,.1f} MB）不可靠：请调大 --settle-timeout"),
    "baseline_replaced": ("{kept:+,.1f} MB, but a worker was replaced on the way and took its memory with it",
        "变化 {kept:+,.1f} MB，但中途有 worker 被替换，它占用的内存随之消失，读数不能作数"),
    "growth_text": ("{roles}", "{roles}"),
    "growth_LEAK": ("{role}: LEAK ({rate} MB per cycle)", "{role} 有泄漏（每轮增长 {rate} MB）"),
    "growth_NO LEAK": ("{role}: NO LEAK (at most {bound} MB per cycle)", "{role} 无泄漏（每轮增长不超过 {bound} MB）"),
    "growth_INCONCLUSIVE": ("{role}: INCONCLUSIVE after {cycles} cycles", "{role} 在 {cycles} 轮之后仍无法判定"),
    "growth_NOT MEASURED": ("{role}: NOT MEASURED", "{role} 未测量"),
    "crash_none": ("no process of the service died or was replaced (work-horses end with their jobs)",
        "没有服务进程退出或被替换（每任务一个的子进程随任务结束，不算）"),
    "death": ("{role} process {pid} ({name}) ended", "{role} 进程 {pid}（{name}）退出"),
    "killed": ("{words} (the kernel ended {count} for lack of memory meanwhile)",
        "{words}（期间内核因内存不足杀掉 {count} 个进程）"),
    "crash_text": ("{count} in all: {first}", "共 {count} 次：{first}"),
    "crash_unread": ("none seen, but {count} results are missing or do not say which processes were alive",
        "未发现进程退出，但有 {count} 条结果缺失，或没有记录当时哪些进程在运行"),
    "crash_unrecorded": ("the results do not say which processes were alive", "结果文件没有记录哪些进程在运行"),
    "stable_good": ("{stable} tasks at once are stable (good: 5 or more)",
        "{stable} 个任务并发时稳定（5 个及以上为良好）"),
    "stable_enough": ("{stable} tasks at once are stable (enough; 5 would be good)",
        "{stable} 个任务并发时稳定（够用；5 个及以上为良好）"),
    "stable_failed": ("{breach}", "{breach}"),
    "stable_open": ("levels {lowest} to {highest} were tested; {stop}",
        "从并发 {lowest} 测起，最高测到 {highest}；{stop}"),
    "rtf_never_slow": ("at most {rtf:.2f} at up to {at} at once; under 1.0 at every level tested (up to {highest})",
        "并发不超过 {at} 时 RTF 最大 {rtf:.2f}；所测各级（最高到并发 {highest}）RTF 均低于 1.0"),
    "rtf_slow_later": ("at most {rtf:.2f} at up to {at} at once; 1.0 is reached at {level} at once ({slow_rtf:.2f})",
        "并发不超过 {at} 时 RTF 最大 {rtf:.2f}；到并发 {level} 时达到 1.0（实测 {slow_rtf:.2f}）"),
    "rtf_slow": ("1.0 is reached at {level} at once ({slow_rtf:.2f}): tasks take longer than their recordings",
        "并发 {level} 时 RTF 已达 1.0（实测 {slow_rtf:.2f}）：处理耗时不短于录音时长"),
    "rtf_open": ("at most {rtf:.2f} at up to {at} at once, but not every level up to 3 was completed",
        "并发不超过 {at} 时 RTF 最大 {rtf:.2f}，但并发 3 及以下的各级没有全部完成"),
    "no_leak_phase": ("the leak phase was not asked for", "本次未选择泄漏测试（--phase）"),
    "no_ramp_phase": ("the concurrency ramp was not asked for", "本次未选择并发测试（--phase）"),
    "no_leak_lines": ("the leak phase left no result", "泄漏测试没有留下结果"),
    "no_ramp_lines": ("the concurrency ramp left no result", "并发测试没有留下结果"),
    "memory_not_watched": ("memory was not watched (--no-watch)", "没有监控内存（--no-watch）"),
    "no_long_task": ("no successful task on {clip} after its first use has memory readings at rest",
        "{clip} 首次使用之后，没有带稳定内存读数的成功任务"),
    "no_baseline": ("readings after first use and later ones are not both there",
        "缺少首次使用后的读数，或缺少之后的读数"),
    "no_rtf": ("no task of the ramp succeeded with a known RTF", "并发测试中没有一个成功且 RTF 已知的任务"),
    # why the ramp ended
    "stop_failure": ("the ramp ended because a task failed", "有任务失败，并发测试到此为止"),
    "stop_worker_died": ("the ramp ended because a process of the service died", "有服务进程退出，并发测试到此为止"),
    "stop_rtf_limit": ("the ramp ended because a task reached the RTF limit", "有任务达到 RTF 上限，并发测试到此为止"),
    "stop_memory_reserve": ("the ramp ended because the next level would have used up the memory reserve of this "
        "machine",
        "再加并发将突破本机的内存预留，并发测试到此为止"),
    "stop_max_concurrency": ("the ramp reached its last level (--max-concurrency)",
        "已测到最后一级（--max-concurrency）"),
    "stop_client_limited": ("the ramp ended because the test tool itself became the limit",
        "测试工具自身成为瓶颈，并发测试到此为止"),
    "stop_interrupted": ("the ramp was interrupted", "并发测试被中断"),
    "stop_unknown": ("why the ramp ended is not recorded", "没有记录并发测试为何结束"),
    # the three sentences
    "memory_head": ("Memory: {sentences}.", "内存：{sentences}。"),
    "memory_leak": ("the {role} leaks: {reason}", "{role} 有泄漏，{reason}"),
    "memory_doubt": ("Memory: no growth per cycle in {roles}, but that is not all: {reason}.",
        "内存：{roles} 没有逐轮增长，但还不能下结论。{reason}。"),
    "memory_follows": ("The growth follows {clip}.", "增长主要来自 {clip}。"),
    "memory_clean": ("Memory: no leak found in {roles}. {reason}.", "内存：{roles} 未发现泄漏。{reason}。"),
    "memory_open": ("Memory: not decided for the {role}: {reason}.", "内存：{role} 无法判定。{reason}。"),
    "memory_none": ("Memory: not judged: {reason}.", "内存：未作判定。{reason}。"),
    "old_sentence": ("Memory: not judged: the results record a process of at most {recorded:,.1f} MB, while others "
        "that did the work reached {peak:,.0f} MB and still held {held:,.0f} MB at their last sample.",
        "内存：未作判定。结果记录的进程最多只有 {recorded:,.1f} MB 内存，而真正执行任务的其他进程峰值达 {peak:,.0f} "
        "MB，最后一次采样时仍占用 {held:,.0f} MB。"),
    "ramp_none": ("Concurrency: not tested: {reason}.", "并发：未测试。{reason}。"),
    "ramp_head": ("Concurrency: up to {stable} at once without a failure, {real_time}; {stop}. {together}",
        "并发：稳定并发数为 {stable}（无失败），{real_time}；{stop}。{together}"),
    "ramp_broken": ("Concurrency: even one task at a time is not stable; {breach}.",
        "并发：即使一次只有一个任务也不稳定。{breach}。"),
    "real_all": ("all done faster than they play (RTF under 1.0)", "该并发及以下各级任务全部快于实时（RTF 低于 1.0）"),
    "real_some": ("up to {real_time} at once faster than they play (RTF under 1.0)",
        "其中并发 {real_time} 及以下的任务全部快于实时（RTF 低于 1.0）"),
    "real_none": ("but a task takes as long as it plays already at the lowest level (RTF 1.0 or more)",
        "但从最低一级起就有任务不快于实时（RTF 达到 1.0）"),
    "real_unknown": ("but up to how many faster than they play is not known", "但快于实时的最高并发数尚不清楚"),
    "together_not": ("Many at once are not much faster than one after another: with up to {stable} at once the service "
        "never gets through more than {parallelism:.1f} times the work of one, so beyond {knee} at a time tasks wait "
        "for each other.",
        "并发处理并不比逐个处理快多少：并发不超过 {stable} 时，总处理速度最高只有单个任务的 {parallelism:.1f} 倍，超过 "
        "{knee} 个的任务只是在互相等待。"),
    "together_knee": ("About {parallelism:.1f} tasks' worth of work is done at a time: beyond {knee} tasks only wait.",
        "总处理速度约为单个任务的 {parallelism:.1f} 倍：超过 {knee} 个的任务只是在排队。"),
    "together_yes": ("Tasks are done together: the most work, {parallelism:.1f} times that of one task, is done from "
        "{knee} at once on.",
        "任务确实在同时处理：从并发 {knee} 起总处理速度最高，为单个任务的 {parallelism:.1f} 倍。"),
    "together_unknown": ("Whether the tasks were done together is not known: level 1 was not measured.",
        "任务是否真正同时处理尚不清楚：没有并发 1 的数据可比。"),
    "ramp_open": ("Concurrency: no stable level was found; {stop}.", "并发：没有测出稳定的级别；{stop}。"),
    "next_leak": ("Next: look in the {role} for what stays after a task (tracemalloc or memray around {clip}), then "
        "repeat this test and compare with --baseline {file}.",
        "下一步：检查 {role} 在任务结束后没有释放的对象（围绕 {clip} 用 tracemalloc 或 memray 排查），修改后重跑，并"
        "用 --baseline {file} 对比。"),
    "next_leak_go": ("Next: look in the {role} for what stays after a task (for Go: pprof, heap and goroutines, around "
        "{clip}), then repeat this test and compare with --baseline {file}.",
        "下一步：检查 {role} 在任务结束后没有释放的内存（Go 程序可围绕 {clip} 用 pprof 查看 heap 与 goroutine），修改后"
        "重跑，并用 --baseline {file} 对比。"),
    "next_empty": ("Next: ask the service for the text of such a task, and test with clips of speech.",
        "下一步：查看这类任务返回的文本，并改用有语音的音频测试。"),
    "next_failed": ("Next: see why tasks of the leak phase fail (the table of failures), then repeat the run.",
        "下一步：查明泄漏测试中的任务为何失败（见失败一览表），然后重跑。"),
    "next_ramp": ("Next: run the ramp a second time without restarting the service (--phase concurrency): a "
        "high-water mark stays where it is, a leak adds as much again.",
        "下一步：不要重启服务，再跑一遍并发测试（--phase concurrency）：若是高水位，内存不再上涨；若是泄漏，还会再涨"
        "差不多同样的量。"),
    "next_unsettled": ("Next: keep other users and jobs away from the service, or raise --settle-timeout, then repeat.",
        "下一步：避免其他用户和任务使用该服务，或调大 --settle-timeout，然后重跑。"),
    "next_sampler_gap": ("Next: repeat the run while less else runs on this machine.",
        "下一步：在机器不那么忙的时候重跑。"),
    "next_gap_unknown": ("Next: judge the run with its CSV (--resources).",
        "下一步：连同 CSV 一起判定（--resources）。"),
    "next_memory_reserve": ("Next: free memory on this machine, or lower --memory-reserve, then repeat with --phase "
        "concurrency.",
        "下一步：腾出内存，或调低 --memory-reserve，然后用 --phase concurrency 重跑。"),
    "next_rtf_limit": ("Next: repeat with --phase concurrency --rtf-limit 0, which goes on until something fails.",
        "下一步：用 --phase concurrency --rtf-limit 0 重跑，一直测到出现失败为止。"),
    "next_high_delta": ("Next: find what the worker keeps after {clip} (tracemalloc or memray), then repeat and "
        "compare with --baseline {file}.",
        "下一步：用 tracemalloc 或 memray 找出 worker 处理 {clip} 后保留了什么，修改后重跑，并用 --baseline {file} 对"
        "比。"),
    "next_crash": ("Next: read the log of the process that died and the kernel's log (dmesg | grep -i oom), then "
        "repeat.",
        "下一步：查看退出进程的日志和内核日志（dmesg | grep -i oom），然后重跑。"),
    "next_concurrency": ("Next: see why tasks fail at {level} at once (the report's First breach), then repeat with "
        "--phase concurrency.",
        "下一步：查明并发 {level} 时任务为何失败（见报告“并发”一节的“首次越限”），然后用 --phase concurrency 重跑。"),
    "next_slow": ("Next: add workers or faster recognition: {level} at once already takes longer than real time.",
        "下一步：增加 worker 或提高识别速度：并发 {level} 时处理已慢于实时。"),
    "next_cycles": ("Next: run on without restarting the service: --phase leak --min-cycles {cycles} --max-cycles "
        "{most}.",
        "下一步：不要重启服务，继续运行：--phase leak --min-cycles {cycles} --max-cycles {most}。"),
    "next_again": ("Next: repeat the run so that nothing is missing ({what}).",
        "下一步：重新运行，补齐缺失的部分（{what}）。"),
    "next_results": ("Next: for a verdict, read the .jsonl that was recorded with these samples.",
        "下一步：如需结论，请读取与这些采样同时记录的 .jsonl 文件。"),
    "next_whole": ("Next: repeat the run to its end.", "下一步：重新运行，直到正常结束。"),
    "next_old": ("Next: repeat with memory_leak_stress_test.py on the machine of the service: it watches the whole "
        "process tree.",
        "下一步：在服务所在机器上用 memory_leak_stress_test.py 重新测试：它会监控整棵进程树。"),
    "next_keep": ("Next: keep this run; after the next change compare with --baseline {file}.",
        "下一步：保留本次结果；下次改动后用 --baseline {file} 对比。"),
    # the report's parts
    "part_compare": ("Before and after", "前后对比"),
    "part_run": ("The run", "测试概况"),
    "part_memory": ("Memory", "内存"),
    "part_ramp": ("Concurrency", "并发"),
    "part_resources": ("Resources", "资源占用"),
    "part_method": ("How the numbers were taken, and what they do not say", "数据如何采集，以及不能说明什么"),
    "part_input": ("What was read", "读取情况"),
    "part_old": ("A record of an older tool", "旧版工具的记录"),
    "col_what": ("what", "项目"),
    "col_observed": ("observed", "实测"),
    "col_value": ("value", "内容"),
    "col_limit": ("limit", "限值"),
    "col_result": ("result", "结果"),
    "col_why": ("in words", "说明"),
    "col_before": ("before", "之前"),
    "col_after": ("after", "之后"),
    "col_change": ("change", "变化"),
    "col_role": ("role", "角色"),
    "col_verdict": ("verdict", "结论"),
    "col_rate": ("MB per cycle", "每轮增长 MB"),
    "col_bound": ("at most (upper bound)", "每轮增长上界 MB"),
    "col_first_use": ("first-use growth MB", "首次使用增长 MB"),
    "col_peak": ("peak RSS in the leak phase MB", "泄漏测试中的 RSS 峰值 MB"),
    "col_cycles": ("cycles judged", "判定轮数"),
    "col_cycle": ("cycle", "轮次（第 0 轮不判定）"),
    "col_clip": ("clip", "音频"),
    "col_rss_before": ("RSS before MB", "任务前 RSS MB"),
    "col_rss_after": ("RSS after MB", "任务后 RSS MB"),
    "col_delta": ("delta MB", "增量 MB"),
    "col_task_peak": ("peak MB", "峰值 MB"),
    "col_rtf": ("RTF", "RTF"),
    "col_settled": ("settled", "已稳定"),
    "col_other_after": ("{role} after MB", "{role} 任务后 MB"),
    "col_jobs": ("jobs", "任务数"),
    "col_peak_pair": ("peak median / max MB", "峰值（中位数/最大）MB"),
    "col_held_pair": ("held at end median / max MB", "结束时仍占用（中位数/最大）MB"),
    "col_process": ("process", "进程"),
    "col_pid": ("pid", "PID"),
    "col_seen": ("seen from – to", "出现时段"),
    "col_held": ("held at last sample MB", "最后采样时仍占用 MB"),
    "col_task": ("task", "任务"),
    "col_level": ("at once", "并发数"),
    "col_ok": ("ok of submitted", "成功/提交"),
    "col_median": ("median s", "完成时间中位数 s"),
    "col_max": ("max s", "最长完成时间 s"),
    "col_rtf_pair": ("RTF median / max", "RTF（中位数/最大）"),
    "col_speed": ("audio-s per s", "吞吐量（音频秒/秒）"),
    "col_memory": ("worker peak MB", "worker 峰值 MB"),
    "col_runs": ("runs", "运行次数"),
    "col_state": ("state", "状态"),
    "col_kind": ("kind of failure", "失败类型"),
    "col_count": ("count", "次数"),
    "col_said": ("error as recorded", "报错原文"),
    "col_cpu_trio": ("CPU % min / median / peak", "CPU %（最小/中位数/峰值）"),
    "col_rss_trio": ("RSS MB min / median / peak", "RSS MB（最小/中位数/峰值）"),
    "col_processes": ("processes", "进程数"),
    "col_samples": ("samples", "采样数"),
    "col_length": ("length s", "时长 s"),
    "col_size": ("size MB (10^6 bytes)", "大小 MB（10^6 字节）"),
    "col_tasks": ("tasks", "任务数"),
    "host": ("host", "主机"),
    "cpus": ("CPUs", "CPU 数"),
    "host_memory": ("machine memory", "主机内存"),
    "python": ("Python", "Python"),
    "system": ("system", "系统"),
    "tool_version": ("tool version", "工具版本"),
    "api": ("API", "API"),
    "clips": ("clip lengths", "音频时长"),
    "phase": ("phases", "测试阶段"),
    "phase_all": ("leak phase, concurrency ramp", "泄漏测试、并发测试"),
    "phase_leak": ("leak phase", "泄漏测试"),
    "phase_concurrency": ("concurrency ramp", "并发测试"),
    "when": ("when", "时间"),
    "duration": ("how long", "耗时"),
    "files": ("files", "文件"),
    "repeat": ("To repeat it (the service must be started as it was):",
        "按如下命令可重复本次测试（服务的启动方式需与当时一致）："),
    "minutes": ("{minutes} min {seconds} s", "{minutes} 分 {seconds} 秒"),
    "rows_left_out": ("{count} rows in the middle are left out here; all stand in the JSONL.",
        "中间 {count} 行从略，完整数据见 JSONL。"),
    # memory part
    "measure_private": ("Growth is judged on private memory at rest (what a process cannot get back from a file); RSS "
        "is shown.",
        "增长按稳定后的私有内存判定（不含可从文件重新载入的部分）；表中显示 RSS。"),
    "measure_rss": ("Growth is judged on RSS at rest: private memory was not recorded.",
        "增长按稳定后的 RSS 判定：没有私有内存的记录。"),
    "role_line": ("{role}: {verdict}: {reason}.", "{role}：{verdict}。{reason}。"),
    "rss_suffix": (" (RSS, not private memory)", "（按 RSS，而非私有内存）"),
    "first_use_leak": ("The first tasks added {mb:,.1f} MB to the {role}: first use (model and caches), and what "
        "leaked by then.",
        "首次使用（第 0 轮）使 {role} 内存增加 {mb:,.1f} MB：包括首次使用的开销（模型与缓存）和这期间已泄漏的部分。"),
    "first_use_line": ("The first tasks added {mb:,.1f} MB to the {role} (model and caches): that is first use, not a "
        "leak.",
        "首次使用（第 0 轮）使 {role} 内存增加 {mb:,.1f} MB（模型与缓存）：不算泄漏。"),
    "follows_clip": ("The growth follows {clip}.", "增长主要来自 {clip}。"),
    "follows_both": ("The growth follows both clips.", "两种音频都带来增长。"),
    "breaks_line": ("The series is cut: {breaks}.", "读数序列被打断：{breaks}。"),
    "memory_unwatched": ("Not found or not watched, so not judged: {roles}.",
        "未找到或未监控，因此未作判定：{roles}。"),
    "break_replaced": ("process ended or replaced in cycle {cycle}", "第 {cycle} 轮进程退出或被替换"),
    "break_failed_task": ("task failed in cycle {cycle}", "第 {cycle} 轮有任务失败"),
    "break_missing_reading": ("no reading in cycle {cycle}", "第 {cycle} 轮缺少读数"),
    "horses_head": ("Work-horses: each job ran in a process of its own, which ended with it. What they held is gone "
        "with them; what counts is whether each holds more than the one before.",
        "任务子进程：每个任务在独立的子进程中运行，结束即退出，所占内存随之归还。关键在于后一个是否比前一个占用更多。"),
    "bands": ("Bands: growth after a long task under 200 MB good, 200 to 500 poor, above 500 bad; RTF under 1.0 keeps "
        "up with speech.",
        "参考：长任务后增量低于 200 MB 为良好，200–500 MB 较差，超过 500 MB 严重；RTF 低于 1.0 才跟得上说话速度。"),
    "alt_memory": ("Chart: memory of each watched process over time", "图：各被监控进程的内存随时间变化"),
    "alt_ramp": ("Chart: throughput and turnaround against tasks at once", "图：吞吐量与完成时间随并发数的变化"),
    # old records
    "old_head": ("These results come from an older tool. They hold no phase, no peaks, no settled readings and the "
        "RSS of one process only.",
        "这份结果来自旧版工具：没有阶段、峰值和稳定读数，只记录了一个进程的 RSS。"),
    "old_wrong": ("The process whose memory the results record ({recorded}, at most {mb:,.1f} MB) is not the one that "
        "did the work: the CSV shows {count} short-lived or unrecorded processes that reached up to {peak:,.0f} MB "
        "and still held up to {held:,.0f} MB at their last sample. The recorded deltas say nothing about a leak in "
        "the job.",
        "结果里记录的那个进程（{recorded}，最高 {mb:,.1f} MB）并不是真正执行任务的进程：CSV 显示另有 {count} 个短命或"
        "未被记录的进程，峰值达 {peak:,.0f} MB，最后一次采样时仍占用 {held:,.0f} MB。因此记录中的增量不能说明任务是否"
        "泄漏。"),
    "old_recorded": ("{name}, pid {pid}", "{name}，PID {pid}"),
    "old_unmatched": ("no process of the CSV fits it", "CSV 中找不到对应的进程"),
    "old_no_csv": ("Without a CSV it cannot be checked which process the results describe.",
        "没有 CSV，无法核对结果记录的是哪个进程。"),
    "old_nothing": ("The CSV shows no bigger process, but none that fits the recorded memory either: which process "
        "the results describe is not known.",
        "CSV 中没有更大的进程，但也没有与记录相符的进程：无法确定结果描述的是哪个进程。"),
    "old_trusted": ("The CSV fits the recorded process and shows no bigger one: what the results record is the "
        "process {recorded}.",
        "CSV 与所记录的进程相符，也没有更大的进程：结果记录的就是进程 {recorded}。"),
    "old_can": ("It can show: that these tasks succeeded, how long they took (to the precision of its polling, which "
        "is not recorded), and what the CSV sampled.",
        "能够说明：这些任务成功了、耗时多少（精度取决于未记录的轮询间隔），以及 CSV 采样到的内容。"),
    "old_cannot": ("It cannot show: that there is no leak; peaks between samples; that a level was stable, unless all "
        "its lines are there: refused tasks were dropped from such files.",
        "不能说明：服务没有泄漏；两次采样之间的峰值有多高；某一并发级别是否稳定（除非该级每个任务都有记录，因为旧版工"
        "具会丢弃被拒绝的任务）。"),
    "old_limits": ("Limits are the present defaults; the file names none.", "限值采用当前默认值，文件中没有记录。"),
    "first_sample": ("A process that was there at the first sample may have begun earlier; memory that falls to the "
        "parent's size is an exit, not memory given back.",
        "首次采样时已存在的进程可能更早启动；内存降到父进程大小是子进程退出，不是释放。"),
    # concurrency part
    "state_stable": ("stable", "稳定"),
    "state_flaky": ("flaky: failed, then passed; counted as failed", "时好时坏：先失败、复测通过，按失败计"),
    "state_failed": ("failed", "失败"),
    "state_incomplete": ("incomplete", "不完整"),
    "state_interrupted": ("interrupted", "被中断"),
    "state_limited": ("test tool was the limit", "瓶颈在测试工具"),
    "state_slow": ("{state}, RTF 1.0 or more", "{state}，RTF 达到 1.0"),
    "ramp_stable": ("Highest stable level (no failure, no death): {value}",
        "稳定并发数（到此为止无失败、无进程退出）：{value}"),
    "ramp_bound": ("{tasks} tasks there without a failure: the failure rate of a task is below {percent:.0f} % with "
        "95 % confidence",
        "该级共 {tasks} 个任务无失败：单个任务的失败率低于 {percent:.0f}%（95% 置信度）"),
    "ramp_real_time": ("Highest level in real time (every RTF under 1.0): {value}",
        "快于实时的最高并发数（每个任务 RTF 均低于 1.0）：{value}"),
    "ramp_knee": ("Knee (smallest level within 5 % of the highest throughput, timing error and single outliers set "
        "aside): {value}",
        "吞吐拐点（扣除计时误差、剔除单次突出值之后，达到最高吞吐量 95% 的最小并发数）：{value}"),
    "ramp_parallel": ("Effective parallelism (highest throughput over that of one task): {value}",
        "有效并行度（最高吞吐与单任务吞吐之比）：{value}"),
    "no_level_one": ("not measured: level 1 was not run or has no throughput", "未测量（没有并发 1 的有效数据）"),
    "incomplete_levels": ("Incomplete levels: {levels}. Tasks without a line may have been refused; such a level is "
        "not called stable.",
        "不完整的级别：{levels}。缺少记录的任务可能是被拒绝了，这样的级别不能算稳定。"),
    "breach": ("First breach, at {level} at once: {what}; task: {task}; observed: {observed}; limit: {limit}",
        "首次越限：并发 {level}，{what}；任务：{task}；观测到：{observed}；限值：{limit}"),
    "breach_short": ("at {level} at once: {what}: {observed}", "并发 {level} 时，{what}：{observed}"),
    "lines": ("{count} lines", "{count} 行"),
    "no_breach": ("No breach in the ramp: no task failed, no process died, no RTF limit was reached",
        "并发测试没有越限：无任务失败，无进程退出，也未触及 RTF 上限"),
    "kind": ("{meaning} ({name})", "{meaning}（{name}）"),
    "kind_submit_refused": ("connection refused", "连接被拒绝"),
    "kind_submit_timeout": ("submission not answered in time", "提交后未按时得到答复"),
    "kind_submit_reset": ("connection broke during submission", "提交时连接断开"),
    "kind_submit_http": ("submission not accepted", "提交未被受理"),
    "kind_bad_response": ("answer of no use", "答复不符合约定"),
    "kind_task_failed": ("task failed", "任务失败"),
    "kind_task_lost": ("task unknown to the service", "服务查无此任务"),
    "kind_task_timeout": ("task not done in time", "任务超时"),
    "kind_stalled": ("no progress", "任务毫无进展"),
    "kind_worker_died": ("worker or its work-horse died", "worker 或其任务子进程退出"),
    "kind_interrupted": ("test interrupted", "测试被中断"),
    "kind_process_died": ("service process died", "服务进程退出"),
    "kind_rtf_limit": ("RTF reached its limit", "RTF 达到上限"),
    "kind_incomplete": ("results missing", "结果不完整"),
    "failures_head": ("Failures, all phases:", "失败汇总（全部阶段）："),
    "no_failures": ("No task failed.", "没有任务失败。"),
    "empty_text": ("{count} tasks were done without a word of text: a silent failure, or clips without speech, which "
        "prove nothing.",
        "有 {count} 个任务返回成功但文本为空：可能是静默失败，也可能音频中没有语音，都不足为证。"),
    # resources and method
    "no_resources": ("No samples: {why}", "没有采样数据。{why}。"),
    "gaps_none": ("{file}: {samples} samples, one every {interval} s (median); no hole of more than {limit:g} s.",
        "{file}：共 {samples} 次采样，间隔中位数 {interval} s；没有超过 {limit:g} s 的空缺。"),
    "gaps_some": ("{file}: {samples} samples, one every {interval} s (median); {count} holes of more than {limit:g} "
        "s, the longest {longest:.1f} s.",
        "{file}：共 {samples} 次采样，间隔中位数 {interval} s；超过 {limit:g} s 的空缺 {count} 处，最长 {longest:.1f}"
        " s。"),
    "method_rss": ("MB of memory are MiB. RSS counts pages that processes share once in each of them, so a sum over "
        "forked processes can be too high.",
        "内存单位 MB 指 MiB。RSS 会把共享页在每个进程中各计一次，因此多个 fork 进程相加可能偏高。"),
    "method_tree": ("A role is the sum over all its process trees. A work-horse that ends takes its memory with it: "
        "that fall is an exit.",
        "每个角色的数值是其全部进程树之和。子进程退出会带走自己的内存：这种下降是退出，不是释放。"),
    "method_cpu": ("CPU is percent of one core; the value of a short-lived process is over its age.",
        "CPU 以单核百分比计；短命进程的数值按其存活时间平均。"),
    "method_samples": ("The CSV shows one moment per sample and misses what lies between; peaks of tasks come from "
        "the kernel's high-water mark where the results hold them.",
        "CSV 每次采样只反映一个瞬间，会漏掉间隔内的变化；任务峰值取自内核的高水位记录（结果中有时）。"),
    "method_time": ("Turnaround runs from the common release of a level to the poll that saw the task done; the "
        "timing error stands in the JSONL (time_error).",
        "完成时间从同一并发级别的任务统一开始提交时算起，到轮询看到任务完成为止；计时误差见 JSONL 的 time_error。"),
    "method_queue": ("A queue accepts everything: success at N at once does not mean that N ran together, so limit, "
        "real-time limit and knee are given apart.",
        "队列来者不拒：N 个任务都成功不代表 N 个同时在处理，因此分别给出稳定并发数、快于实时的最高并发数和吞吐拐点。"),
    "method_bound": ("The growth rule looks after every cycle: take its bounds as about 95 %.",
        "增长规则每轮都会重新判断一次，因此其上界应按约 95% 的置信度理解。"),
    "read_lines": ("{file}: {lines} lines, {results} results", "{file}：{lines} 行，{results} 条结果"),
    "read_skipped": ("skipped: {count} × {why}", "跳过：{count} × {why}"),
    "skip_not_json": ("not JSON", "不是 JSON"),
    "skip_no_object": ("not a JSON object", "不是 JSON 对象"),
    "skip_too_large": ("nested too deep, or a number too large", "嵌套过深，或数值过大"),
    "skip_id_twice": ("test_id used twice", "test_id 重复"),
    "skip_unknown": ("unknown phase or status", "phase 或 status 的值未知"),
    "skip_missing": ("{name} is missing", "缺少 {name}"),
    "skip_range": ("{name} is out of range", "{name} 超出范围"),
    "skip_wrong": ("{name} is {value}", "{name} 的值有误：{value}"),
    "read_duplicates": ("{count} lines stand there twice and count once", "{count} 行重复，只计一次"),
    "read_missing": ("{count} results are missing: their running numbers stand in no line",
        "缺少 {count} 条结果：其流水号没有出现在任何一行"),
    "csv_missing": ("{file} is not beside the results: no chart over time, and holes in the sampling cannot be seen",
        "结果文件所在目录中没有 {file}，因此无法绘制内存随时间变化的图，也无法检查采样空缺"),
    "not_watched": ("processes were not watched (--no-watch), so there is no CSV",
        "没有监控进程（--no-watch），因此没有 CSV"),
    "csv_empty": ("{file} holds no sample that can be read ({skipped} rows skipped)",
        "{file} 中没有可读的采样（跳过 {skipped} 行）"),
    "csv_other_run": ("{file} is of another time than the results and was left out",
        "{file} 与结果不是同一时段，未予采用"),
    "csv_skipped": ("{file}: {rows} rows read, {skipped} skipped (torn, garbage or back in time)",
        "{file}：读取 {rows} 行，跳过 {skipped} 行（残缺、乱码或时间倒退）"),
    "csv_clock": ("{file}: the wall clock jumped {jumps} times against the monotonic clock; elapsed seconds are used",
        "{file}：系统时钟相对单调时钟跳变 {jumps} 次；以单调时间为准"),
    "csv_short": ("{file} ends {seconds:,.0f} s before the last result: it was cut off",
        "{file} 在最后一条结果之前 {seconds:,.0f} s 就结束了：文件被截断"),
    "chart_off": ("No charts: left out with --no-charts.", "未生成图表：使用了 --no-charts。"),
    "chart_no_matplotlib": ("No charts: matplotlib is not installed (pip install matplotlib).",
        "未生成图表：没有安装 matplotlib（pip install matplotlib）。"),
    "chart_no_font": ("Chart labels are English: this machine has no font with Chinese characters (apt install "
        "fonts-noto-cjk).",
        "图中文字为英文：本机没有含中文字形的字体（可安装 fonts-noto-cjk）。"),
    # comparison
    "fix_shown": ("The fix is shown for the {role}: {old} before ({before} MB per cycle), {new} now (no growth above "
        "{after} MB per cycle); a long task left {delta_before} MB in the worker before and leaves {delta_after} MB "
        "now.",
        "修复得到证实：{role} 之前{old}（每轮增长 {before} MB），现在{new}（每轮增长不超过 {after} MB）；每个长任务在 "
        "worker 中留下的内存，之前为 {delta_before} MB，现在为 {delta_after} MB。"),
    "fix_doubt": ("The fix is not shown for the {role}, though its verdict was {old} and is {new} now: {why}.",
        "{role} 的结论之前为“{old}”，现在为“{new}”，但修复尚未得到证实：{why}。"),
    "fix_same_rate": ("growth of up to {bound:.1f} MB per cycle is not excluded now, no less than {rate:.1f} before",
        "现在仍不能排除每轮最多 {bound:.1f} MB 的增长，并不低于之前的 {rate:.1f} MB"),
    "fix_other_leaks": ("The {role}: {new} now, {old} before, but the {others} leaks: the service as a whole is not "
        "mended.",
        "{role} 现在{new}（之前{old}），但 {others} 有泄漏：服务整体尚未修好。"),
    "fix_not_shown": ("The leak of the {role} is still there: {before} MB per cycle before, {rate} now; a long task "
        "left {delta_before} MB in the worker before and leaves {delta_after} MB now.",
        "{role} 的泄漏仍在：之前每轮增长 {before} MB，现在每轮增长 {rate} MB；每个长任务在 worker 中留下的内存，之前"
        "为 {delta_before} MB，现在为 {delta_after} MB。"),
    "fix_new_leak": ("A new leak: the {role} did not leak before and grows by {rate} MB per cycle now.",
        "新出现的泄漏：{role} 之前没有泄漏，现在每轮增长 {rate} MB。"),
    "fix_still_leaks": ("The {role} leaks now ({rate} MB per cycle); the run before is no evidence either way ({old}).",
        "{role} 现在有泄漏（每轮增长 {rate} MB）；上一次测试的结论为“{old}”，不能作为对比依据。"),
    "fix_both_clean": ("Neither run leaks: there is nothing that the change could have fixed; the {role} does not "
        "grow by more than {after} MB per cycle now.",
        "两次测试都没有泄漏，谈不上修复；{role} 现在每轮增长不超过 {after} MB。"),
    "fix_unproven": ("The {role} does not leak now (no growth above {after} MB per cycle), but the run before does "
        "not prove a leak ({old}), so the runs do not show that the change removed one.",
        "{role} 现在没有泄漏（每轮增长不超过 {after} MB），但上一次测试没有证实存在泄漏（结论为“{old}”），因此不能证"
        "明泄漏是这次改动消除的。"),
    "fix_open": ("The fix is not shown for the {role}: {new} now, {old} before.",
        "修复尚未得到证实：{role} 本次的结论为“{new}”，之前为“{old}”。"),
    "differs": ("The runs differ in {what} ({before} before; {after} now): the change may be due to that.",
        "两次测试的“{what}”不同（之前 {before}，现在 {after}）：变化可能由此造成。"),
    "differs_old": ("One of the runs is an older tool's record: it holds one process's memory and drops refused tasks.",
        "其中一次是旧版工具的记录：只有一个进程的内存，且丢弃了被拒绝的任务。"),
    "differs_order": ("The run before did not begin before the run after: are they swapped, or the same?",
        "“之前”的测试并不早于“之后”的测试：是否颠倒了，或是同一次测试？"),
    "fix_run": ("Before: {before} ({began_before}); after: {after} ({began_after})",
        "之前：{before}（{began_before}）；之后：{after}（{began_after}）"),
    "rate": ("{role} growth, MB per cycle", "{role} 每轮增长 MB"),
    "bound": ("upper bound of the {role}'s growth, MB per cycle", "{role} 每轮增长的上界 MB"),
    "first_use": ("{role} first-use growth, MB", "{role} 首次使用增长 MB"),
    "peak": ("{role} peak RSS, MB", "{role} RSS 峰值 MB"),
    "rtf_median": ("RTF in the leak phase, median", "泄漏测试 RTF 中位数"),
    "max_stable": ("highest stable level", "稳定并发数"),
    "max_real_time": ("highest level in real time", "快于实时的最高并发数"),
    "knee": ("knee", "吞吐拐点"),
    "leak_verdict": ("leak verdict of the {role}", "{role} 泄漏结论"),
    "verdict": ("verdict of the run", "总体结论"),
    # charts
    "axis_memory": ("RSS, MB", "RSS（MB）"),
    "axis_seconds": ("time, s", "时间（秒）"),
    "axis_minutes": ("time, min", "时间（分钟）"),
    "axis_hours": ("time, h", "时间（小时）"),
    "axis_level": ("tasks at once", "并发数"),
    "axis_speed": ("audio-s per s", "吞吐量（音频秒/秒）"),
    "axis_turnaround": ("turnaround, s", "完成时间（秒）"),
    "key_short_lived": ("{role}: {count} short-lived or further processes", "{role}：{count} 个短命或其他进程"),
    "key_sum": ("{role}, all processes", "{role} 合计"),
    "key_task": ("task running", "任务运行中"),
    "key_settled": ("worker at rest (settled reading)", "worker 稳定读数"),
    "key_median": ("median", "完成时间中位数"),
    "key_max": ("slowest", "最长完成时间"),
    "key_speed": ("throughput", "吞吐量"),
    "key_knee": ("knee ({n})", "吞吐拐点（{n}）"),
    "key_limit": ("highest stable ({n})", "稳定并发数（{n}）"),
    "key_real_time": ("RTF 1.0", "RTF 1.0"),
    "key_unstable": ("not stable", "不稳定"),
    # terminal
    "report_at": ("report: {file}", "报告：{file}"),
}

REASONS_ZH = {  # of GROWTH_REASONS, whose English stands in the instrument
    "steady_growth": "在全部 {cycles} 轮中，最近 {window} 轮平均每轮增长 {slope:.1f} MB（至少 {low:.1f}），累计 "
    "{grown:.0f} MB，没有停止的迹象；容量比这更大的缓存看起来也是这样：可用 --min-cycles {longer} 继续",
    "fast_growth": "最近 {window} 轮平均每轮增长 {slope:.1f} MB（至少 {low:.1f}），每一轮都不少于 "
    "{smallest_step:.1f} MB，累计 {grown:.0f} MB，没有停止的迹象；容量比这更大的缓存，或更晚才回收的堆，看起来也是"
    "这样：可用 --min-cycles {longer} 继续",
    "horses_leak": "处理 {audio_file} 的每个任务子进程结束时都比前一个多占 {slope:.1f} MB（至少 {low:.1f}）：虽"
    "然各在独立进程中运行，加载的内容却越来越多",
    "no_growth": "在全部 {cycles} 轮中，最近 {window} 轮每轮增长不超过 {high:.1f} MB，即 1 GB 空闲内存至少可用 "
    "{cycles_per_gb} 轮；但不能排除平均 {rarest:.1f} 轮以上才出现一次的跳增",
    "small_growth": "每轮增长 {slope:.1f} MB，确定高于 {low:.1f}、低于 {high:.1f}，未超过容差 {tolerance:g}；"
    "1 GB 空闲内存可用 {cycles_per_gb} 轮",
    "fork_per_job": "每个任务在独立进程中运行，内存不会跨任务累积；外层 worker 在全部 {cycles} 轮中，最近 "
    "{window} 轮每轮增长不超过 {high:.1f} MB",
    "too_few": "只有 {cycles} 个读数，至少还需要 {more} 个",
    "unconfirmed": "最近 {window} 轮平均每轮增长 {slope:.1f} MB（至少 {low:.1f}）：要区分泄漏与预热，需要 {needed} "
    "轮或更多",
    "one_jump": "{net:.1f} MB 的增长中有一次跳增 {step:.1f} MB：需要更多轮次看它是否再次出现",
    "slowing_down": "增长在放缓，每轮从 {earlier:.1f} MB 降到 {now:.1f} MB：可能是预热，也可能是内存分配"
    "器的 arena；请增加轮数，或为 worker 设置 MALLOC_ARENA_MAX=2",
    "swings": "内存有涨有落：净增 {net:.1f} MB 期间曾回落 {fall_back:.1f} MB；请检查缓存与垃圾回收，或增加轮数",
    "rises_not_over": "末段每轮增长不超过 {high:.1f} MB，但 {since} 轮前内存还上升过（共 {jumps} 次，平均 "
    "{size:.1f} MB）：是否已经停止，总共要 {enough} 轮才能看出",
    "too_noisy": "每轮增长在 {low:.1f} 至 {high:.1f} MB 之间：读数波动达 {sd:.1f} MB，总共约需 {enough} 轮才能判定",
    "replaced": "第 {cycle} 轮有被监控的进程退出或被替换，它占用的内存随之消失",
    "failed_task": "第 {cycle} 轮有任务失败；此后只有 {cycles} 个连续读数，还需要 {more} 个",
    "missing_reading": "第 {cycle} 轮缺少读数；此后只有 {cycles} 个连续读数，还需要 {more} 个",
    "unsettled": "{cycles} 次读数中有 {unsettled} 次内存没有稳定下来：请避免其他负载，或调大 --settle-timeout",
    "sampler_gap": "内存有 {gap_s:.1f} s 未被监控：期间可能有进程退出后又重启而未被察觉",
    "horses_growing": "处理 {audio_file} 的每个任务子进程结束时都比前一个多占 {slope:.1f} MB，共 {cycles} 个任"
    "务：需要更多轮次看是否持续",
    "not_measured": "没有读到该角色的内存",
}
WORDS |= {f"reason_{key}": (GROWTH_REASONS[key], chinese) for key, chinese in REASONS_ZH.items()}
AFTERWARDS_ZH = {  # of GROWTH_AFTERWARDS
    "kept": "；第 {said_at} 轮后作出此结论，其后 {later} 轮的读数与之不矛盾",
    "revoked": "；第 {revoked_at} 轮后曾判为 {revoked}，其后的读数与之矛盾",
}
WORDS |= {f"afterwards_{key}": (GROWTH_AFTERWARDS[key], chinese) for key, chinese in AFTERWARDS_ZH.items()}
WORDS |= {
    "reason_wrong_process": ("the results record a process of at most {recorded:,.1f} MB, while others that did the "
        "work reached {peak:,.0f} MB",
        "结果记录的进程最多只有 {recorded:,.1f} MB 内存，而真正执行任务的其他进程峰值达 {peak:,.0f} MB"),
    "reason_gap_unknown": ("neither the record nor a CSV says whether memory went unwatched for a while: judge the run "
        "with its CSV (--resources)",
        "记录和 CSV 都无法说明内存是否有一段时间未被监控：请连同 CSV 一起判定（--resources）"),
    "reason_old_record": ("an older tool's record says neither which process it measured nor whether memory was at "
        "rest",
        "旧版工具的记录既没有说明测的是哪个进程，也没有说明内存是否已稳定"),
}


class Words:
    """The word table in one language; texts come out plain, and are made safe where they are written."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.column = LANGUAGES.index(language)

    def __call__(self, key: str, **facts: Any) -> str:
        return WORDS[key][self.column].format(**{k: self._fact(v) for k, v in facts.items()})

    def note(self, note: Note) -> str:
        return self(note.key, **note.facts)

    def join(self, items: Iterable[str]) -> str:
        return self("list").join(items)

    def kind(self, name: str) -> str:
        """A kind of failure or breach by its name, with what it means where that is known."""
        key = "kind_submit_http" if name.startswith("submit_http_") else f"kind_{name}"
        return self("kind", meaning=self(key), name=name) if key in WORDS else plain(name)

    def _fact(self, value: Any) -> Any:
        """Facts that are themselves said in words: a list is clauses, a tuple is an enumeration."""
        if isinstance(value, Note):
            return self.note(value)
        if isinstance(value, Breach):
            observed = in_words(value.observed, 120)
            return self("breach_short", level=value.concurrency, what=self.kind(value.what), observed=observed)
        if isinstance(value, list):
            return self("semicolon").join(self._fact(item) for item in value)
        if isinstance(value, tuple):
            return self.join(self._fact(item) for item in value)
        return plain(value) if isinstance(value, str) else value


def reason(growth: GrowthVerdict, say: Words) -> str:
    """Why a verdict is what it is."""
    suffix = say("rss_suffix") if growth.facts.get("measure") == "rss" and growth.verdict != "NOT MEASURED" else ""
    later = "".join(say(f"afterwards_{key}", **growth.facts) for key in afterwards(growth))
    return say(f"reason_{growth.reason}", **growth.facts) + later + suffix


OWN_WORDS = {  # sentences of the instrument's own in a record, which has them in English
    "death": re.compile(r"(?P<role>\w+) process (?P<pid>\d+) \((?P<name>.*)\) ended"),
    "killed": re.compile(r"(?P<words>.*?) ?\(the kernel ended (?P<count>\d+) for lack of memory meanwhile\)"),
    "lines": re.compile(r"(?P<count>\d+) lines"),
}


def in_words(seen: float | str | None, limit: int = MOST_WORDS) -> Note | str:
    """What was seen of a breach or a death: a figure, a sentence of the instrument's own, or the service's words."""
    if not isinstance(seen, str):
        return num(seen, 2)
    text = plain(seen, limit)
    for key, pattern in OWN_WORDS.items():
        if found := pattern.fullmatch(text):
            facts: dict[str, Any] = found.groupdict()
            return Note(key, facts | {"words": in_words(facts["words"])} if "words" in facts else facts)
    return text or "–"


def plain(text: str, limit: int = MOST_WORDS) -> str:
    """Text of unknown origin as one line of printable characters (no control, escape or direction marks), shortened."""
    line = "".join(c if c.isprintable() else " " for c in text[: 4 * limit])
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def num(value: float | None, digits: int = 1, sign: bool = False) -> str:
    """A figure for people; – where it was not measured."""
    if value is None:
        return "–"
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    return text[1:] if text.startswith(("-0", "+0")) and not text.strip("-+0.") else text


def headline(judged: Judged, say: Words) -> str:
    """The verdict for somebody who reads one line."""

    def names(statuses: Iterable[str], asked: bool) -> str:
        return say.join(say(c.id) for c in judged.criteria if c.status in statuses and c.asked is asked)

    if not judged.run.results:
        return say("head_resources")
    wanted = {"pass": (), "fail": ("fail",), "inconclusive": ("inconclusive", "not_measured")}[judged.verdict]
    untested = names(("not_measured",), False)
    missing = names(wanted, True)
    key = "whole" if judged.verdict == "inconclusive" and judged.cut_short and not missing else judged.verdict
    said = [lead(judged, say), say(f"head_{key}", names=missing or untested)]
    if judged.cut_short:
        said.append(say.note(judged.cut_short))
    if failed := judged.run.failed_leak_tasks:
        named = say.join(say.kind(kind) for kind, _, _ in failure_kinds(failed)[:3])
        said.append(say("head_tasks", failed=len(failed), submitted=len(judged.run.phase("leak")), kinds=named))
    if untested and (missing or judged.verdict == "pass"):
        said.append(say("head_untested", names=untested))
    return say("space").join(part for part in said if part)


def lead(judged: Judged, say: Words) -> str:
    """What a manager asks: does memory leak, and how many tasks at once does the service stand?"""
    parts = []
    if judged.run.asked("leak") and judged.run.watched:
        leaking = [role for role, v in judged.roles.items() if v.growth.verdict == "LEAK"]
        memory = {c.status for c in judged.criteria if c.id in MEMORY_CRITERIA}
        clean = judged.roles and memory == {"pass"}
        key = "lead_LEAK" if leaking else "lead_NO LEAK" if clean else "lead_open"
        parts.append(say(key, roles=say.join(leaking)))
    if judged.run.asked("concurrency"):
        stable = judged.ramp.max_stable
        queued = (stable or 0) > 1 and (judged.ramp.effective_parallelism or math.inf) < ONE_AT_A_TIME
        key = "stands_open" if stable is None else "queued" if queued else "stands" if stable else "stands_none"
        more = stable and judged.ramp.levels[-1].concurrency == stable  # nothing broke: it may stand more
        parts.append(say(f"lead_{key}", stable=say("at_least", count=stable) if more else stable))
    text = say("semicolon").join(parts)
    return say("lead", sentences=text[:1].upper() + text[1:]) if text else ""


def three_sentences(judged: Judged, say: Words) -> list[str]:
    """Memory, concurrency, what to do next."""
    return [memory_sentence(judged, say), ramp_sentence(judged, say), next_sentence(judged, say)]


def memory_sentence(judged: Judged, say: Words) -> str:
    roles, hidden = judged.roles, judged.evidence.hidden if judged.evidence else []
    if leaking := [v for v in roles.values() if v.growth.verdict == "LEAK"]:
        said = [say("memory_leak", role=v.role, reason=capped(v.growth, say)) for v in leaking]
        text = say("memory_head", sentences=say("semicolon").join(said))
        clips = sorted({v.follows for v in leaking if v.follows and v.follows != "both"})
        return say("space").join([text, *(say("memory_follows", clip=clip) for clip in clips)])
    if hidden and judged.evidence:
        return say("old_sentence", recorded=judged.evidence.recorded_max_mb, peak=max(h.peak_mb for h in hidden),
                   held=max(h.held_mb for h in hidden))
    undecided = next((v for v in roles.values() if v.growth.verdict != "NO LEAK"), None)
    if why := memory_missing(judged.run, judged.evidence):
        return say("memory_none", reason=say.note(why))
    if undecided:
        key = "memory_none" if undecided.growth.verdict == "NOT MEASURED" else "memory_open"
        return say(key, role=undecided.role, reason=capped(undecided.growth, say))
    doubts = [c.text for c in judged.criteria if c.id in MEMORY_CRITERIA and c.status != "pass"]
    if doubts:
        return say("memory_doubt", roles=say.join(roles), reason=doubts[0])
    worst = max(roles.values(), key=lambda v: v.growth.upper_bound_mb_per_cycle or 0.0)
    text = capped(worst.growth, say)
    return say("memory_clean", roles=say.join(roles), reason=text[:1].upper() + text[1:])


def capped(growth: GrowthVerdict, say: Words) -> str:
    return plain(reason(growth, say), 2 * MOST_WORDS)


def ramp_sentence(judged: Judged, say: Words) -> str:
    ramp = judged.ramp
    if not ramp.levels:
        asked = judged.run.asked("concurrency")
        return say("ramp_none", reason=say("no_ramp_lines" if asked else "no_ramp_phase"))
    stop = say(f"stop_{ramp.stop_reason or 'unknown'}")
    if ramp.max_stable is None:
        return say("ramp_open", stop=stop)
    if not ramp.max_stable and ramp.first_breach:
        return say("ramp_broken", breach=ramp.first_breach)
    slow = {None: "real_unknown", 0: "real_none", ramp.max_stable: "real_all"}.get(ramp.max_real_time, "real_some")
    return say("ramp_head", stable=ramp.max_stable, real_time=say(slow, real_time=ramp.max_real_time), stop=stop,
               together=together(ramp, say)).strip()


def together(ramp: Ramp, say: Words) -> str:
    """Whether "stable" tasks were done at the same time, which no queue shows: it takes them all and lets them wait."""
    if (ramp.max_stable or 0) < 2:
        return ""
    if ramp.effective_parallelism is None or ramp.knee is None:
        return say("together_unknown")
    waits = (ramp.max_stable or 0) > ONLY_WAIT * ramp.knee
    key = "not" if ramp.effective_parallelism < ONE_AT_A_TIME else "knee" if waits else "yes"
    return say(f"together_{key}", stable=ramp.max_stable, knee=ramp.knee, parallelism=ramp.effective_parallelism)


def next_sentence(judged: Judged, say: Words) -> str:
    """The one thing to do next: mend what failed, else make the run whole, else keep it."""
    run, file = judged.run, judged.run.path.name
    if not run.results:
        return say("next_results")
    status = {c.id: c for c in judged.criteria}
    leaking = next((v for v in judged.roles.values() if v.growth.verdict == "LEAK"), None)
    longest = max(run.phase("leak"), key=lambda r: r.audio_seconds or 0.0).audio_file if run.phase("leak") else ""
    if leaking:
        clip = leaking.follows if leaking.follows not in (None, "both") else longest
        key = "next_leak_go" if leaking.role == "backend" else "next_leak"
        return say(key, role=leaking.role, clip=clip, file=file)
    if run.legacy:
        return say("next_old")
    if status["no_worker_crash"].status == "fail":
        return say("next_crash")
    if "fail" in (status["long_audio_delta"].status, status["return_to_baseline"].status):
        return say("next_high_delta", clip=longest, file=file)
    if status["min_concurrency"].status == "fail" and judged.ramp.first_breach:
        return say("next_concurrency", level=judged.ramp.first_breach.concurrency)
    if status["rtf_under_load"].status == "fail":
        return say("next_slow", level=status["rtf_under_load"].text.facts["level"])
    if judged.cut_short and judged.cut_short.key == "empty_text":
        return say("next_empty")
    if run.failed_leak_tasks:
        return say("next_failed")
    if judged.cut_short:
        return say("next_whole")
    if status["return_to_baseline"].text.key == "baseline_ramp":
        return say("next_ramp")
    growth = next((v.growth for v in judged.roles.values() if v.growth.verdict != "NO LEAK"), None)
    if growth and growth.reason in ("unsettled", "sampler_gap", "gap_unknown"):
        return say(f"next_{growth.reason}")
    if status["no_cumulative_growth"].status == "inconclusive" and growth:
        cycles = int(run.setting("max_cycles"))
        needed = max(int(growth.facts.get(key) or 0) for key in ("needed", "enough"))
        return say("next_cycles", cycles=max(cycles, needed), most=max(2 * cycles, needed))
    stop = judged.ramp.stop_reason
    if status["min_concurrency"].status == "inconclusive" and stop in ("memory_reserve", "rtf_limit"):
        return say(f"next_{stop}")
    missing = [c for c in judged.criteria if c.asked and c.status in ("inconclusive", "not_measured")]
    if missing or judged.verdict != "pass":
        return say("next_again", what=say.join(say(c.id) for c in missing or judged.criteria))
    return say("next_keep", file=file)


# ===================================================================================================== charts

Time = TypeVar("Time", int, float)  # seconds, or numbers of samples
MOST_POINTS = 1500  # drawn per line: about two per pixel; peaks and lows of each stretch are kept
MOST_LINES = 6  # processes of a role with a line of their own in the key; the others share one entry
INK, PAPER, FAINT, SHADE = "#222222", "#ffffff", "#d9d9d9", "#e4e4e4"
# Okabe and Ito: colours that colour-blind eyes can tell apart, too
COLOURS = {"worker": "#0072B2", "api": "#D55E00", "backend": "#009E73"}
OTHER_COLOURS = ("#CC79A7", "#56B4E9", "#E69F00")
STYLES = ("-", "--", ":", "-.")
CHINESE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "PingFang SC", "Microsoft YaHei",
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "SimHei", "Droid Sans Fallback", "Noto Sans CJK JP", "Heiti TC",
    "Hiragino Sans GB", "STHeiti", "SimSun", "AR PL UMing CN", "Arial Unicode MS",
)


def thinned(
    times: Sequence[Time], values: Sequence[float], most: int = MOST_POINTS
) -> tuple[list[Time], list[float]]:
    """At most about `most` points of a series; the lowest and highest of every stretch stay, at their own times."""
    if len(values) <= most:
        return list(times), list(values)
    stretch = math.ceil(2 * len(values) / most)
    keep = {0, len(values) - 1}
    for start in range(0, len(values), stretch):
        part = values[start : start + stretch]
        keep |= {start + part.index(min(part)), start + part.index(max(part))}
    order = sorted(keep)
    return [times[i] for i in order], [values[i] for i in order]


@dataclass(frozen=True)
class Pen:
    """How text gets into a chart: the language its fonts can show, and the fonts."""

    say: Words
    fonts: list[str]
    glyphs: frozenset[int]

    def label(self, text: str) -> str:
        """Text of unknown origin without characters that would become boxes."""
        return "".join(c if ord(c) in self.glyphs else "?" for c in plain(text, 40))


def choose_pen(language: str) -> Pen:
    """The wanted language where a font of this machine has the characters, else English."""
    from matplotlib import font_manager, ft2font, get_data_path

    latin = frozenset(ft2font.FT2Font(str(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf"))).get_charmap())
    if language == "en":
        return Pen(Words("en"), ["DejaVu Sans"], latin)
    needed = {ord(c) for pair in WORDS.values() for c in pair[1] if ord(c) > 0x2E7F}
    known = {font.fname for font in font_manager.fontManager.ttflist}
    for file in set(font_manager.findSystemFonts()) - known:  # installed since matplotlib last looked
        with contextlib.suppress(OSError, RuntimeError):  # a font file that matplotlib cannot use
            font_manager.fontManager.addfont(file)
    files = {font.name: font.fname for font in reversed(font_manager.fontManager.ttflist)}
    for name in (n for n in CHINESE_FONTS if n in files):
        glyphs = frozenset(ft2font.FT2Font(files[name]).get_charmap())
        if needed <= glyphs:
            return Pen(Words(language), [name, "DejaVu Sans"], glyphs | latin)
    return Pen(Words("en"), ["DejaVu Sans"], latin)


def write_charts(judged: Judged, folder: Path, stem: str, say: Words) -> tuple[dict[str, str], list[Note]]:
    """Write the charts that there is something to show in; chart -> file name, and what to say about them."""
    try:
        # Only here: all but the pictures works without it, and it takes longer to load than everything else.
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        return {}, [Note("chart_no_matplotlib")]
    pen = choose_pen(say.language)
    notes = [] if pen.say.language == say.language else [Note("chart_no_font")]
    look: dict[Any, Any] = {
        "font.family": pen.fonts, "font.size": 9, "text.color": INK, "text.parse_math": False, "svg.fonttype": "path",
        "svg.hashsalt": "report", "axes.labelcolor": INK, "axes.edgecolor": INK, "axes.facecolor": PAPER,
        "axes.spines.top": False, "axes.spines.right": False, "axes.unicode_minus": False, "xtick.color": INK,
        "ytick.color": INK, "figure.facecolor": PAPER, "path.simplify": True,
    }
    charts = (("memory", draw_memory, 4.6, bool(judged.run.samples)),
              ("concurrency", draw_ramp, 5.4, bool(judged.ramp.levels)))
    files = {}
    for name, draw, height, wanted in charts:
        if wanted:
            with matplotlib.rc_context(look):
                figure = Figure(figsize=(9, height), layout="constrained")
                draw(judged, figure, pen)
                files[name] = f"{stem}.{name}.svg"
                figure.savefig(folder / files[name], metadata={"Date": None, "Creator": None})
    return files, notes


def draw_memory(judged: Judged, figure: Figure, pen: Pen) -> None:
    """RSS of every watched process over time, tasks shaded, settled readings of the worker marked."""
    axes, say, first = figure.add_subplot(), pen.say, judged.run.samples[0]
    end = max(s.elapsed[-1] + s.clock[0][0] - first.clock[0][0] for s in judged.run.samples)
    unit, scale = ("seconds", 1.0) if end < 300 else ("minutes", 60.0) if end < 3 * 3600 else ("hours", 3600.0)
    shade_tasks(axes, judged, first, end, scale, say)
    colours: dict[str, str] = dict(COLOURS)
    for samples, usage in judged.usage:
        shift = samples.clock[0][0] - first.clock[0][0]  # a second file began later, or on another machine
        times = [(t + shift) / scale for t in samples.elapsed]
        for series in usage:
            colours.setdefault(series.role, OTHER_COLOURS[len(colours) % len(OTHER_COLOURS)])
            draw_role(axes, series, times, colours[series.role], pen)
    ends = {(r.phase, r.cycle, r.concurrency, r.level_run, r.audio_file): (wall, r.worker_rss_after_mb)
            for r in judged.run.results  # tasks released together share the reading after the last of them
            if r.settled and r.worker_rss_after_mb is not None and (wall := wall_seconds(r.timestamp)) is not None}
    settled = [(first.at_wall(wall) + SETTLE_S, mb) for wall, mb in ends.values()]
    if settled:
        x, y = thinned([t / scale for t, _ in settled], [mb for _, mb in settled], 400)
        axes.plot(x, y, "o", markersize=4, markerfacecolor=PAPER, markeredgecolor=INK, zorder=5,
                  label=say("key_settled"))
    axes.set_xlabel(say(f"axis_{unit}"))
    axes.set_ylabel(say("axis_memory"))
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, max(end / scale, 1e-6))
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)


def shade_tasks(axes: Axes, judged: Judged, samples: Samples, end: float, scale: float, say: Words) -> None:
    """Grey where tasks were running; tasks that overlap, or lie closer than a pixel, become one stretch."""
    spans: list[tuple[float, float]] = []
    for begin, over in sorted(w for w in map(task_window, judged.run.results) if w):
        if spans and begin <= spans[-1][1] + end / MOST_POINTS:
            spans[-1] = (spans[-1][0], max(spans[-1][1], over))
        else:
            spans.append((begin, over))
    bars = [(samples.at_wall(begin) / scale, (over - begin) / scale) for begin, over in spans]
    if bars:
        axes.broken_barh(bars, (0, 1), transform=axes.get_xaxis_transform(), facecolors=SHADE, edgecolor="none",
                         label=say("key_task"), zorder=0)


def draw_role(axes: Axes, series: RoleSeries, times: Sequence[float], colour: str, pen: Pen) -> None:
    """A role's longest-lived processes, the others under one entry, and their sum where several run."""
    most = sorted(series.processes, key=lambda p: -len(p.at))
    named = [p for p in most[:MOST_LINES] if len(most) <= MOST_LINES or 10 * len(p.at) >= len(most[0].at)]
    for number, process in enumerate(named):
        at, rss = thinned(process.at, process.rss)
        axes.plot([times[i] for i in at], rss, STYLES[number % len(STYLES)], color=colour, linewidth=1.4, markersize=4,
                  marker="." if len(at) < 3 else None,
                  label=f"{pen.label(series.role)}: {pen.label(process.name)} ({process.pid})")
    others, nan = sorted(most[len(named) :], key=lambda p: p.at[0]), math.nan
    if others:
        x, y = joined(others, times)
        label = pen.say("key_short_lived", role=pen.label(series.role), count=len(others))
        once = [i for i, around in enumerate(zip([nan, *y], y, [*y[1:], nan], strict=False))
                if [math.isnan(mb) for mb in around] == [True, False, True]]  # seen in one sample: no line to see
        axes.plot(x, y, color=colour, linewidth=0.9, marker=".", markersize=1.5, markevery=once, label=label)
    if len(most) > 1 and series.role in ROLES:
        at, rss = thinned(series.at, series.rss)
        axes.plot([times[i] for i in at], rss, color=colour, alpha=0.35, linewidth=3, zorder=1,
                  label=pen.say("key_sum", role=series.role))


def joined(processes: Sequence[Process], times: Sequence[float]) -> tuple[list[float], list[float]]:
    """Many short-lived processes as one line, broken between them; where they are too many, the highest of each lot."""
    lot = math.ceil(len(processes) / (MOST_POINTS // 4))
    x: list[float] = []
    y: list[float] = []
    for first in range(0, len(processes), lot):
        process = max(processes[first : first + lot], key=lambda p: max(p.rss))
        at, mb = thinned([times[i] for i in process.at], process.rss, max(8, 4 * MOST_POINTS // len(processes)))
        x += [*at, math.nan]
        y += [*mb, math.nan]
    return x, y


def draw_ramp(judged: Judged, figure: Figure, pen: Pen) -> None:
    """Throughput above, turnaround below, against tasks at once; knee, limit and RTF 1 marked."""
    say, ramp = pen.say, judged.ramp
    above, below = figure.subplots(2, 1, sharex=True)
    sizes = [level.concurrency for level in ramp.levels]
    nan = math.nan
    speeds = [nan if (x := level.audio_seconds_per_second) is None or level.client_limited else x
              for level in ramp.levels]
    above.plot(sizes, speeds, "o-", color=COLOURS["worker"], label=say("key_speed"))
    for level, y in zip(ramp.levels, speeds, strict=True):
        if not (level.stable or level.interrupted or math.isnan(y)):
            above.plot([level.concurrency], [y], "X", color="#D55E00", markersize=9, zorder=4)
    lines = (("turnaround_max_s", "s--", "#D55E00"), ("turnaround_median_s", "o-", COLOURS["worker"]))
    for key, style, colour in lines:
        values = [getattr(level, key) for level in ramp.levels]
        below.plot(sizes, [nan if v is None else v for v in values], style, color=colour,
                   label=say("key_max" if "max" in key else "key_median"))
    seconds = {r.audio_seconds for r in judged.run.phase("concurrency") if r.audio_seconds}
    if len({round(s) for s in seconds}) == 1:  # turnaround as long as the recording
        below.axhline(min(seconds), color=INK, linewidth=1, linestyle=":", label=say("key_real_time"))
    for axes in (above, below):
        if ramp.knee:
            axes.axvline(ramp.knee, color="#009E73", linewidth=1.2, linestyle="-.", label=say("key_knee", n=ramp.knee))
        if ramp.max_stable:
            axes.axvline(ramp.max_stable, color="#CC79A7", linewidth=1.6, label=say("key_limit", n=ramp.max_stable))
        axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
        axes.grid(axis="y", color=FAINT, linewidth=0.6)
    if not all(level.stable or level.interrupted for level in ramp.levels):
        above.plot([], [], "X", color="#D55E00", markersize=9, label=say("key_unstable"))
    above.set_ylabel(say("axis_speed"))
    below.set_ylabel(say("axis_turnaround"))
    below.set_xlabel(say("axis_level"))
    below.set_xlim(min(sizes) - 0.5, max(sizes) + 0.5)
    below.xaxis.get_major_locator().set_params(integer=True)
    above.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    below.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


# =================================================================================================== markdown

MOST_ROWS = 60  # of a table; the middle of a longer one is left out, and said so
ENTITIES = {c: f"&#{ord(c)};" for c in "\\`*[]{}|~$@^"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def md(text: str) -> str:
    """Any text as markdown that shows it as it is: one line, no markup, no HTML, no links.

    Letters that could mean something to a renderer become entities, which are always shown as text.
    """
    line = "".join(ENTITIES.get(c, c) for c in plain(text, 4 * MOST_WORDS))
    line = re.sub(r"(?<![^\W_])_|_(?![^\W_])", "&#95;", line)  # inside a word it is harmless and reads better
    line = re.sub(r"(?i)\b(https?|ftp|mailto|xmpp):", r"\1&#58;", line)
    return re.sub(r"(?i)\bwww\.", "www&#46;", line)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, whole: bool = False) -> list[str]:
    """A markdown table; the first `left` columns are text, the others figures. `whole`: no short cell is broken."""
    marks = ["---" if i < left else "---:" for i in range(len(headers))]
    show = unbroken if whole else md
    lines = [f"| {' | '.join(show(cell) or ' ' for cell in line)} |" for line in (headers, *rows)]
    return [lines[0], f"| {' | '.join(marks)} |", *lines[1:], ""]


def unbroken(text: str) -> str:
    """Markdown of a cell; a short one with no-break spaces, and word joiners between Chinese characters."""
    if len(text) > 16:
        return md(text)
    return re.sub(r"(?<=[\u4e00-\u9fff])(?=[\u4e00-\u9fff])", "\u2060", md(text).replace(" ", "\u00a0"))


def shortened_table(headers: Sequence[str], rows: Sequence[Sequence[str]], say: Words, left: int = 1) -> list[str]:
    return [*table(headers, shortened(rows), left), *left_out(rows, say)]


def shortened(items: Sequence[Any]) -> list[Any]:
    """The first and last of a long list."""
    return list(items) if len(items) <= MOST_ROWS else [*items[: MOST_ROWS // 2], *items[-MOST_ROWS // 2 :]]


def left_out(items: Sequence[Any], say: Words) -> list[str]:
    return sentences([say("rows_left_out", count=len(items) - MOST_ROWS)]) if len(items) > MOST_ROWS else []


def code(text: str) -> list[str]:
    """A code block; its fence is longer than any in the text."""
    line = plain(text, 10 * MOST_WORDS)
    fence = "`" * max(3, 1 + max((len(ticks) for ticks in re.findall(r"`+", line)), default=0))
    return [fence, line, fence, ""]


def sentences(lines: Iterable[str]) -> list[str]:
    return [part for line in lines for part in (md(line), "")]


def bullets(lines: Iterable[str]) -> list[str]:
    return [*(f"- {md(line)}" for line in lines), ""]


def picture(alt: str, file: str) -> list[str]:
    return [f"![{md(alt)}]({quote(file)})", ""]


def report(
    judged: Judged, before: Judged | None, charts: Mapping[str, str], chart_notes: Sequence[Note], say: Words
) -> str:
    """The whole report: first screen, comparison, set-up, memory, concurrency, resources, method."""
    verdict = f"**{md(say('verdict_' + judged.verdict))}** – {md(headline(judged, say))}"
    lines = [f"# {md(say('title'))}", "", verdict, ""]
    headers = columns(say, "what", "observed", "limit", "result", "why")
    lines += table(headers, criteria_rows(judged, say), 5, whole=True)
    lines += bullets(three_sentences(judged, say))
    parts = [("compare", comparison_part(before, judged, say) if before else []), ("run", run_part(judged, say)),
             ("old", old_part(judged, say)), ("memory", memory_part(judged, charts, say)),
             ("ramp", ramp_part(judged, charts, say)), ("resources", resources_part(judged, say)),
             ("method", method_part(judged, chart_notes, say)), ("input", input_part(judged.run, say))]
    for key, part in parts:
        if part:
            lines += [f"## {md(say('part_' + key))}", "", *part]
    return "\n".join(lines).rstrip() + "\n"


def columns(say: Words, *names: str) -> list[str]:
    return [say(f"col_{name}") for name in names]


def criteria_rows(judged: Judged, say: Words) -> list[tuple[str, str, str, str, str]]:
    return [(say(c.id), observed_text(c), limit_text(c, say), say(f"status_{c.status}"), say.note(c.text))
            for c in judged.criteria]


def observed_text(c: Criterion) -> str:
    unit = " MB" if c.id in MEMORY_CRITERIA and c.observed is not None else ""
    digits = 0 if c.id in ("min_concurrency", "no_worker_crash") else 2 if c.id == "rtf_under_load" else 1
    return num(c.observed, digits, sign=c.id in MEMORY_CRITERIA) + unit


def limit_text(c: Criterion, say: Words) -> str:
    if c.id == "no_worker_crash":
        return say("limit_none")
    unit = " MB" if c.id in MEMORY_CRITERIA else ""
    return say("limit_least" if c.id == "min_concurrency" else "limit_below", limit=f"{c.limit:g}{unit}")


def comparison_part(before: Judged, after: Judged, say: Words) -> list[str]:
    fix, changes, unlike = compare(before, after)
    rows = [(say.note(change.what), figure_text(change.before, change.digits, say),
             figure_text(change.after, change.digits, say), change_text(change)) for change in changes]
    lines = [f"**{md(say.note(fix))}**", "", *table(columns(say, "what", "before", "after", "change"), rows)]
    runs = say("fix_run", before=before.run.path.name, after=after.run.path.name,
               began_before=began(before.run) or say("unknown"), began_after=began(after.run) or say("unknown"))
    return lines + bullets([runs, *map(say.note, unlike)])


def figure_text(value: float | Note | None, digits: int, say: Words) -> str:
    return say.note(value) if isinstance(value, Note) else num(value, digits)


def change_text(change: Change) -> str:
    if isinstance(change.before, Note) or isinstance(change.after, Note):
        return "" if change.before == change.after else "→"
    known = change.before is not None and change.after is not None
    return num((change.after or 0.0) - (change.before or 0.0), change.digits, sign=True) if known else "–"


def run_part(judged: Judged, say: Words) -> list[str]:
    """All that is needed to repeat the run."""
    run = judged.run
    first = run.results[0] if run.results else None
    host: Mapping[str, Any] = first.host if first else {}
    settings: Mapping[str, Any] = first.settings if first else {}
    phase = settings.get("phase")
    facts = [("host", host.get("name")), ("cpus", host.get("cpus")),
             ("host_memory", host_memory(host)), ("system", host.get("system")), ("python", host.get("python")),
             ("tool_version", host.get("tool_version")),
             ("api", f"{settings.get('api', 'asr-queue')} {settings['url']}" if "url" in settings else None),
             ("phase", say(f"phase_{phase}") if f"phase_{phase}" in WORDS else phase), ("when", began(run)),
             ("duration", duration_text(run, say)),
             ("files", " + ".join([run.path.name, *(s.path.name for s in run.samples if s.path != run.path)]))]
    known = [(say(key), say("unknown") if value is None else str(value)) for key, value in facts]
    lines = table(columns(say, "what", "value"), known, 2)
    clips = Counter((r.audio_file, num(r.audio_seconds), num(r.audio_size_mb, 2)) for r in run.results)
    if clips:
        rows = [(*clip, str(count)) for clip, count in clips.items()]
        lines += shortened_table(columns(say, "clip", "length", "size", "tasks"), rows, say)
    if settings:
        lines += [*sentences([say("repeat")]), *code(repeat_command(settings))]
    return lines


def repeat_command(settings: Mapping[str, Any]) -> str:
    """The command line of a run: every setting that is not the default."""
    words = ["python3", "tests/memory_leak_stress_test.py"]
    defaults = Settings().for_record()
    for name, value in settings.items():
        if name not in defaults or value == defaults[name] or value is None:
            continue
        option = f"--{name.replace('_', '-')}"
        values = [f"{value:g}" if isinstance(value, float) else str(value)]
        if isinstance(value, dict):  # --watch and --pid: lists by role
            values = [f"{role}={each}" for role, them in value.items() if isinstance(them, list) for each in them]
        words += [option] if value is True else [word for each in values for word in (option, each)]
    return shlex.join(words)


def run_span(run: Run) -> tuple[float, float] | None:
    """Wall-clock seconds of the run's beginning and end."""
    windows = [w for w in map(task_window, run.results) if w] or [(s.clock[0][0], s.clock_end) for s in run.samples]
    return (min(w[0] for w in windows), max(w[1] for w in windows)) if windows else None


def began(run: Run) -> str | None:
    span = run_span(run)
    try:
        return (EPOCH + timedelta(seconds=span[0])).isoformat(" ", "seconds") if span else None
    except OverflowError:  # a time of the year 1 and a task of a thousand years
        return None


def duration_text(run: Run, say: Words) -> str | None:
    span = run_span(run)
    seconds = int(span[1] - span[0]) if span else 0
    return say("minutes", minutes=seconds // 60, seconds=seconds % 60) if span else None


def old_part(judged: Judged, say: Words) -> list[str]:
    """What an older tool's record can and cannot prove, and what its CSV shows."""
    evidence = judged.evidence
    if evidence is None:
        return []
    hidden = sorted(evidence.hidden, key=lambda h: h.first_s)
    lines = sentences([say("old_head")])
    if hidden:
        who = evidence.recorded
        recorded = say("old_recorded", name=who.name, pid=who.pid) if who else say("old_unmatched")
        finding = say("old_wrong", recorded=recorded, mb=evidence.recorded_max_mb, count=len(hidden),
                      peak=max(h.peak_mb for h in hidden), held=max(h.held_mb for h in hidden))
        rows = [(h.name, str(h.pid), f"{h.first_s:,.0f} – {h.last_s:,.0f} s", num(h.peak_mb), num(h.held_mb),
                 h.test_id or "–") for h in hidden]
        lines += [f"**{md(finding)}**", ""]
        lines += shortened_table(columns(say, "process", "pid", "seen", "peak", "held", "task"), rows, say)
        lines += sentences([say("first_sample")])
    elif evidence.recorded:
        recorded = say("old_recorded", name=evidence.recorded.name, pid=evidence.recorded.pid)
        lines += sentences([say("old_trusted", recorded=recorded)])
    else:
        lines += sentences([say("old_nothing" if judged.run.samples else "old_no_csv")])
    return lines + bullets([say("old_can"), say("old_cannot"), say("old_limits")])


def memory_part(judged: Judged, charts: Mapping[str, str], say: Words) -> list[str]:
    """Leak verdict of each role, the cycles, work-horses, the chart."""
    roles, lines = judged.roles, []
    if roles:
        rows = [(role, say("leak_" + v.growth.verdict), num(v.growth.mb_per_cycle, 2, sign=True),
                 num(v.growth.upper_bound_mb_per_cycle, 2), num(v.first_use_growth_mb), num(v.peak_mb),
                 str(v.growth.cycles)) for role, v in roles.items()]
        headers = columns(say, "role", "verdict", "rate", "bound", "first_use", "peak", "cycles")
        lines += table(headers, rows, 2)
        said = [text for v in roles.values() for text in role_lines(v, say)]
        unwatched = [role for role in ROLES if role not in roles]
        lines += bullets(said + ([say("memory_unwatched", roles=say.join(unwatched))] if unwatched else []))
        private = any(m.private_after_mb is not None for r in judged.run.phase("leak") for m in r.memory.values())
        measured = any(v.growth.verdict != "NOT MEASURED" for v in roles.values())
        lines += sentences([say("measure_private" if private else "measure_rss")] if measured else [])
        lines += sentences([say("bands")])
    else:
        lines += sentences([memory_sentence(judged, say)])
    if "memory" in charts:
        lines += picture(say("alt_memory"), charts["memory"])
    lines += horses_table(roles.get("worker"), say)
    tasks = judged.run.phase("leak")
    others = [role for role in ROLES[1:] if any(role in r.memory for r in tasks)]
    rows_of_tasks = [
        (str(r.cycle), clip_text(r, say), num(r.worker_rss_before_mb), num(r.worker_rss_after_mb),
         num(r.worker_rss_delta_mb, sign=True), num(r.worker_rss_peak_mb), num(r.rtf, 3),
         say("none" if r.settled is None else "yes" if r.settled else "no"),
         *(num(r.memory[role].after_mb) if role in r.memory else "–" for role in others)) for r in shortened(tasks)]
    headers = columns(say, "cycle", "clip", "rss_before", "rss_after", "delta", "task_peak", "rtf", "settled")
    headers += [say("col_other_after", role=role) for role in others]
    return lines + ([*table(headers, rows_of_tasks, 2), *left_out(tasks, say)] if tasks else [])


def clip_text(result: TaskResult, say: Words) -> str:
    """The clip of a task, and what became of a task that did not succeed."""
    failed = result.status != "success"
    return f"{result.audio_file} – {say.kind(result.error_kind or result.status)}" if failed else result.audio_file


def role_lines(v: RoleVerdict, say: Words) -> Iterator[str]:
    """What there is to say about one role."""
    yield say("role_line", role=v.role, verdict=say("leak_" + v.growth.verdict), reason=capped(v.growth, say))
    if v.follows:
        yield say("follows_both") if v.follows == "both" else say("follows_clip", clip=v.follows)
    if v.first_use_growth_mb is not None and v.first_use_growth_mb > MUCH_BIGGER_MB / 10:
        leaks = v.growth.verdict == "LEAK"
        yield say("first_use_leak" if leaks else "first_use_line", mb=v.first_use_growth_mb, role=v.role)
    if v.breaks:
        yield say("breaks_line", breaks=say.join(say(f"break_{kind}", cycle=cycle) for cycle, kind in v.breaks[:10]))


def horses_table(worker: RoleVerdict | None, say: Words) -> list[str]:
    horses: Sequence[HorseSeries] = worker.horses if worker else []
    rows = [(h.audio_file, say("leak_" + h.growth.verdict), str(h.jobs), pair(h.peak_median_mb, h.peak_max_mb, 1),
             pair(h.held_median_mb, h.held_max_mb, 1), num(h.growth.mb_per_cycle, 2, sign=True)) for h in horses]
    if not rows:
        return []
    headers = columns(say, "clip", "verdict", "jobs", "peak_pair", "held_pair", "rate")
    return [*sentences([say("horses_head")]), *shortened_table(headers, rows, say, 2)]


def pair(median_value: float | None, highest: float | None, digits: int) -> str:
    return f"{num(median_value, digits)} / {num(highest, digits)}"


def ramp_part(judged: Judged, charts: Mapping[str, str], say: Words) -> list[str]:
    """Levels, the three answers, the chart, the first breach, failures."""
    ramp = judged.ramp
    lines = []
    if ramp.levels:
        rows = [(str(v.concurrency), state_text(v, say), f"{v.succeeded} / {v.submitted}{'' if v.complete else '?'}",
                 num(v.turnaround_median_s, 2), num(v.turnaround_max_s, 2), pair(v.rtf_median, v.rtf_max, 3),
                 num(v.audio_seconds_per_second, 2), num(v.worker_peak_mb), str(v.runs)) for v in ramp.levels]
        headers = columns(say, "level", "state", "ok", "median", "max", "rtf_pair", "speed", "memory", "runs")
        lines += shortened_table(headers, rows, say, 2)
        lines += bullets(ramp_lines(ramp, say))
        if "concurrency" in charts:
            lines += picture(say("alt_ramp"), charts["concurrency"])
    else:
        lines += sentences([ramp_sentence(judged, say)])
    kinds = failure_kinds(judged.run.results)
    empty = judged.run.empty_texts
    if kinds:
        lines += sentences([say("failures_head")])
        failures = [(say.kind(kind), words, str(count)) for kind, count, words in kinds]
        lines += table(columns(say, "kind", "said", "count"), failures, 2)
    elif judged.run.results:
        lines += sentences([say("no_failures")])
    return lines + (sentences([say("empty_text", count=empty)]) if empty else [])


def state_text(level: Level, say: Words) -> str:
    state = ("interrupted" if level.interrupted else "incomplete" if not level.complete
             else "limited" if level.client_limited else "flaky" if level.flaky
             else "stable" if level.stable else "failed")
    slow = level.rtf_max is not None and level.rtf_max >= REAL_TIME
    return say("state_slow", state=say(f"state_{state}")) if slow else say(f"state_{state}")


def ramp_lines(ramp: Ramp, say: Words) -> Iterator[str]:
    proven = say("ramp_bound", tasks=ramp.tasks_at_limit, percent=math.ceil(100 * (ramp.failure_bound or 0.0)))
    yield say("ramp_stable", value=num(ramp.max_stable, 0)) + (say("semicolon") + proven if ramp.failure_bound else "")
    yield say("ramp_real_time", value=num(ramp.max_real_time, 0))
    yield say("ramp_knee", value=num(ramp.knee, 0))
    parallelism = ramp.effective_parallelism
    yield say("ramp_parallel", value=say("no_level_one") if parallelism is None else num(parallelism, 2))
    if meaning := together(ramp, say):
        yield meaning
    yield say(f"stop_{ramp.stop_reason or 'unknown'}")
    breach = ramp.first_breach
    if breach:
        yield say("breach", level=breach.concurrency, what=say.kind(breach.what), task=breach.test_id or "–",
                  observed=in_words(breach.observed), limit=in_words(breach.limit))
    else:
        yield say("no_breach")
    if incomplete := [str(level.concurrency) for level in ramp.levels if not level.complete]:
        yield say("incomplete_levels", levels=say.join(incomplete))


def resources_part(judged: Judged, say: Words) -> list[str]:
    """CPU and RSS per role from the CSV, and its holes."""
    run = judged.run
    if not run.samples:
        because = ("csv_missing", "not_watched", "csv_empty", "csv_other_run")
        return sentences([say("no_resources", why=[note for note in run.notes if note.key in because])])
    lines = []
    for samples, usage in judged.usage:
        rows = [(use.role, trio(use.cpu), trio(use.rss), str(len(use.processes)), f"{len(use.at):,}") for use in usage]
        lines += shortened_table(columns(say, "role", "cpu_trio", "rss_trio", "processes", "samples"), rows, say)
        interval = samples.interval or 0.0
        holes = samples.holes(interval)
        facts = {"samples": f"{len(samples.elapsed):,}", "interval": num(interval or None, 2), "count": len(holes),
                 "limit": hole_from(interval), "longest": max((seconds for _, seconds in holes), default=0.0)}
        lines += sentences([say("gaps_some" if holes else "gaps_none", file=samples.path.name, **facts)])
    return lines


def trio(values: Sequence[float]) -> str:
    ordered = sorted(values)  # so that the median finds them in order
    return " / ".join(num(value) for value in (ordered[0], median(ordered), ordered[-1]))


def method_part(judged: Judged, chart_notes: Sequence[Note], say: Words) -> list[str]:
    keys = ["rss", "tree", "cpu", "samples"] + ([] if judged.run.legacy else ["time"]) + ["queue", "bound"]
    return bullets([*(say(f"method_{key}") for key in keys), *(say.note(note) for note in chart_notes)])


def input_part(run: Run, say: Words) -> list[str]:
    """What was read, what was skipped and why."""
    lines = [say("read_lines", file=run.path.name, lines=run.lines, results=len(run.results))] if run.lines else []
    lines += [say("read_skipped", count=n, why=why) for why, n in run.skipped.most_common(8)]
    lines += [say("read_missing", count=run.missing)] if run.missing else []
    lines += [say("read_duplicates", count=run.duplicates)] if run.duplicates else []
    return bullets([*lines, *(say.note(n) for n in run.notes)])


# ======================================================================================= terminal and --json

STATUS_STYLES = {"pass": "green", "fail": "bold red", "inconclusive": "yellow", "not_measured": "dim"}


def print_summary(judged: Judged, before: Judged | None, say: Words, report_path: Path) -> None:
    """One screen: verdict, criteria, three sentences, where the report is. Plain where there is no terminal."""
    console = Console(highlight=False)
    style = STATUS_STYLES[judged.verdict]
    console.print(Text.assemble((say(f"verdict_{judged.verdict}"), f"bold {style}"), " – ", headline(judged, say)))
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("what", "observed", "limit", "result"):
        grid.add_column(say(f"col_{column}"), justify="right" if column == "observed" else "left",
                        no_wrap=column in ("observed", "result"))
    for c in judged.criteria:
        grid.add_row(*(Text(plain(t)) for t in (say(c.id), observed_text(c), limit_text(c, say))),
                     Text(say(f"status_{c.status}"), style=STATUS_STYLES[c.status]))
    console.print(grid)
    for sentence in three_sentences(judged, say):
        console.print(Text(plain(sentence, 2 * MOST_WORDS)))
    if before:
        fix, _, unlike = compare(before, judged)
        console.print(Text(plain(say.note(fix), 2 * MOST_WORDS), style="bold"))
        for note in unlike:
            console.print(Text(plain(say.note(note))))
    for note in judged.run.notes:
        console.print(Text(plain(say.note(note)), style="dim"))
    if judged.run.skipped:
        skipped = say("read_skipped", count=judged.run.skipped.total(), why=tuple(judged.run.skipped))
        console.print(Text(plain(skipped), style="yellow"))
    if str(report_path) != os.devnull:  # where the report is thrown away, as by --no-report
        console.print(Text(say("report_at", file=str(report_path))), soft_wrap=True)


def summary(judged: Judged, say: Words) -> dict[str, Any]:
    """The run in figures, as printed by --json."""
    ramp, run = judged.ramp, judged.run
    leak = {role: {"verdict": v.growth.verdict, "mb_per_cycle": tidy(v.growth.mb_per_cycle),
                   "upper_bound_mb_per_cycle": tidy(v.growth.upper_bound_mb_per_cycle),
                   "first_use_growth_mb": tidy(v.first_use_growth_mb), "peak_mb": tidy(v.peak_mb),
                   "cycles": v.growth.cycles, "reason": reason(v.growth, say)} for role, v in judged.roles.items()}
    left_out = ("complete", "flaky", "interrupted", "rtf_known")
    levels = [{k: tidy(v) for k, v in vars(level).items() if k not in left_out} for level in ramp.levels]
    criteria = [{"id": c.id, "status": c.status, "observed": tidy(c.observed), "limit": tidy(c.limit),
                 "text": say.note(c.text)} for c in judged.criteria]
    return {"verdict": judged.verdict, "criteria": criteria, "leak": leak,
            "concurrency": {"max_stable": ramp.max_stable, "max_real_time": ramp.max_real_time, "knee": ramp.knee,
                            "effective_parallelism": tidy(ramp.effective_parallelism), "stop_reason": ramp.stop_reason,
                            "first_breach": vars(ramp.first_breach) if ramp.first_breach else None, "levels": levels},
            "input": {"lines": run.lines, "results": len(run.results), "skipped_lines": sum(run.skipped.values()),
                      "empty_texts": run.empty_texts, "duplicate_lines": run.duplicates,
                      "missing_lines": run.missing,
                      "csv_rows": sum(s.rows for s in run.samples),
                      "skipped_csv_rows": sum(s.skipped for s in run.samples), "old_record": run.legacy}}


def comparison(before: Judged, after: Judged, say: Words) -> dict[str, Any]:
    """Before and after, as printed by --json with --baseline."""
    fix, changes, unlike = compare(before, after)
    sides = [{"what": c.what.key, **c.what.facts, "before": tidy(c.before), "after": tidy(c.after)} for c in changes]
    return {"fix": fix.key, "text": say.note(fix), "differences": [say.note(n) for n in unlike], "changes": sides}


def tidy(value: Any) -> Any:
    if isinstance(value, Note):
        return value.key.removeprefix("leak_").removeprefix("verdict_")
    return round(value, 4) if isinstance(value, float) else value


# ======================================================================================================= main

EXIT_OF = {"pass": EXIT_PASS, "fail": EXIT_FAIL, "inconclusive": EXIT_INCONCLUSIVE}


def parse_command_line(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; a wrong one ends the program with status 2 and one sentence."""
    p = argparse.ArgumentParser(
        prog="analyze_stress_test.py", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Judges a recorded stress test and writes its report: markdown, with charts beside it.",
        epilog="examples:\n"
        "  python3 tests/analyze_stress_test.py tests/results/memory_leak_stress_test_20251209_233015.jsonl\n"
        "  python3 tests/analyze_stress_test.py AFTER.jsonl --baseline BEFORE.jsonl --lang zh-CN\n"
        "  python3 tests/analyze_stress_test.py RUN.jsonl --json | jq .verdict\n"
        "  python3 tests/analyze_stress_test.py system_resources_20251209_233015.csv      resources alone\n\n"
        "exit status: 0 all criteria passed, 1 one failed, 2 wrong command line or unreadable input, 3 inconclusive")
    p.add_argument("run", type=Path, metavar="RUN.jsonl", help="results of a run (or the CSV of its resources, alone)")
    p.add_argument("--resources", type=Path, nargs="+", metavar="CSV",
                   help="default: the CSV of the same time beside the results")
    p.add_argument("--baseline", type=Path, metavar="BEFORE.jsonl", help="an earlier run to compare with")
    p.add_argument("--lang", choices=LANGUAGES, default="en", help="language of the report (default en)")
    p.add_argument("--output", type=Path, metavar="PATH",
                   help="the report; default: the run's name ending in .md, beside it")
    p.add_argument("--no-charts", action="store_true", help="write no pictures")
    p.add_argument("--json", action="store_true",
                   help="print the summary as JSON and nothing else; a report only with --output")
    p.add_argument("--version", action="version", version=VERSION)
    return p.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = parse_command_line(argv)
    gc.disable()  # the largest run is read once and holds no cycles: looking for them takes a fifth of the time
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show must not end the program
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        judged = judge(read_run(args.run, args.resources))
        before = judge(read_run(args.baseline, None)) if args.baseline else None
        return write_out(args, judged, before, Words(args.lang))
    except Unreadable as error:
        print(plain(str(error), 3 * MOST_WORDS), file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has left; nothing is wrong with the run
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OF[judged.verdict]
    except Exception:  # Python's own status for it, 1, would say that the service failed a criterion
        traceback.print_exc()
        print("This is a fault of this tool and says nothing of the service: please report the lines above.",
              file=sys.stderr)
        return EXIT_INCONCLUSIVE


def write_out(args: argparse.Namespace, judged: Judged, before: Judged | None, say: Words) -> int:
    """Report, charts, summary; returns the exit status."""
    path: Path = args.output or args.run.with_suffix(".md")
    if args.output or not args.json:
        try:
            charts, notes = ({}, [Note("chart_off")]) if args.no_charts else write_charts(
                judged, path.parent, path.stem, say)
            path.write_text(report(judged, before, charts, notes, say), encoding="utf-8")
        except OSError as error:
            raise Unreadable(f"The report cannot be written to {path} ({error.strerror or error}); "
                             "name another with --output.") from None
    if args.json:
        content = summary(judged, say) | ({"comparison": comparison(before, judged, say)} if before else {})
        print(json.dumps(content, ensure_ascii=True, indent=2, allow_nan=False))
    else:
        print_summary(judged, before, say, path)
    sys.stdout.flush()
    return EXIT_OF[judged.verdict]


if __name__ == "__main__":
    status = main()
    gc.freeze()  # else Python looks through a million objects for cycles before it ends
    sys.exit(status)

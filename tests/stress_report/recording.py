"""A recorded run from its files: lines of results checked and counted, samples of a CSV, what could not be read."""

from __future__ import annotations

import bisect
import contextlib
import csv
import dataclasses
import functools
import gc
import itertools
import json
import math
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any, get_args, get_origin, get_type_hints

from memory_leak_stress_test import (
    CSV_COLUMNS,
    DOUBLE,
    GAP_S,
    GPU_CSV_COLUMNS,
    MOST_TASKS,
    NOT_THE_SERVICES,
    SCHEMA,
    ProcessMemory,
    Settings,
    TaskResult,
    working_role,
)
from stress_report.findings import Note, median, plain
from stress_report.foreign import as_rows, is_foreign
from stress_report.legacy import (
    deaths_of_processes,
    forget_unmeasured,
    from_old_tool,
    from_schema_1,
    is_old,
    number_batches,
)

# Fields that schema 2 did not have from the beginning: without them a line is as whole.
LATER = ("machine", "holdings", "gpu", "load_host", "load_hosts", "used_cpu_s")
STATUSES = ("success", "failed", "timeout")
PHASES = ("leak", "concurrency", "loaded")
SANE = 1e9  # MB, seconds, percent: anything beyond is a broken line, not a measurement
MOST_COUNT = 2**64
CYCLES = ("leak", "loaded")  # phases that count cycles
# What is known of a batch only when memory is at rest after it.
OF_A_BATCH = ("worker_rss_after_mb", "worker_rss_delta_mb", "worker_rss_peak_mb", "settled", "sample_gap_s", "memory",
              "busiest_other", "deaths", "level", "machine")
WORKER_SIZES = ("worker_rss_before_mb", "worker_rss_after_mb", "worker_rss_peak_mb")
ROLE_SIZES = ("before_mb", "after_mb", "peak_mb", "private_before_mb", "private_after_mb")
OF_MACHINE = ("total_mb", "used_mb", "watched_mb", "others_mb", "shared_mb", "kernel_mb")
OF_HOLDINGS = ("threads", "files", "sockets", "files_limit")
CLOCK_JUMP_S = 2.0  # wall clock against monotonic clock between two samples
SAME_RUN_S = 60.0  # a CSV that lies further from every task belongs to another run
EPOCH = datetime(1970, 1, 1)
DATED_S = 365 * 86400.0  # a recording without dates (psrecord's) is read as if it had begun at the EPOCH
JSON = json.JSONDecoder(parse_constant=lambda word: None)  # NaN and Infinity are no measurements
SHORT_LINE = 500  # characters: the head of a recording is shorter
LONGEST_HOLE_S = 3600.0  # a later elapsed time counts only if the wall clock agrees: one garbled digit is no hole
NUMBERED_ID = re.compile(r"_c\d+_(\d{4,8})$")  # the running number, from which a lost line shows


class Unreadable(Exception):
    """The input cannot be judged, and why, in one sentence for a person."""

    def __init__(self, key: str, **facts: Any) -> None:
        super().__init__(key, facts)
        self.why = Note(key, facts)


class BadLine(ValueError):
    """A line of results that cannot be reckoned with, and why."""

    def __init__(self, key: str, **facts: str) -> None:
        super().__init__(key, facts)
        self.why = Note(f"skip_{key}", facts)


def is_number(value: Any, *, above: float) -> bool:
    return type(value) in (int, float) and above < value <= SANE


# What a run is judged by, and what it can have been.
SETTINGS: Mapping[str, Callable[[Any], bool]] = {
    "phase": lambda value: value in ("all", *PHASES), "no_watch": lambda value: type(value) is bool,
    "tolerance_mb": lambda value: is_number(value, above=0), "delta_limit_mb": lambda value: is_number(value, above=0),
    "min_cycles": lambda value: is_number(value, above=0), "interval": lambda value: is_number(value, above=0),
    "rtf_limit": lambda value: is_number(value, above=-1e-9),
    "step": lambda value: value == DOUBLE or is_number(value, above=0)}


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
    host: str = ""  # where more than one host was watched
    roles: Mapping[int, str] = field(default_factory=dict)  # by pid, as the monitor says

    @property
    def host_file(self) -> Path:
        """What --phase monitor recorded beside the CSV, if it did."""
        return self.path.with_name(self.path.name.replace("system_resources", "host", 1)).with_suffix(".jsonl")

    @property
    def monitored(self) -> bool:
        return self.host_file != self.path and self.path.name.startswith("system_resources") and (
            self.host_file.is_file())

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
class Gpu:
    """One GPU, or an instance of one, as its CSV saw it once a second: memory in MiB, use in percent of the time."""

    name: str
    total_mb: float | None = None
    used: array[float] = field(default_factory=lambda: array("d"))
    busy: array[float] = field(default_factory=lambda: array("d"))


@dataclass(frozen=True)
class Rss:
    """RSS at rest before and after a task, and its peak, MiB; None where it was not measured."""

    before: float | None
    after: float | None
    delta: float | None
    peak: float | None


@dataclass
class RecordedRun:
    """A recorded run: its lines, its samples, and what of them could not be read."""

    path: Path
    results: list[TaskResult] = field(default_factory=list)
    legacy: bool = False
    lines: int = 0
    skipped: Counter[Note] = field(default_factory=Counter)  # reason -> lines
    duplicates: int = 0
    missing: int = 0  # running numbers without a line
    samples: list[Samples] = field(default_factory=list)
    gpus: dict[str, Gpu] = field(default_factory=dict)  # by number; "0:1" is instance 1 of GPU 0
    notes: list[Note] = field(default_factory=list)

    def phase(self, name: str) -> list[TaskResult]:
        return [r for r in self.results if r.phase == name]

    def setting(self, name: str) -> Any:
        """The run's setting if it has the type of the default, else the default."""
        default = getattr(Settings(), name)
        default = str(default) if isinstance(default, Path) else default  # as it is recorded
        value = self.results[0].settings.get(name) if self.results else None
        if name == "step" and value == DOUBLE:
            return value
        number = isinstance(default, (int, float)) and not isinstance(default, bool)
        if number and isinstance(value, (int, float)) and not isinstance(value, bool):
            return value if 0 <= value <= SANE else default
        return value if type(value) is type(default) and not number else default

    @property
    def schema(self) -> int:
        return self.results[0].schema if self.results else SCHEMA

    @property
    def ended(self) -> bool | None:
        """Whether the run reached its end; None where the record does not say."""
        return self.results[-1].end if self.results and self.schema > 1 else None

    @functools.cached_property
    def clip_names(self) -> dict[str, str]:
        return names_of_clips(self.results)

    def asked(self, phase: str) -> bool:
        """Whether this phase was to be run."""
        return bool(self.results) and self.setting("phase") in ("all", phase)

    @property
    def cycles_asked(self) -> bool:
        """Whether a phase of cycles was to be run, by which growth is judged."""
        return self.asked("leak") or self.asked("loaded")

    @functools.cached_property
    def works(self) -> str:
        """The role that does the tasks: the workers, or the API of a synchronous service that has none."""
        return working_role(self.results)

    def rss(self, result: TaskResult) -> Rss:
        """RSS of the role that does the tasks around one of them."""
        if self.works == "worker":
            return Rss(result.worker_rss_before_mb, result.worker_rss_after_mb, result.worker_rss_delta_mb,
                       result.worker_rss_peak_mb)
        memory = result.memory.get(self.works)
        if memory is None:
            return Rss(None, None, None, None)
        known = memory.before_mb is not None and memory.after_mb is not None
        delta = (memory.after_mb or 0.0) - (memory.before_mb or 0.0) if known else None
        return Rss(memory.before_mb, memory.after_mb, delta, memory.peak_mb)

    @property
    def watched(self) -> bool:
        return not self.setting("no_watch") or any(result.memory for result in self.results)

    @property
    def odd_settings(self) -> list[str]:
        """Settings that the run cannot have had: what it is judged by is not known; recorded since schema 2."""
        if not self.results or self.schema < SCHEMA:
            return []
        settings = self.results[0].settings
        return [name for name, fits in SETTINGS.items() if not (name in settings and fits(settings[name]))]

    @property
    def empty_texts(self) -> int | None:
        """Tasks that were done without a word of text; None where no result says whether there was one."""
        reported = [r.empty_text for r in self.results if r.empty_text is not None]
        return sum(reported) if reported else None

    @property
    def textless(self) -> int:
        """Tasks that were done though the answer held no text at all: no sign of work; recorded since schema 2."""
        return sum(r.status == "success" and r.empty_text is None for r in self.results) if self.schema > 1 else 0

    @property
    def nameless(self) -> int:
        """Tasks that succeeded without an id though others have one."""
        named = Counter(r.task_id is not None for r in self.results if r.status == "success")
        return named[False] if named[True] and self.schema > 1 else 0

    @property
    def same_ids(self) -> int:
        """Submissions that the service answered with the id of another one."""
        ids = Counter(r.task_id for r in self.results if r.task_id is not None)
        return sum(count for count in ids.values() if count > 1)

    @property
    def failed_in_cycles(self) -> list[TaskResult]:
        return [r for r in self.results if r.phase in CYCLES and r.status != "success"
                and r.error_kind not in NOT_THE_SERVICES]

    def cycles_of(self, phase: str) -> str:
        """A phase of cycles as on the command line, with how many tasks were released together.

        The warm-up round, cycle 0, has as many as there are workers.
        """
        size = max((r.concurrency for r in self.phase(phase) if r.cycle), default=1)
        return f"{phase} --at-once {size}" if size > 1 else phase

    @property
    def lost(self) -> int:
        """Results that are not there, as far as it shows: a line that cannot be read also leaves its number out."""
        return max(self.missing, self.skipped.total())


def names_of_clips(results: Iterable[TaskResult]) -> dict[str, str]:
    """How each clip is shown: by its base name, with as much of its path as distinguishes it from others."""
    files = {result.clip: result.audio_file for result in results}
    same: dict[str, list[tuple[str, ...]]] = {}
    for clip, file in files.items():
        same.setdefault(file, []).append(PurePath(clip).parts)
    return {clip: file if len(same[file]) == 1 else told_apart(PurePath(clip).parts, same[file])
            for clip, file in files.items()}


def told_apart(path: tuple[str, ...], paths: Sequence[tuple[str, ...]]) -> str:
    """The shortest end of a path that no other of these paths has."""
    ends = (path[-length:] for length in range(1, len(path) + 1))
    return str(PurePath(*next((end for end in ends if sum(p[-len(end):] == end for p in paths) == 1), path)))


def read_run(path: Path, resources: Sequence[Path] | None) -> RecordedRun:
    """Read a run's JSONL and its CSVs. Raises Unreadable where there is nothing to judge."""
    run = RecordedRun(path)
    resources = resources and list({each.resolve(): each for each in resources}.values())  # two of one host are no two
    if is_recording(path):
        recorded = [read_samples(p) for p in (path, *(resources or ()))]
        run.samples = [s for s in recorded if s.rows]
        run.notes = [Note("csv_empty", {"file": s.path.name, "skipped": s.skipped}) for s in recorded if not s.rows]
        if not run.samples:
            raise Unreadable("no_samples", file=path, columns=",".join(CSV_COLUMNS))
        return run
    read_results(run)
    if not run.results:
        why = [Note("skipped_lines", {"count": n, "why": reason}) for reason, n in run.skipped.most_common(3)]
        if why:
            raise Unreadable("no_results_because", file=path, lines=run.lines, why=why)
        raise Unreadable("no_results", file=path, lines=run.lines)
    beside = path.with_name(path.name.replace("memory_leak_stress_test", "system_resources", 1)).with_suffix(".csv")
    for csv_path in resources if resources is not None else [beside]:
        if resources is None and (csv_path == path or not csv_path.is_file()):
            run.notes.append(Note("csv_missing", {"file": csv_path.name}) if run.watched else Note("not_watched"))
        else:
            add_samples(run, read_samples(csv_path))
    read_gpus(run, path.with_name(path.name.replace("memory_leak_stress_test", "gpu", 1)).with_suffix(".csv"))
    return run


def is_recording(path: Path) -> bool:
    """Whether a file holds samples alone: a CSV, or what another tool recorded, whatever its name."""
    if path.suffix.lower() == ".csv" or not path.is_file():  # what a pipe has said it does not say again
        return path.suffix.lower() == ".csv"
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return is_foreign(file.readline(SHORT_LINE))
    except OSError:
        return False  # said where it is read


def read_gpus(run: RecordedRun, path: Path) -> None:
    """Read the CSV of GPUs beside a run's results, where there is one; rows of processes are for other tools.

    Raises Unreadable.
    """
    if not path.is_file() or path == run.path:
        return
    figures, skipped = Figures(), 0
    with or_unreadable(path), path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for line in file:
            row = quoted_row(line)
            try:
                _, elapsed, gpu, name, pid, _, used, total, busy = row
                if row == list(GPU_CSV_COLUMNS) or pid:
                    continue
                known = [figures[text] if text else None for text in (elapsed, used, total, busy)]
            except ValueError:
                skipped += 1
                continue
            seen = run.gpus.setdefault(plain(gpu, 20), Gpu(plain(name, 60)))
            seen.total_mb = seen.total_mb if known[2] is None else known[2]
            seen.used.extend([] if known[1] is None else [known[1]])
            seen.busy.extend([] if known[3] is None else [known[3]])
    if skipped:
        run.notes.append(Note("gpu_csv_skipped", {"file": path.name, "skipped": skipped}))


@contextlib.contextmanager
def or_unreadable(path: Path) -> Iterator[None]:
    """A file that is there and cannot be read is said: to leave it out would leave out what it shows."""
    try:
        yield
    except OSError as error:
        raise Unreadable("cannot_read", file=path, why=str(error.strerror or error)) from None


def add_samples(run: RecordedRun, samples: Samples) -> None:
    """Keep the samples if they belong to the run, and note what is wrong with them."""
    file = samples.path.name
    walls = [w for w in (wall_seconds(r.timestamp) for r in run.results) if w is not None]
    if not samples.rows:
        run.notes.append(Note("csv_empty", {"file": file, "skipped": samples.skipped}))
        return
    # Another host may live in another time zone: whether its samples belong to the run is seen where it is joined.
    if walls and not samples.monitored and not any(samples.covers(w) for w in walls):
        run.notes.append(Note("csv_other_run", {"file": file}))
        return
    run.samples.append(samples)
    if samples.skipped:
        run.notes.append(Note("csv_skipped", {"file": file, "rows": samples.rows, "skipped": samples.skipped}))
    if len(samples.clock) > 1:
        run.notes.append(Note("csv_clock", {"file": file, "jumps": len(samples.clock) - 1}))
    missing = max(walls, default=samples.clock_end) - samples.clock_end
    if missing > SAME_RUN_S / 4 and not samples.monitored:
        run.notes.append(Note("csv_short", {"file": file, "seconds": missing}))


@contextlib.contextmanager
def no_search_for_cycles() -> Iterator[None]:
    """What is read holds no cycles, and to look for them takes a fifth of the time: neither now nor later."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def read_results(run: RecordedRun) -> None:
    """Read the JSONL line by line; a line that cannot be read is counted with its reason."""
    seen: dict[str, int] = {}
    old_ids: Counter[tuple[str, ...]] = Counter()
    torn = ""
    try:
        with run.path.open(encoding="utf-8", errors="replace") as file, no_search_for_cycles():
            for line in file:
                if not line.strip():
                    continue
                run.lines += 1
                try:
                    result = read_result(line, run, old_ids)
                except (ValueError, OverflowError, RecursionError) as error:
                    run.skipped[why_skipped(error)] += 1
                    torn = "" if line.endswith("\n") else line
                    continue
                if result.test_id not in seen:
                    seen[result.test_id] = hash(line)
                    run.results.append(result)
                elif seen[result.test_id] == hash(line):
                    run.duplicates += 1
                else:
                    run.skipped[Note("skip_id_twice")] += 1
    except OSError as error:
        raise Unreadable("cannot_read", file=run.path, why=str(error.strerror or error)) from None
    join_pending(run, seen, torn)
    if run.schema > 1:
        spread_batches(run.results)
    else:
        number_batches(run.results)
        deaths_of_processes(run.results)
    if run.legacy and forget_unmeasured(run.results):
        run.notes.append(Note("old_memory_zero"))
    if run.results and run.schema > 1 and not run.results[0].settings:
        run.notes.append(Note("settings_lost"))
    numbers = [int(found.group(1)) for test_id in seen if not run.legacy and (found := NUMBERED_ID.search(test_id))]
    if len(set(numbers)) == len(numbers) == len(seen):
        run.missing = max(numbers) - len(numbers) if numbers else 0


def why_skipped(error: Exception) -> Note:
    """Why a line cannot be read: it was found bad, or it is torn, or it is more than Python takes."""
    if isinstance(error, BadLine):
        return error.why
    return Note("skip_not_json" if isinstance(error, json.JSONDecodeError) else "skip_too_large")


def read_result(line: str, run: RecordedRun, old_ids: Counter[tuple[str, ...]]) -> TaskResult:
    """One line as a result with values that can be reckoned with, else BadLine."""
    content = json_object(line)
    is_old_line = is_old(content)
    if is_old_line:
        content = from_old_tool(content, old_ids)
    elif content.get("schema") == 1:
        content = from_schema_1(content)
    result: TaskResult = record_of(TaskResult, content, whole=content.get("schema") not in (0, 1))
    if result.schema not in ((0,) if is_old_line else (1, SCHEMA)) or (
            run.results and run.schema != result.schema):
        raise BadLine("impossible", name="schema")
    if result.phase not in PHASES or result.status not in STATUSES:
        raise BadLine("unknown")
    if result.phase in CYCLES and result.cycle is None:
        raise BadLine("missing", name="cycle")
    if result.audio_seconds is not None and result.audio_seconds <= 0:
        raise BadLine("range", name="audio_seconds")
    if not is_old_line and (name := impossible(result)):
        raise BadLine("impossible", name=name)
    counts = {"concurrency": result.concurrency - 1, "cycle": result.cycle or 0, "level_run": result.level_run or 0}
    if beyond := [name for name, n in counts.items() if not 0 <= n < MOST_TASKS]:
        raise BadLine("range", name=beyond[0])
    run.legacy = run.legacy or is_old_line
    if run.results:  # they are written where they are new, and in every line of schema 1: kept once
        last = run.results[-1]
        result.settings = last.settings if result.settings in ({}, last.settings) else result.settings
        result.host = last.host if result.host in ({}, last.host) else result.host
    return result


def impossible(result: TaskResult) -> str | None:
    """The name of a value that no run can have, though its type is right: what is wrong in one may be so in all."""
    times = {"processing_time": result.processing_time, "audio_seconds": result.audio_seconds}
    if result.schema > 1 and (result.batch is None or result.batch < 1):
        return "batch"
    if wall_seconds(result.timestamp) is None:
        return "timestamp"
    if result.status == "success":
        for name, value in times.items():
            if value is None or value <= 0:
                return name
    sizes = {name: getattr(result, name) for name in ("rtf", "sample_gap_s", *WORKER_SIZES)}
    for memory in result.memory.values():
        sizes |= {name: getattr(memory, name) for name in ROLE_SIZES if (sizes.get(name) or 1) > 0}
        odd = [name for name in ("cpu_s", "rest_cpu_percent") if (getattr(memory, name) or 0.0) < 0]
        odd += negative(memory.gpu, ("before_mb", "after_mb", "peak_mb"))
        if odd := [*odd, *filter(None, map(impossible_process, memory.processes))]:
            return odd[0]
        if memory.after_mb is not None and result.settled is None:
            return "settled"
    if odd := negative(result.machine, OF_MACHINE):
        return odd[0]
    return next((name for name, value in sizes.items() if value is not None and value <= 0), None)


def negative(record: Any, names: Iterable[str]) -> list[str]:
    """The names of sizes and counts that are below zero; none where there is no record."""
    return [name for name in names if (getattr(record, name, None) or 0) < 0]


def impossible_process(process: ProcessMemory) -> str | None:
    """The name of a value that no process can have."""
    if process.pid < 1:
        return "pid"
    if wall_seconds(process.started) is None:
        return "started"
    if odd := negative(process.holdings, OF_HOLDINGS):
        return odd[0]
    if (process.used_cpu_s or 0.0) < 0:
        return "used_cpu_s"
    held = {"peak_mb": process.peak_mb, "held_mb": process.held_mb}
    return next((name for name, mb in held.items() if mb is not None and mb <= 0), None)


def join_pending(run: RecordedRun, seen: dict[str, int], torn: str) -> None:
    """Take up the last result of a batch whose line was not written any more.

    It was safe in a file beside the results until its line was whole. `torn`: what there is of a last line without an
    end; if it is the beginning of this result's, nothing is lost.
    """
    path = run.path.with_suffix(".pending.json")
    if not path.is_file():
        return
    try:
        line = path.read_text(encoding="utf-8", errors="replace")
        result = read_result(line, run, Counter())
    except (OSError, ValueError, OverflowError, RecursionError):
        run.notes.append(Note("pending_unreadable", {"file": path.name}))
        run.skipped[Note("skip_pending")] += 1
        return
    if result.test_id in seen:
        return
    seen[result.test_id] = hash(line)
    run.results.append(result)
    run.notes.append(Note("pending_joined" if result.settled is not None or not run.watched else "pending_unsettled",
                          {"file": path.name, "task": result.test_id}))
    begin = line[: line.find(",")]  # up to the end of its test_id
    if torn and (torn.startswith(begin) or begin.startswith(torn)):
        run.skipped[Note("skip_not_json")] -= 1
        run.skipped += Counter()  # drops what counts zero
        run.lines -= 1


def spread_batches(results: Sequence[TaskResult]) -> None:
    """Give every task of a batch what is known of the batch, which is in its last line only."""
    last = {result.batch: result for result in results if result.batch is not None}
    for result in results:
        if result.batch is not None and result is not last[result.batch]:
            for name in OF_A_BATCH:
                setattr(result, name, getattr(last[result.batch], name))


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


def record_of(kind: Any, content: Mapping[str, Any], *, whole: bool = False) -> Any:
    """Build a record from JSON, checking each field's type and range; fields of a later version are left out.

    `whole`: it was written with every field of its schema, so that one which is not there was lost.
    """
    values = {}
    for name, hint, simple, required in fields_of(kind):
        if name in content:
            value = content[name]
            kind_of_value = type(value)
            if kind_of_value in (int, float) and not within(value):
                raise BadLine("range", name=name)
            values[name] = value if kind_of_value in simple else checked(name, hint, value, whole=whole)
        elif required or (whole and name not in LATER):
            raise BadLine("missing", name=name)
    return kind(**values)


def within(value: float) -> bool:
    """Whether a number can be reckoned with: a measurement, or a count that a kernel can hold (files_limit)."""
    return abs(value) <= (SANE if type(value) is float else MOST_COUNT)


@functools.cache  # working the types out takes longer than all the rest of reading a line
def fields_of(kind: Any) -> list[tuple[str, Any, frozenset[Any], bool]]:
    """Name, type, the types of values that need no look inside, and "is required" of a record's fields."""
    hints = get_type_hints(kind)
    options = {name: frozenset(get_args(h)) if type(None) in get_args(h) else {h} for name, h in hints.items()}
    return [(f.name, hints[f.name], frozenset({str, int, float, bool, type(None)}.intersection(options[f.name])),
             f.default is f.default_factory is dataclasses.MISSING) for f in dataclasses.fields(kind)]


def checked(name: str, hint: Any, value: Any, *, whole: bool = False) -> Any:
    """The value if it has the type of the hint (records, lists and dicts of them, X | None), else BadLine."""
    kind, origin, inner, optional = parts_of(hint)
    if kind is float and type(value) in (int, float):
        value = float(value)
    if kind in (int, float) and type(value) is kind and not within(value):
        raise BadLine("range", name=name)
    if kind is Any or type(value) is kind or (optional and value is None):
        return value
    if origin is list and isinstance(value, list):
        return [checked(name, inner[0], item, whole=whole) for item in value]
    if origin is dict and isinstance(value, dict):
        return value if inner[1] is Any else {
            str(k): checked(name, inner[1], v, whole=whole) for k, v in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return record_of(kind, value, whole=whole)
    raise BadLine("wrong", name=name, value=plain(repr(value), 60))


@functools.cache
def parts_of(hint: Any) -> tuple[Any, Any, tuple[Any, ...], bool]:
    """A type without its "or None", its origin and arguments, and whether None will do."""
    optional = type(None) in get_args(hint)
    kind = get_args(hint)[0] if optional else hint
    return kind, get_origin(kind), get_args(kind), optional


def read_samples(path: Path) -> Samples:
    """Read a CSV of samples; rows that cannot be read, or go back in time, are counted. Raises Unreadable.

    A million rows may pass through this one loop, so it calls nothing that most of them do not need.
    """
    samples = Samples(path)
    alive: dict[str, Process] = {}
    figures = Figures()
    last_stamp = last_elapsed = ""
    wall, elapsed, number = -math.inf, -1.0, -1  # the first sample begins a stretch, also at the EPOCH
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file, no_search_for_cycles():
            for line in as_rows(file):
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
        raise Unreadable("cannot_read", file=path, why=str(error.strerror or error)) from None
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


def run_span(run: RecordedRun) -> tuple[float, float] | None:
    """Wall-clock seconds of the run's beginning and end."""
    windows = [w for w in map(task_window, run.results) if w] or [(s.clock[0][0], s.clock_end) for s in run.samples]
    return (min(w[0] for w in windows), max(w[1] for w in windows)) if windows else None


def began_at(run: RecordedRun) -> float | None:
    """Wall-clock seconds of the run's beginning; None where it is not known, as of a recording without dates."""
    span = run_span(run)
    return span[0] if span and (run.results or span[0] > DATED_S) else None

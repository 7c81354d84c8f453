"""Hosts of the service, watched by --phase monitor, joined with a run whose load came from elsewhere.

host_<time>.jsonl has a reading of every role each second, and the CSV beside it the processes. The readings at rest
are found between the tasks, by their times, and settled as the instrument does it; so the results get the memory that
they would have had if the load had come from the host itself, and are judged by the same rules.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from memory_leak_stress_test import (
    ROLES,
    SETTLE_MB,
    SETTLE_S,
    Death,
    GrowthVerdict,
    HostStretch,
    ProcessMemory,
    RoleMemory,
    TaskResult,
)
from stress_report.findings import Note, median, plain
from stress_report.memory import (
    RoleFindings,
    RoleSeries,
    added_by_repeats,
    at_host,
    growth_rates,
    idle_in_samples,
    judge_roles,
    leak_over_ramp,
    series_of_roles,
)
from stress_report.recording import (
    EPOCH,
    SAME_RUN_S,
    SANE,
    Process,
    RecordedRun,
    Samples,
    json_object,
    or_unreadable,
    record_of,
    run_span,
    task_window,
    wall_seconds,
)

REST_READINGS = 3  # at rest: one alone is always flat
TICK_LATE_S = 0.3  # a reading may come so much late
MOST_OFFSET_S = 60.0  # clocks further apart are not compared: one of them is wrong, and it shows
OFFSET_STEP_S = 0.25
FITS_SHARE = 0.98  # of the best: an offset by which so much of the host's work falls into tasks fits as well
UNSURE_S = 5.0  # clocks that fit over a wider span than twice this are not compared
FEWEST_TASKS, LEAST_WORK_S = 3, 0.5  # to compare clocks by: tasks, CPU seconds
MOST_WINDOWS = 300  # that clocks are compared by
WORKER_RSS = ("worker_rss_before_mb", "worker_rss_after_mb", "worker_rss_peak_mb", "worker_rss_delta_mb")
SAME_START_S = 1.0  # a start that two watchers reckon from the boot time: one process of that number
NTP_ERROR_S = 1.0  # clocks that NTP keeps better than this are taken as they are


@dataclass(frozen=True)
class Clock:
    """A host's clock beside that of the load. Seconds."""

    how: str  # ntp: both are kept by it | work: by when its processes work | unknown: taken as it is
    offset_s: float  # by which it was ahead, and its times were corrected
    error_s: float | None  # of that
    zone_s: float  # between the time zones, which is no fault
    kept: bool | None  # by NTP, as its kernel says


@dataclass
class Readings:
    """What the roles of a host held. Elapsed seconds as in its CSV, MiB."""

    at: list[float] = field(default_factory=list)
    rss: dict[str, list[float | None]] = field(default_factory=dict)
    private: dict[str, list[float | None]] = field(default_factory=dict)  # empty where only a CSV is known
    gaps: list[tuple[float, float, float]] = field(default_factory=list)  # (from, to, longest gap in between)
    deaths: list[Death] = field(default_factory=list)
    processes: dict[int, tuple[str, ProcessMemory]] = field(default_factory=dict)  # pid -> role, what is known of it
    facts: Mapping[str, Any] = field(default_factory=dict)  # of the first line: host, limits, settings
    skipped: int = 0  # lines that cannot be read

    def held(self, role: str, place: int) -> float | None:
        """Private memory where it is known, else RSS."""
        private = self.private.get(role, ())
        return private[place] if place < len(private) and private[place] is not None else self.rss[role][place]


@dataclass(frozen=True)
class Rest:
    """What a host's roles held between two batches of tasks. MiB by role; elapsed seconds."""

    at: float
    rss: Mapping[str, float]
    private: Mapping[str, float]
    drift: Mapping[str, float]
    settled: bool


@dataclass(frozen=True)
class Host:
    """A host joined with a run."""

    name: str
    samples: Samples  # in the load's time
    readings: Readings
    clock: Clock
    run: RecordedRun  # the results with this host's memory


# ------------------------------------------------------------------------------------------------ what was recorded


def read_readings(samples: Samples) -> Readings:
    """The monitor's readings beside a CSV; where they are not there, or none is whole, RSS from the CSV itself.

    Raises Unreadable.
    """
    readings = Readings()
    if samples.monitored:
        with or_unreadable(samples.host_file), samples.host_file.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file):
                try:
                    if number == 0:
                        readings.facts = json_object(line)
                    else:
                        add_stretch(readings, record_of(HostStretch, json_object(line), whole=True))
                except (ValueError, OverflowError, RecursionError):
                    readings.skipped += 1
    return readings if readings.at else dataclasses.replace(
        of_csv(samples), facts=readings.facts, skipped=readings.skipped)


def add_stretch(readings: Readings, stretch: HostStretch) -> None:
    """Ten seconds more. ValueError where they cannot be reckoned with."""
    every = [*stretch.rss_mb.values(), *stretch.private_mb.values()]
    last = readings.at[-1] if readings.at else -1.0  # elapsed seconds begin with 0
    in_order = all(a < b for a, b in itertools.pairwise([last, *stretch.at]))
    sane = all(mb is None or (type(mb) in (int, float) and 0 <= mb <= SANE) for series in every for mb in series)
    if not (stretch.at and in_order and sane and stretch.at[-1] <= SANE
            and all(len(series) == len(stretch.at) for series in every)):
        raise ValueError
    for role in ROLES:
        for known, new in ((readings.rss, stretch.rss_mb), (readings.private, stretch.private_mb)):
            if role in new or role in known:
                known.setdefault(role, [None] * len(readings.at)).extend(new.get(role, [None] * len(stretch.at)))
    readings.gaps.append((last, stretch.at[-1], stretch.sample_gap_s))
    readings.at += stretch.at
    readings.deaths += stretch.deaths
    for role, memory in stretch.memory.items():
        readings.processes |= {process.pid: (role, process) for process in memory.processes}


def of_csv(samples: Samples) -> Readings:
    """RSS of the roles that are known by the names of their programs."""
    readings = Readings(list(samples.elapsed))
    for series in series_of_roles(RecordedRun(samples.path), samples):
        if series.role in ROLES:
            mb: list[float | None] = [None] * len(samples.elapsed)
            for place, rss in zip(series.at, series.rss, strict=True):
                mb[place] = rss
            readings.rss[series.role] = mb
    return readings


# ----------------------------------------------------------------------------------------------------- their clocks


def compare_clocks(run: RecordedRun, samples: Samples, readings: Readings) -> Clock:
    """How far a host's clock is ahead of the load's.

    Clocks that NTP keeps are taken as they are. Others are compared by the work: each task was worked on between its
    release and its end, so that the true offset is among those by which most of the CPU that the host's processes used
    falls into tasks. Where tasks follow each other without a pause, all offsets fit alike.
    """
    theirs, ours = clock_of(readings.facts.get("host")), clock_of(run.results[0].host)
    zone = theirs.get("utc_offset_s", 0.0) - ours.get("utc_offset_s", 0.0) if "utc_offset_s" in ours else 0.0
    kept = theirs.get("synchronised")
    if kept is True and ours.get("synchronised") is True:
        error = (theirs.get("max_error_s") or 0.0) + (ours.get("max_error_s") or 0.0)
        if error < NTP_ERROR_S:
            return Clock("ntp", 0.0, error, zone, kept)
    if fitting := offsets_that_fit(run, shifted(samples, zone)):
        error = (fitting[1] - fitting[0]) / 2 + (samples.interval or 1.0) / 2
        offset = sum(fitting) / 2
        if error <= UNSURE_S:
            return Clock("work", offset if abs(offset) > error else 0.0, error, zone, kept)
    return Clock("unknown", 0.0, None, zone, kept)


def clock_of(host: Any) -> Mapping[str, Any]:
    """What a record says of its machine's clock, as far as it has the types that it should."""
    clock = host.get("clock") if isinstance(host, dict) else None
    if not isinstance(clock, dict):
        return {}
    numbers = {name: clock[name] for name in ("utc_offset_s", "max_error_s")
               if type(clock.get(name)) in (int, float) and abs(clock[name]) <= 86400}
    return numbers | {"synchronised": clock.get("synchronised")}


def offsets_that_fit(run: RecordedRun, samples: Samples) -> tuple[float, float] | None:
    """Lowest and highest offset, seconds, that fit and lie next to each other, nearest to none; None where none shows.
    """
    working = next((s for role in ("worker", "api") for s in series_of_roles(run, samples)
                    if s.role.partition("@")[0] == role), None)
    windows = merged([(samples.at_wall(begin), samples.at_wall(end)) for begin, end in windows_of(run)])
    if working is None or len(windows) < FEWEST_TASKS:
        return None
    used = Used.by(working, samples)
    steps = round(MOST_OFFSET_S / OFFSET_STEP_S)
    offsets = [OFFSET_STEP_S * step for step in range(-steps, steps + 1)]
    windows = windows[:: math.ceil(len(windows) / MOST_WINDOWS)]
    inside = [sum(used.until(end + offset) - used.until(begin + offset) for begin, end in windows)
              for offset in offsets]
    if max(inside) < LEAST_WORK_S:
        return None
    fits = [each >= FITS_SHARE * max(inside) for each in inside]
    nearest = min((n for n, fit in enumerate(fits) if fit), key=lambda n: abs(offsets[n]))
    low = high = nearest
    while low > 0 and fits[low - 1]:
        low -= 1
    while high < len(fits) - 1 and fits[high + 1]:
        high += 1
    return offsets[low], offsets[high]


@dataclass(frozen=True)
class Used:
    """CPU seconds that a role has used, at each sample."""

    elapsed: Sequence[float]
    total: Sequence[float]

    @classmethod
    def by(cls, series: RoleSeries, samples: Samples) -> Used:
        spans = [0.0, *(b - a for a, b in itertools.pairwise(samples.elapsed))]
        used, longest = [0.0] * len(spans), 2 * (samples.interval or 1.0)
        for place, percent in zip(series.at, series.cpu, strict=True):
            used[place] = percent / 100 * min(spans[place], longest)
        return cls(samples.elapsed, list(itertools.accumulate(used)))

    def until(self, elapsed: float) -> float:
        """Up to a moment between two samples, as if it had been used evenly between them."""
        place = bisect.bisect_left(self.elapsed, elapsed)
        if place == 0:
            return 0.0
        if place == len(self.elapsed):
            return self.total[-1]
        share = (elapsed - self.elapsed[place - 1]) / (self.elapsed[place] - self.elapsed[place - 1])
        return self.total[place - 1] + share * (self.total[place] - self.total[place - 1])


def windows_of(run: RecordedRun) -> list[tuple[float, float]]:
    return [window for result in run.results if (window := task_window(result))]


def merged(windows: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Windows that overlap become one."""
    found: list[tuple[float, float]] = []
    for begin, end in sorted(windows):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def shifted(samples: Samples, seconds: float) -> Samples:
    """Samples whose wall clock was ahead by so many seconds, in the other's time."""
    return dataclasses.replace(samples, clock=[(wall - seconds, elapsed) for wall, elapsed in samples.clock],
                               clock_end=samples.clock_end - seconds)


# -------------------------------------------------------------------------------------------------- memory at rest


def rest_between(readings: Readings, events: Sequence[float], begin: float, end: float) -> Rest | None:
    """The reading at rest nearest to the middle of a pause, or the median of its second half where there is none.

    At rest: every role's memory kept within SETTLE_MB for SETTLE_S, and no process came or went (`events`). The middle,
    since the clocks may still be apart by a little. Elapsed seconds; None where the pause has no reading.
    """
    first, last = bisect.bisect_right(readings.at, begin), bisect.bisect_left(readings.at, end)
    middle = (begin + end) / 2
    flat = [(abs((readings.at[before] + readings.at[place]) / 2 - middle), before, place)
            for place in range(first, last) for before in [settled_since(readings, place)]
            if before >= first and is_flat(readings, events, before, place)]
    if flat:
        _, before, place = min(flat)
        return rest_at(readings, [place], before)
    return rest_at(readings, list(range((first + last) // 2, last)), None) if last > first else None


def settled_since(readings: Readings, place: int) -> int:
    """The reading at which memory that is at rest now must have been at rest already; -1 where there is none."""
    long_ago = bisect.bisect_right(readings.at, readings.at[place] - SETTLE_S + TICK_LATE_S) - 1
    return min(long_ago, place - REST_READINGS + 1)


def is_flat(readings: Readings, events: Sequence[float], before: int, place: int) -> bool:
    """Whether every role kept within SETTLE_MB between two readings, and no process came or went."""
    if bisect.bisect_right(events, readings.at[before]) != bisect.bisect_right(events, readings.at[place]):
        return False
    for role in readings.rss:
        held = [readings.held(role, each) for each in range(before, place + 1)]
        known = [mb for mb in held if mb is not None]
        if known and (len(known) < len(held) or max(known) - min(known) > SETTLE_MB):
            return False
    return True


def rest_at(readings: Readings, places: Sequence[int], before: int | None) -> Rest:
    """The median of some readings; `before`: where it began to be at rest, if it did."""
    rss, private = (
        {role: mb for role in series
         if (mb := median([v for n in places if (v := series[role][n]) is not None])) is not None}
        for series in (readings.rss, readings.private))
    drift = {} if before is None else {
        role: now - then for role in rss if (now := readings.held(role, places[-1])) is not None
        and (then := readings.held(role, before)) is not None}
    return Rest(readings.at[places[-1]], rss, private, drift, before is not None)


def comings_and_goings(samples: Samples) -> list[float]:
    """Elapsed seconds of the samples at which a watched process was first seen, or no more."""
    last = len(samples.elapsed) - 1
    firsts = {samples.elapsed[p.at[0]] for p in samples.processes if p.at[0] > 0}
    gone = {samples.elapsed[p.at[-1] + 1] for p in samples.processes if p.at[-1] < last}
    return sorted(firsts | gone)


# ------------------------------------------------------------------------------------------- the results with memory


def with_memory(run: RecordedRun, samples: Samples, readings: Readings) -> RecordedRun:
    """The run's results with what a host held around each batch, as if it had been watched by the load itself."""
    batches = [list(batch) for _, batch in itertools.groupby(run.results, lambda result: result.batch)]
    windows = [batch_window(batch, samples) for batch in batches]
    events, longest = comings_and_goings(samples), run.setting("settle_timeout")
    first, *others = (begin for begin, _ in windows)
    pauses = [(first - longest, first)] + [(end, min(begin, end + longest)) for (_, end), begin in zip(
        windows, [*others, math.inf], strict=True)]
    rests = [rest_between(readings, events, begin, end) for begin, end in pauses]
    results: list[TaskResult] = []
    for batch, window, (before, after) in zip(batches, windows, itertools.pairwise(rests), strict=True):
        results += batch_with_memory(batch, window, before, after, samples, readings)
    return dataclasses.replace(run, results=results, samples=[samples], notes=[])


def batch_window(batch: Sequence[TaskResult], samples: Samples) -> tuple[float, float]:
    """Elapsed seconds of a host from the release of a batch to the end of its last task."""
    windows = [window for result in batch if (window := task_window(result))]
    return samples.at_wall(min(w[0] for w in windows)), samples.at_wall(max(w[1] for w in windows))


def batch_with_memory(batch: Sequence[TaskResult], window: tuple[float, float], before: Rest | None,
                      after: Rest | None, samples: Samples, readings: Readings) -> Iterator[TaskResult]:
    begin, end = before.at if before else window[0], after.at if after else window[1]
    memory = {role: role_memory(role, before, after, begin, end, samples, readings) for role in readings.rss
              if seen_between(readings, role, begin, end)}
    gaps = [gap for since, until, gap in readings.gaps if since < end and begin < until]
    deaths = [moved(death, batch, samples) for death in readings.deaths
              if (wall := wall_seconds(death.at)) is not None and begin < samples.at_wall(wall) <= end]
    for result in batch:
        yield dataclasses.replace(
            result, memory=memory, settled=after.settled if after else None, deaths=deaths,
            sample_gap_s=max(gaps, default=None), **rss_of_worker(memory.get("worker")))


def rss_of_worker(worker: RoleMemory | None) -> dict[str, Any]:
    """The worker's RSS in the fields of its own that a result has."""
    if worker is None:
        return dict.fromkeys(WORKER_RSS)
    known = worker.before_mb is not None and worker.after_mb is not None
    delta = (worker.after_mb or 0.0) - (worker.before_mb or 0.0) if known else None
    return dict(zip(WORKER_RSS, (worker.before_mb, worker.after_mb, worker.peak_mb, delta), strict=True))


def seen_between(readings: Readings, role: str, begin: float, end: float) -> bool:
    first, last = bisect.bisect_left(readings.at, begin), bisect.bisect_right(readings.at, end)
    return any(mb is not None for mb in readings.rss[role][first:last])


def role_memory(role: str, before: Rest | None, after: Rest | None, begin: float, end: float, samples: Samples,
                readings: Readings) -> RoleMemory:
    """One role around a batch; its peak and its processes are those of the samples in between."""
    first, last = bisect.bisect_left(readings.at, begin), bisect.bisect_right(readings.at, end)
    peak = max((mb for mb in readings.rss[role][first:last] if mb is not None), default=None)
    return RoleMemory(
        before.rss.get(role) if before else None, after.rss.get(role) if after else None,
        before.private.get(role) if before else None, after.private.get(role) if after else None, peak,
        list(processes_between(role, begin, end, samples, readings)),
        drift_mb=after.drift.get(role) if after else None)


def processes_between(role: str, begin: float, end: float, samples: Samples,
                      readings: Readings) -> Iterator[ProcessMemory]:
    """The role's processes in the samples between two moments, those that ended there first.

    What each still held is its RSS: private memory of single processes is recorded every ten seconds only.
    """
    first, last = bisect.bisect_left(samples.elapsed, begin), bisect.bisect_right(samples.elapsed, end) - 1
    found = []
    for process in samples.processes:
        if process.at[0] > last or process.at[-1] < first or role_of(process, samples) != role:
            continue
        inside = slice(bisect.bisect_left(process.at, first), bisect.bisect_right(process.at, last))
        rss = process.rss[inside]
        if not rss:
            continue
        known = readings.processes.get(process.pid)
        resident = process.at[0] <= first
        started = known[1].started if known else moment(samples, samples.elapsed[process.at[0]])
        found.append(ProcessMemory(process.pid, started, process.name, max(rss), process.at[-1] < last, resident,
                                   known[1].root if known else resident, rss[-1]))
    yield from sorted(found, key=lambda process: not process.ended)


def role_of(process: Process, samples: Samples) -> str | None:
    return samples.roles.get(process.pid)


def moment(samples: Samples, elapsed: float) -> str:
    """A moment of a CSV as local ISO time."""
    wall, begun = samples.clock[0]
    return (EPOCH + timedelta(seconds=wall + elapsed - begun)).isoformat(timespec="milliseconds")


def moved(death: Death, batch: Sequence[TaskResult], samples: Samples) -> Death:
    """A death and how many tasks of the batch had not ended by then."""
    at = samples.at_wall(wall_seconds(death.at) or 0.0)
    ends = [samples.at_wall(window[1]) for result in batch if (window := task_window(result))]
    return dataclasses.replace(death, unfinished=sum(end > at for end in ends))


# --------------------------------------------------------------------------------------------------------- joining


def join_hosts(run: RecordedRun) -> tuple[RecordedRun, list[Host]]:
    """The run with the memory of the hosts that were watched beside it, all together, and each host by itself."""
    own = any(result.memory for result in run.results)
    elsewhere = [s for s in run.samples if s.monitored or (run.setting("no_watch") and not own)]
    notes, found = list(run.notes), list[Host]()
    recorded = [(samples, read_readings(samples)) for samples in elsewhere]
    names = told_apart([name_of(readings, samples) for samples, readings in recorded])
    several = len(recorded) + own > 1
    for name, (samples, readings) in zip(names, recorded, strict=True):
        roles = {pid: role for pid, (role, _) in readings.processes.items()} or by_name(samples)
        known = dataclasses.replace(samples, roles=roles)
        clock = compare_clocks(run, known, readings)
        known = dataclasses.replace(shifted(known, clock.zone_s + clock.offset_s), host=name if several else "")
        if readings.skipped:
            notes.append(Note("host_skipped", {"file": samples.host_file.name, "count": readings.skipped}))
        if is_same_machine(run, readings):
            notes.append(Note("host_own", {"file": samples.path.name}))
        elif not any(known.covers(end) for _, end in windows_of(run)):
            notes.append(Note("host_other_run", {"file": samples.path.name}))
        elif readings.rss:
            readings = in_time_of_load(readings, clock)
            begin, end = (known.at_wall(wall) for wall in run_span(run) or (0.0, 0.0))
            missing = max(known.elapsed[0] - begin, end - known.elapsed[-1])
            if missing > SAME_RUN_S / 4:
                notes.append(Note("host_short", {"file": samples.path.name, "seconds": missing}))
            found.append(Host(name, known, readings, clock, with_memory(run, known, readings)))
        else:
            notes.append(Note("host_no_roles", {"file": samples.path.name}))
    notes += unjudged_gpus(elsewhere)
    if not found:
        return dataclasses.replace(run, notes=notes), []
    others = [samples for samples in run.samples if samples not in elsewhere]
    parts = [run.results] * own + [host.run.results for host in found]
    has = [{role for result in part for role in result.memory} for part in parts]
    return dataclasses.replace(run, results=[pooled(each, has) for each in zip(*parts, strict=True)], notes=notes,
                               samples=[*others, *(host.samples for host in found)]), found


def is_same_machine(run: RecordedRun, readings: Readings) -> bool:
    """Whether a monitor watched what the run itself watched, which would count twice."""
    own = {p.pid: p.started for r in run.results for memory in r.memory.values() for p in memory.processes}
    began = [(wall_seconds(p.started), wall_seconds(own[pid])) for pid, (_, p) in readings.processes.items()
             if pid in own]
    return any(a is not None and b is not None and abs(a - b) < SAME_START_S for a, b in began)


def unjudged_gpus(recorded: Sequence[Samples]) -> list[Note]:
    """That GPUs of these hosts were recorded beside them: their CSV does not say which role holds what at rest."""
    beside = [s.path.with_name(s.path.name.replace("system_resources", "gpu", 1)) for s in recorded]
    files = [gpus.name for gpus, s in zip(beside, recorded, strict=True) if gpus != s.path and gpus.is_file()]
    return [Note("host_gpu", {"files": tuple(files)})] if files else []


def recorded_alone(run: RecordedRun) -> list[tuple[Samples, Readings | None]]:
    """The samples of a recording without tasks, with the monitor's readings where it made them."""
    recorded = [(samples, read_readings(samples) if samples.monitored else None) for samples in run.samples]
    names = told_apart([name_of(readings or Readings(), samples) for samples, readings in recorded])
    return [(dataclasses.replace(samples, host=name if len(recorded) > 1 else "", roles={
        pid: role for pid, (role, _) in (readings.processes.items() if readings else ())}), readings)
        for name, (samples, readings) in zip(names, recorded, strict=True)]


def in_time_of_load(readings: Readings, clock: Clock) -> Readings:
    """Deaths bear the host's wall-clock time."""
    ahead = timedelta(seconds=clock.zone_s + clock.offset_s)
    return dataclasses.replace(readings, deaths=[
        dataclasses.replace(death, at=(EPOCH + timedelta(seconds=wall) - ahead).isoformat(timespec="milliseconds"))
        for death in readings.deaths if (wall := wall_seconds(death.at)) is not None])


def name_of(readings: Readings, samples: Samples) -> str:
    """The host's name as it says it, else the file's."""
    host = readings.facts.get("host")
    name = host.get("name") if isinstance(host, dict) else None
    return plain(name, 40) if isinstance(name, str) and plain(name, 40) else plain(samples.path.stem, 40)


def told_apart(names: Sequence[str]) -> list[str]:
    """Names of which some may be equal, as of containers, with a number at each but the first."""
    return [f"{name}#{names[:place].count(name) + 1}" if name in names[:place] else name
            for place, name in enumerate(names)]


def by_name(samples: Samples) -> dict[int, str]:
    """Roles where only the names of programs show them."""
    return {process.pid: series.role for series in series_of_roles(RecordedRun(samples.path), samples)
            if series.role in ROLES for process in series.processes}


def pooled(same: Sequence[TaskResult], roles: Sequence[set[str]]) -> TaskResult:
    """One result with the memory of several hosts together; what is not known of one is not known of all.

    `roles`: what each host has. One that was not watched then, before its recording or after it, has lost no process.
    """
    if len(same) == 1:
        return same[0]
    unseen = {role for r, has in zip(same, roles, strict=True) if not r.memory and r.settled is None for role in has}
    by_role = {role: [r.memory[role] for r in same if role in r.memory] for role in ROLES if role not in unseen}
    memory = {role: added(parts) for role, parts in by_role.items() if parts}
    settled = [r.settled for r in same if r.memory]
    return dataclasses.replace(
        same[0], memory=memory, deaths=[death for r in same for death in r.deaths],
        settled=None if None in settled else all(settled), sample_gap_s=max(
            (r.sample_gap_s for r in same if r.sample_gap_s is not None), default=None),
        **rss_of_worker(memory.get("worker")))


def added(parts: Sequence[RoleMemory]) -> RoleMemory:
    """One role on several hosts; of their GPUs only those of the machine that made the load are in the record."""
    if len(parts) == 1:
        return parts[0]

    def total(name: str) -> float | None:
        values = [getattr(part, name) for part in parts]
        return None if None in values else sum(values)

    return RoleMemory(total("before_mb"), total("after_mb"), total("private_before_mb"), total("private_after_mb"),
                      total("peak_mb"), [process for part in parts for process in part.processes],
                      drift_mb=total("drift_mb"), gpu=next((part.gpu for part in parts if part.gpu), None))


def roles_of_hosts(hosts: Sequence[Host], pool: Mapping[str, RoleFindings], phase: str) -> dict[str, RoleFindings]:
    """The findings of all hosts together, then those of each host for the roles that several have."""
    each = {host.name: of_host(host, phase) for host in hosts}
    found = dict(pool)
    for role in pool:
        on = [name for name, roles in each.items() if role in roles]
        idle = [each[name][role].growth for name in on if each[name][role].growth.reason in ("no_work", "no_rest")]
        if on and len(idle) == len(on) and found[role].growth.verdict != "LEAK":  # the load's own machine may have it
            found[role] = dataclasses.replace(found[role], growth=idle[0], rates=None, pid=None, follows=None)
        if len(on) > 1:
            found |= {at_host(role, name): dataclasses.replace(each[name][role], role=at_host(role, name))
                      for name in on}
    return found


def leaks_in_ramp(run: RecordedRun, hosts: Sequence[Host]) -> dict[str, RoleFindings]:
    """The roles that leak by the repeats of a ramp without cycles, and of a role on several hosts which of them do.

    A task of level 1 goes to one of them only, so that they are told apart by what they kept of all repeats.
    """
    found: dict[str, RoleFindings] = {}
    for role in ROLES:
        if not (leak := leak_over_ramp(run, role)):
            continue
        found[role] = leak
        on = [host for host in hosts if role in host.readings.rss]
        for host in on if len(on) > 1 else ():
            own = added_by_repeats(host.run, role) / leak.growth.facts["tasks"]
            if own >= run.setting("tolerance_mb") / 2:
                growth = dataclasses.replace(leak.growth, mb_per_cycle=2 * own, facts=leak.growth.facts | {
                    "per_task": own, "slope": 2 * own})
                found[at_host(role, host.name)] = dataclasses.replace(
                    leak, role=at_host(role, host.name), growth=growth, rates=growth_rates(2 * own, 2, None))
    return found


def of_host(host: Host, phase: str) -> dict[str, RoleFindings]:
    """What a host's own readings say of the roles that it has."""
    tasks = [result for result in host.run.phase(phase) if result.cycle]
    roles = {role: v for role, v in judge_roles(host.run, None, phase).items() if role in host.readings.rss}
    for role, v in roles.items():
        if v.growth.reason == "not_measured":
            roles[role] = dataclasses.replace(v, growth=GrowthVerdict("NOT MEASURED", "no_rest", {}, None, None, 0))
        elif role != "redis" and v.growth.verdict != "LEAK" and (idle := idle_in_samples(host.run, role, tasks)):
            growth = GrowthVerdict("NOT MEASURED", "no_work", idle, None, None, 0)
            roles[role] = dataclasses.replace(v, growth=growth, rates=None, pid=None, follows=None)
    return roles

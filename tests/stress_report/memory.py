"""What the record says of memory: the leak verdict of each role, who did the work, the samples by role."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import statistics
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memory_leak_stress_test import (
    GAP_S,
    IDENTICAL,
    REPEAT,
    ROLES,
    SETTLE_MB,
    SETTLE_S,
    TOLERANCE_MB,
    WINDOW,
    WORK_FACTOR,
    GrowthVerdict,
    HorseSeries,
    RoleMemory,
    RoleVerdict,
    TaskResult,
    judge_leak,
    readings_of,
)
from stress_report.findings import median
from stress_report.recording import SAME_RUN_S, Process, RecordedRun, Samples, names_of_clips, task_window, wall_seconds

CACHED_SHARE = 0.3  # of the usual time: a repeat that is so much faster was not recognised again
BY_THE_CLOCK = 0.7  # of the growth per cycle, at the rate seen at rest: tasks have little to do with it
TASK_CPU_S = 0.002  # an API takes 2 to 40 ms for each task
FOLLOWS_SHARE = 0.8  # one clip with four fifths of the growth is the one to look at
RAMP_REPEATS = 3  # of levels of a ramp: level 1 runs three times, and the highest stable one
RAMP_LEVEL = 3  # that must have been repeated: four workers that load 300 MB each at random were else accused in 5 %
MUCH_BIGGER_MB = 100.0  # an unrecorded process this much above the recorded one did the work


@dataclass(frozen=True)
class HorseFigures:
    """Work-horses of one clip over the leak phase: what each peaked at and still held when its job ended. MiB."""

    clip: str  # as it is shown
    jobs: int
    peak_median_mb: float | None
    peak_max_mb: float | None
    held_median_mb: float | None
    held_max_mb: float | None
    growth: GrowthVerdict


@dataclass(frozen=True)
class Rates:
    """One rate of growth, MB, in every unit that a reader may need."""

    per_cycle: float
    per_task: float
    per_hour: float | None  # of this load; null where the time of a cycle is not known
    cycles_per_gb: int | None  # null where memory does not grow
    hours_per_gb: float | None
    idle_share: float | None  # of the growth, at the rate seen while no task ran: 1 is a clock's, 0 the tasks'


@dataclass(frozen=True)
class RoleFindings:
    """The leak verdict of one role, and what a report shows beside it. MiB."""

    role: str
    growth: GrowthVerdict
    first_use_growth_mb: float | None
    peak_mb: float | None  # highest RSS
    breaks: list[tuple[int, str]]  # (cycle, kind) of what cut the series of readings
    follows: str | None  # the clip that the growth follows; "both"; None where there is no growth
    horses: list[HorseFigures]  # empty where jobs run in the worker itself
    rates: Rates | None = None  # None where no slope is known
    pid: int | None = None  # the process that grew most, where the role grew


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


def longest_gap(run: RecordedRun, tasks: Sequence[TaskResult]) -> float | None:
    """Longest time that these tasks' processes went unwatched, as the CSV shows; None where it is not known at all.

    What the results say of it counts too.
    """
    windows = [w for w in map(task_window, tasks) if w]
    reported = all(r.sample_gap_s is not None for r in tasks)
    if not windows or not (reported or run.samples):
        return None
    begin, end = min(w[0] for w in windows), max(w[1] for w in windows)
    holes = [(s, hole) for s in run.samples  # a monitor samples as often as it was told to, not as the run was
             for hole in s.holes((s.roles and s.interval) or run.setting("interval"))]
    gaps = [length for s, (at, length) in holes if s.at_wall(begin) < at + length and at < s.at_wall(end)]
    # A CSV that begins late or was cut off has a hole, too, which the record alone can fill.
    unseen = [max(s.elapsed[0] - s.at_wall(begin), s.at_wall(end) - s.elapsed[-1]) for s in run.samples]
    return max([*gaps, 0.0 if reported or run.legacy else min(unseen) - SAME_RUN_S / 4])


def judge_roles(run: RecordedRun, evidence: Evidence | None, phase: str = "leak") -> dict[str, RoleFindings]:
    """Leak verdict of every watched role in a phase of cycles; an old record never says NO LEAK."""
    leak = run.phase(phase)
    if not leak:
        return {}
    gap_s = longest_gap(run, [r for r in leak if r.cycle])
    verdicts = judge_leak(leak, phase=phase, tolerance_mb=run.setting("tolerance_mb"),
                          min_cycles=run.setting("min_cycles"), sampler_gap_s=gap_s)
    roles = {role: describe_role(verdict, leak, run.clip_names) for role, verdict in verdicts.items()}
    if phase == "loaded":  # what came before it was use already, and one clip is all there is
        roles = {role: dataclasses.replace(v, first_use_growth_mb=None, follows=None) for role, v in roles.items()}
    if gap_s is None and not run.legacy:
        roles = {role: dataclasses.replace(v, growth=undecided(v.growth, "gap_unknown")) for role, v in roles.items()}
    for role in roles if run.schema == 1 else ():
        if role != "redis" and roles[role].growth.verdict != "LEAK" and (idle := idle_in_samples(run, role, leak)):
            growth = GrowthVerdict("NOT MEASURED", "no_work", idle, None, None, 0)
            roles[role] = dataclasses.replace(roles[role], growth=growth, rates=None, pid=None, follows=None)
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


def idle_in_samples(run: RecordedRun, role: str, tasks: Sequence[TaskResult]) -> dict[str, Any] | None:
    """Facts of a role that used no more CPU while these tasks ran than between, if only the CSV shows it; else None.

    Not of one that forks for most tasks: its children come and go between samples. Pauses beside a task that failed do
    not count: how long the service was at work on it is not known.
    """
    memories = [r.memory[role] for r in tasks if role in r.memory]
    forked = sum(not all(p.resident or p.root for p in memory.processes) for memory in memories)
    windows = [w for r in tasks if r.status == "success" and (w := task_window(r))]
    if not run.samples or len(windows) < WINDOW or 2 * forked > len(memories):
        return None
    samples, pids = run.samples[0], {p.pid for memory in memories for p in memory.processes}
    used = [0.0] * len(samples.elapsed)
    for process in (p for p in samples.processes if p.pid in pids):
        for place, percent in zip(process.at, process.cpu, strict=True):
            used[place] += percent / 100
    ran, pauses = [(samples.at_wall(begin), samples.at_wall(end)) for begin, end in windows], pauses_of(tasks, samples)
    seconds, cpu_s = {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}
    for place, (before, now) in enumerate(itertools.pairwise(samples.elapsed), 1):
        busy = any(begin < now and before < end for begin, end in ran)
        if not busy and not any(begin < now and before < end for begin, end in pauses):
            continue
        seconds[busy] += now - before
        cpu_s[busy] += used[place] * (now - before)
    if not seconds[True] or not seconds[False]:
        return None
    at_rest = cpu_s[False] / seconds[False] * seconds[True]
    works = cpu_s[True] > WORK_FACTOR * at_rest or cpu_s[True] - at_rest >= TASK_CPU_S * len(tasks)
    return None if works else {"tasks": len(tasks), "worked": 0, "pid": None, "name": None}


def pauses_of(tasks: Sequence[TaskResult], samples: Samples) -> list[tuple[float, float]]:
    """Elapsed seconds between batches one after the other of which every task succeeded."""
    pauses, since = list[tuple[float, float]](), None
    for _, group in itertools.groupby(tasks, key=lambda result: result.batch):
        batch = list(group)
        windows = [w for r in batch if r.status == "success" and (w := task_window(r))]
        whole = len(windows) == len(batch)
        if whole and since is not None:
            pauses.append((since, samples.at_wall(min(begin for begin, _ in windows))))
        since = samples.at_wall(max(end for _, end in windows)) if whole else None
    return pauses


def describe_role(
    verdict: RoleVerdict, results: Sequence[TaskResult], names: Mapping[str, str] | None = None
) -> RoleFindings:
    """What the results of the leak phase say of a role beside its verdict; clips by the names they are shown by."""
    names = names or names_of_clips(results)
    peaks = [mb for r in results if (mb := peak_of(verdict.role, r)) is not None]
    follows = followed(verdict, results)
    growth = dataclasses.replace(verdict.growth, facts={
        name: names.get(fact, fact) if name == "clip" else fact for name, fact in verdict.growth.facts.items()})
    return RoleFindings(verdict.role, growth, first_use_growth(verdict.role, results), max(peaks, default=None),
                        verdict.breaks, names.get(follows, follows) if follows else None,
                        [figures_of(series, names[series.clip]) for series in verdict.horses],
                        rates_of(verdict, results), grown_most(verdict, results))


def peak_of(role: str, result: TaskResult) -> float | None:
    """Highest RSS of a role while a batch ran, or of "worker GPU" its highest memory on GPUs, MB."""
    memory = result.memory.get(role.removesuffix(" GPU"))
    if not role.endswith(" GPU"):
        return memory.peak_mb if memory else None
    return memory.gpu.peak_mb if memory and memory.gpu else None


def rates_of(verdict: RoleVerdict, results: Sequence[TaskResult]) -> Rates | None:
    """The role's growth in every unit; growth while idle is separated from that of tasks where the record holds it."""
    if verdict.growth.mb_per_cycle is None:
        return None
    judged = [r for r in results if r.cycle]
    tasks, seconds = pace(judged)
    last = {r.batch: r.memory.get(verdict.role) for r in judged}
    idle = [(SETTLE_S, m.drift_mb) for m in last.values() if m and m.drift_mb is not None]
    return growth_rates(verdict.growth.mb_per_cycle, tasks, seconds, idle)


def pace(judged: Sequence[TaskResult]) -> tuple[int, float | None]:
    """Tasks and seconds per cycle of the judged ones; null where the times do not say."""
    ends = {r.cycle or 0: wall for r in judged if (wall := wall_seconds(r.timestamp)) is not None}  # of its last task
    took = [(b - a) / (later - cycle) for (cycle, a), (later, b) in itertools.pairwise(ends.items()) if later > cycle]
    seconds = median(took) or 0.0  # a clock that is set, as in spring and autumn, moves one of them
    return max(1, round(len(judged) / max(1, len({r.cycle for r in judged})))), seconds if seconds > 0 else None


def grown_most(verdict: RoleVerdict, results: Sequence[TaskResult]) -> int | None:
    """The pid of the process whose private memory grew most over the judged cycles; None where the role did not grow.
    """
    if (verdict.growth.mb_per_cycle or 0.0) <= 0 or not verdict.readings:
        return None
    cycles = {cycle for cycle, _ in verdict.readings}
    held: dict[int, list[float]] = {}
    for result in (r for r in results if r.cycle in cycles and verdict.role in r.memory):
        for process in result.memory[verdict.role].processes:
            if process.held_mb is not None and not process.ended:
                held.setdefault(process.pid, []).append(process.held_mb)
    grown = {pid: mb[-1] - mb[0] for pid, mb in held.items()}
    return max(grown, key=lambda pid: grown[pid], default=None)


def first_use_growth(role: str, results: Sequence[TaskResult]) -> float | None:
    """MB that the warm-up round, cycle 0, added; None where that is not in the record."""
    _, around = readings_of(role, results)
    first_use = [each for each, result in zip(around, results, strict=True) if result.cycle == 0]
    if not first_use:
        return None
    before, after = first_use[0][0], first_use[-1][1]
    return after - before if before is not None and after is not None else None


def followed(verdict: RoleVerdict, results: Sequence[TaskResult]) -> str | None:
    """The clip that the role's growth follows; "both"; None where it did not grow."""
    growth = verdict.growth
    if growth.verdict != "LEAK" and not (growth.verdict == "INCONCLUSIVE" and growth.facts.get("low", 0) > 0):
        return None
    if growth.reason in ("horses_leak", "horses_growing"):
        return most_of([(series.clip, series.growth.mb_per_cycle or 0.0) for series in verdict.horses])
    grown_in = {cycle for cycle, _ in verdict.readings[1:]}
    _, around = readings_of(verdict.role, results)
    return most_of([(result.clip, after - before) for result, (before, after) in zip(results, around, strict=True)
                    if result.cycle in grown_in and before is not None and after is not None])


def most_of(shares: Sequence[tuple[str, float]]) -> str | None:
    """The clip with most of the growth, MB by clip; "both" where no clip has; None where there is none."""
    by_clip: dict[str, float] = {}
    for clip, mb in shares:
        by_clip[clip] = by_clip.get(clip, 0.0) + mb
    total = sum(mb for mb in by_clip.values() if mb > 0)
    if total <= 0:
        return None
    clip = max(by_clip, key=lambda clip: by_clip[clip])
    return clip if by_clip[clip] >= FOLLOWS_SHARE * total else "both"


def figures_of(series: HorseSeries, clip: str) -> HorseFigures:
    """What the work-horses of one clip peaked at and held."""
    peaks = [horse.peak_mb for horse in series.horses if horse.peak_mb is not None]
    held = [horse.held_mb for horse in series.horses if horse.held_mb is not None]
    return HorseFigures(clip, len(series.horses), median(peaks), max(peaks, default=None), median(held),
                        max(held, default=None), series.growth)


def undecided(growth: GrowthVerdict, reason: str) -> GrowthVerdict:
    """The verdict where this is a reason to doubt a NO LEAK."""
    return dataclasses.replace(growth, verdict="INCONCLUSIVE", reason=reason) if growth.verdict == "NO LEAK" else growth


def seek_hidden(run: RecordedRun) -> Evidence:
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


def growth_after_ramp(run: RecordedRun, first: TaskResult) -> dict[str, float]:
    """What each role held at rest after the ramp above that after first use, MB; without roles that were replaced."""
    ramp = [r for r in run.phase("concurrency") if r.settled is not False and r.memory]
    growth = {}
    for role, last in (ramp[-1].memory if ramp else {}).items():
        before = first.memory.get(role)
        if before and roots_of(before) == roots_of(last):
            (_, held), (_, holds) = at_rest(before), at_rest(last)
            if held is not None and holds is not None:
                growth[role] = holds - held
    return growth


def growth_over_ramp(run: RecordedRun) -> tuple[str, float, float] | None:
    """(role, MB at rest before the ramp, after it) of the role that grew most; None where nothing is known.

    Before it is after the warm-up task, which loads the model, where there was one.
    """
    ramp = [r for r in run.phase("concurrency") if r.memory and r.level_run != 0]
    ends = {role: (at_rest(memory)[0], at_rest(ramp[-1].memory[role])[1]) for role, memory in (
        ramp[0].memory if ramp else {}).items() if role in ramp[-1].memory}
    grown = [(role, before, after) for role, (before, after) in ends.items()
             if before is not None and after is not None]
    return max(grown, key=lambda each: each[2] - each[1], default=None)


def repeated_levels(run: RecordedRun, role: str) -> LoadGrowth | None:
    """Growth of a role that goes on when a level of the ramp is run again."""
    last = {r.batch: r for r in run.phase("concurrency") if r.level_run and role in r.memory}
    runs = [(r.concurrency, before, after) for r in last.values()
            for before, after in [at_rest(r.memory[role])] if before is not None and after is not None]
    return growth_under_load(runs, run.setting("tolerance_mb"))


def at_rest(memory: RoleMemory) -> tuple[float | None, float | None]:
    """Readings before and after: private memory where it is known, else RSS."""
    if memory.private_after_mb is not None and memory.private_before_mb is not None:
        return memory.private_before_mb, memory.private_after_mb
    return memory.before_mb, memory.after_mb


def roots_of(memory: RoleMemory) -> set[tuple[int, str]]:
    """The processes that served a role to the end."""
    return {(p.pid, p.started) for p in memory.processes if p.root and not p.ended}


@dataclass(frozen=True)
class LoadGrowth:
    """Runs of one ramp level, one after the other, each of which left more memory behind than the one before."""

    concurrency: int
    readings: list[float]  # MB at rest: before the first of them, and after each
    smallest_mb: float  # the least that a repeat added
    mb_per_task: float  # over the repeats


def growth_under_load(
    runs: Sequence[tuple[int, float, float]], tolerance_mb: float = TOLERANCE_MB
) -> LoadGrowth | None:
    """Growth that goes on when a level of the ramp is run again: the largest, or None where there is none.

    `runs`: (concurrency, MB at rest before, and after). A level's first run may set a high-water mark; a repeat that
    adds a tolerance per two tasks again, and another that does, are no mark. Two repeats are evidence, not a verdict.
    """
    found = []
    for concurrency, group in itertools.groupby(runs, key=lambda run: run[0]):
        same = list(group)
        added = [after - before for _, before, after in same[1:]]
        if len(added) > 1 and min(added) > tolerance_mb * concurrency / 2:
            readings = [same[0][1], *(after for _, _, after in same)]
            found.append(LoadGrowth(concurrency, readings, min(added), sum(added) / len(added) / concurrency))
    return max(found, key=lambda growth: growth.mb_per_task * growth.concurrency, default=None)


def last_of_batches(run: RecordedRun, role: str) -> list[TaskResult]:
    """The last result of each run of a level, where it has the role's memory."""
    return [*{r.batch: r for r in run.phase("concurrency") if r.level_run and role in r.memory}.values()]


def repeats_of_levels(run: RecordedRun, role: str) -> list[tuple[int, float]]:
    """(concurrency, MB added at rest) of every run of a level that had been run before."""
    seen: set[int] = set()
    repeats = []
    for result in last_of_batches(run, role):
        before, after = at_rest(result.memory[role])
        if result.concurrency in seen and result.settled and before is not None and after is not None:
            repeats.append((result.concurrency, after - before))
        seen.add(result.concurrency)
    return repeats


def added_by_repeats(run: RecordedRun, role: str) -> float:
    return sum(added for _, added in repeats_of_levels(run, role))


def leak_over_ramp(run: RecordedRun, role: str) -> RoleFindings | None:
    """The role's leak as a ramp alone shows it: by its repeats, which left more memory behind.

    A high-water mark is set by a level's first run; a repeat adds to it only what its tasks keep. The repeats of each
    level must add half a tolerance per task (a cycle has two), and more than memory at rest moves by; of the highest
    level each of them, since a single task may go to a worker that does not leak. None where that is not so, or where
    a process was replaced: without cycles nothing is cleared.
    """
    last, repeats = last_of_batches(run, role), repeats_of_levels(run, role)
    roots = {frozenset(roots_of(result.memory[role])) for result in last}
    if len(roots) != 1 or not all_repeats_grew(repeats, run.setting("tolerance_mb")):
        return None
    levels = added_by_level(repeats)
    tasks = sum(size for size, _ in repeats)
    per_task, least = sum(mb for _, mb in levels) / tasks, min(mb / of_level for of_level, mb in levels)
    private = last[-1].memory[role].private_after_mb is not None
    facts = {"per_task": per_task, "least": least, "tasks": tasks, "repeats": len(repeats), "slope": 2 * per_task,
             "low": 2 * least, "measure": "private" if private else "rss"}
    growth = GrowthVerdict("LEAK", "ramp_leak", facts, 2 * per_task, None, len(repeats))
    peak = max((mb for r in last if (mb := r.memory[role].peak_mb) is not None), default=None)
    return RoleFindings(role, growth, None, peak, [], None, [], growth_rates(2 * per_task, 2, None))


def all_repeats_grew(repeats: Sequence[tuple[int, float]], tolerance_mb: float) -> bool:
    """Whether there are enough repeats of levels, (concurrency, MB added), and growth in them as a leak has it."""
    highest = max((size for size, _ in repeats), default=0)
    of_highest = [each for each in repeats if each[0] == highest]
    return len(repeats) >= RAMP_REPEATS and highest >= RAMP_LEVEL and all(
        added > max(SETTLE_MB, tolerance_mb * tasks / 2) for tasks, added in [*added_by_level(repeats), *of_highest])


def added_by_level(repeats: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """(tasks, MB added) of all repeats of each level together."""
    levels: dict[int, list[float]] = {}
    for size, added in repeats:
        levels.setdefault(size, []).append(added)
    return [(size * len(added), sum(added)) for size, added in levels.items()]


def growth_rates(
    mb_per_cycle: float, tasks: int, seconds: float | None, idle: Sequence[tuple[float, float]] = ()
) -> Rates:
    """Rates from MB, tasks and seconds per cycle; `idle`: (seconds, MB gained) of stretches without any task."""
    per_hour = 3600 * mb_per_cycle / seconds if seconds else None
    rested, gained = sum(s for s, _ in idle), sum(mb for _, mb in idle)
    grows = mb_per_cycle > 0
    return Rates(mb_per_cycle, mb_per_cycle / tasks, per_hour, int(1024 / mb_per_cycle) if grows else None,
                 1024 / per_hour if grows and per_hour else None,
                 min(1.0, max(0.0, gained / rested * seconds / mb_per_cycle)) if grows and seconds and rested else None)


@dataclass(frozen=True)
class Cached:
    """A clip that came back much faster when the same recording was sent again. Seconds."""

    clip: str  # as it is shown
    again_s: float
    usual_s: float


def cached_clips(run: RecordedRun) -> list[Cached]:
    """Clips whose repeat in the warm-up round took a fraction of what new recordings of them take."""
    found = []
    for repeat in (r for r in run.phase("leak") if r.upload == REPEAT and r.status == "success"):
        same = [r for r in run.phase("leak") if r.cycle and r.clip == repeat.clip and r.concurrency == 1
                and r.status == "success"]
        usual, again = median([r.processing_time for r in same if r.processing_time]), repeat.processing_time
        coarse = 2 * max((r.time_error or 0.0 for r in (*same, repeat)), default=0.0)
        if usual is not None and again is not None and again < CACHED_SHARE * usual and usual - again > coarse:
            found.append(Cached(run.clip_names[repeat.clip], again, usual))
    return found


def identical_clips(run: RecordedRun) -> list[str]:
    """Clips of which every upload was the same bytes, as they are shown."""
    return sorted({run.clip_names[r.clip] for r in run.results if r.upload == IDENTICAL})


@dataclass(frozen=True)
class RoleSeries:
    """All processes of a role in one CSV; RSS (MiB) and CPU (percent of a core) summed at each sample with any."""

    role: str
    processes: list[Process]
    at: Sequence[int]
    rss: Sequence[float]
    cpu: Sequence[float]


NAMES = {"rq": "worker", "rqworker": "worker", "uvicorn": "api", "gunicorn": "api", "asr-backend": "backend",
         "redis-server": "redis"}


def series_of_roles(run: RecordedRun, samples: Samples) -> list[RoleSeries]:
    """The CSV by role, or by process name where the results do not say the role; the known roles first."""
    by_pid = samples.roles or {p.pid: role for r in run.results for role, m in r.memory.items() for p in m.processes}
    by_name = dict(NAMES) | {p.name: by_pid[p.pid] for p in samples.processes if p.pid in by_pid}
    by_role: dict[str, list[Process]] = {}
    for process in samples.processes:
        role = by_pid.get(process.pid) or by_name.get(process.name, process.name)
        by_role.setdefault(role, []).append(process)
    order = sorted(by_role, key=lambda role: (ROLES.index(role) if role in ROLES else len(ROLES), role))
    return [summed(at_host(role, samples.host), by_role[role], len(samples.elapsed)) for role in order]


def at_host(role: str, host: str) -> str:
    """A role, and of which host, where there is more than one."""
    return f"{role}@{host}" if host else role


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

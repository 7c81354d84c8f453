"""What the record says of load: levels, their limits, the first breach, failures by kind."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from memory_leak_stress_test import (
    CONFIRM_RUNS,
    NOT_THE_SERVICES,
    SCHEMA,
    Breach,
    Busy,
    LevelRun,
    LoadHost,
    TaskResult,
    crashes_and_recycled,
    judge_level_run,
    poll_wait,
)
from stress_report.findings import MOST_WORDS, Failure, Knee, Level, Note, Ramp, median, plain
from stress_report.recording import RecordedRun

REAL_TIME = 1.0  # RTF from which a task takes longer than its recording
KNEE_SHARE = 0.95  # of the highest throughput
KNEE_LEVELS = 3  # fewest stable levels that can show one
ONLY_WAIT = 2  # max_stable beyond this many times the knee: what is above the knee only waits
NEIGHBOUR_SHARE = 0.25  # of a core, at least, that an unwatched process used to be named beside a slow service
ONE_AT_A_TIME = 1.5  # effective parallelism below it is nearer to one task at a time than to two
FAILING_RUNS = 2  # of the level that failed: it is run once more
COARSE = 0.1  # of the turnaround: polls that err by more say so
SLOW_POLLS = 2.0  # a timing error of so many planned waits is not the plan's, but the answers'
SLOW_POLLS_S = 0.3
LOAD_LIMITS = ("lost", "late", "overloaded")
CLOCK_OFF_MS = 50.0  # a load machine's wall clock that is further off is said
CONFIDENCE = 0.05  # no failure in n tasks bounds the failure rate by 1 - 0.05^(1/n), with 95 % confidence
LevelRuns = Sequence[tuple[LevelRun, list[TaskResult]]]


def judge_ramp(run: RecordedRun) -> Ramp:
    """Levels, their limits and the first breach (turnaround from the common release)."""
    judged = judged_runs(run)
    by_level: dict[int, list[tuple[LevelRun, list[TaskResult]]]] = {}
    for level_run, results in judged:
        by_level.setdefault(level_run.concurrency, []).append((level_run, results))
    levels = [judge_level(size, runs) for size, runs in sorted(by_level.items())]
    good = stable_levels(levels, run.setting("step") if run.lost else None)
    max_stable = highest_stable(levels, good)
    tasks = good[-1].succeeded if good else 0
    slow = slow_page(judged)
    return Ramp(levels, max_stable, highest_in_real_time(levels, good, max_stable),
                find_knee(levels, by_level) if slow is None else Knee(None, "slow_polls"),
                effective_parallelism(levels) if slow is None else None, stop_reason(run, judged),
                first_breach(judged), failure_bound(tasks), tasks, run.legacy or is_confirmed(levels, good, by_level),
                poll_error(judged), slow, load_notes([r for _, results in judged for r in results]))


def judged_runs(run: RecordedRun) -> LevelRuns:
    """Each run of each level, judged, in the order of the record; without warm-up tasks."""
    groups: dict[tuple[int, int], list[TaskResult]] = {}
    for result in run.phase("concurrency"):
        number = 1 if result.level_run is None else result.level_run
        if number:  # 0 is the warm-up task
            groups.setdefault((result.concurrency, number), []).append(result)
    recycled = {death.role for death in crashes_and_recycled(run.results)[1]}
    judged = [(judge_level_run(results, run.setting("rtf_limit"), recycled), results) for results in groups.values()]
    return [(level_run if run.schema < SCHEMA or any(r.level for r in results) else without_facts(level_run), results)
            for level_run, results in judged]


def without_facts(level_run: LevelRun) -> LevelRun:
    """A run of which nothing says whether the tool was the limit: what was lost with it is not known."""
    return dataclasses.replace(level_run, complete=False, stable=False)


def is_confirmed(levels: Sequence[Level], good: Sequence[Level], by_level: Mapping[int, LevelRuns]) -> bool:
    """Whether the answer has the runs that the rules ask for: a record that was cut off reads better than it is."""

    def runs(size: int) -> int:
        return sum(not level_run.client_limited and not level_run.interrupted for level_run, _ in by_level[size])

    if any(sorted(number.run for number, _ in by_level[level.concurrency])
           != list(range(1, len(by_level[level.concurrency]) + 1)) for level in levels):
        return False  # a run is not there
    failing = [level for level in levels if not level.stable and not level.client_limited and not level.interrupted]
    above = [level.concurrency for level in failing if not good or level.concurrency > good[-1].concurrency]
    if above and runs(above[0]) < FAILING_RUNS:
        return False
    return not good or runs(good[-1].concurrency) >= CONFIRM_RUNS


def alone(judged: LevelRuns) -> list[tuple[float, float]]:
    """(turnaround, timing error) of the tasks of the lowest level, seconds."""
    lowest = min((level_run.concurrency for level_run, _ in judged), default=0)
    return [(r.processing_time, r.time_error) for level_run, results in judged if level_run.concurrency == lowest
            for r in results if r.status == "success" and r.processing_time and r.time_error is not None]


def poll_error(judged: LevelRuns) -> float | None:
    """Timing error of the polls over the turnaround, at the lowest level; None where it is not known."""
    return median([error / taken for taken, error in alone(judged)])


def slow_page(judged: LevelRuns) -> float | None:
    """Seconds that the result page takes to answer, where the polls err by much more than they are planned to.

    Tasks then seem to take as long as the page does, and what many concurrent ones take shows nothing of the workers.
    """
    over = [error - poll_wait(taken, 1) for taken, error in alone(judged)]
    planned = median([poll_wait(taken, 1) for taken, _ in alone(judged)])
    late = median(over)
    if late is None or planned is None or late < max(SLOW_POLLS_S, (SLOW_POLLS - 1) * planned):
        return None
    return late


def stable_levels(levels: Sequence[Level], step: int | str | None) -> list[Level]:
    """The levels from the lowest up to the first that is not stable.

    `step`: where results were lost, the step between levels; a wider one may hide a level that failed.
    """
    good: list[Level] = []
    for level in levels:
        last = good[-1].concurrency if good else level.concurrency
        hidden = step is not None and level.concurrency > (2 * last if isinstance(step, str) else last + step)
        if not level.stable or level.client_limited or level.below_reserve or hidden:
            break
        good.append(level)
    return good


def highest_stable(levels: Sequence[Level], good: Sequence[Level]) -> int | None:
    """0 where even one task at a time is not stable; None where that is not known."""
    if good:
        return good[-1].concurrency
    first = levels[0] if levels else None
    tried = first and first.concurrency == 1 and first.complete and not (
        first.client_limited or first.interrupted or first.stable)  # stable, but with less memory free than the reserve
    return 0 if tried else None


def highest_in_real_time(levels: Sequence[Level], good: Sequence[Level], max_stable: int | None) -> int | None:
    """The highest stable level up to which every RTF is under 1.0; 0 where that is none, None where it is not known."""
    highest = 0
    for level in good:
        if level.rtf_known < level.succeeded or level.rtf_max is None or level.rtf_max >= REAL_TIME:
            break
        highest = level.concurrency
    if highest or max_stable is None:
        return highest or None
    lowest = levels[0]
    if lowest.concurrency > 1:
        return None  # lower levels were not tested
    if max_stable and (lowest.rtf_max or 0.0) < REAL_TIME:
        return None  # the RTF of the lowest is not known
    return 0


def speeds_of(levels: Sequence[Level]) -> dict[int, float]:
    """Throughput by level. A level that failed did not do all its work, one that the tool limited did not get it."""
    return {level.concurrency: level.audio_seconds_per_second for level in levels
            if level.audio_seconds_per_second and level.stable and not level.client_limited}


def find_knee(levels: Sequence[Level], by_level: Mapping[int, LevelRuns]) -> Knee:
    """The smallest level within 5 % of the highest throughput.

    Two points always look like a rise or a plateau: it takes more. What may be noise is no rise: a level's best run,
    less its timing error, is held against the plateau, in which a lone run far above its neighbours is no peak. Where
    such a run makes a great difference, none can be trusted.
    """
    speeds = speeds_of(levels)
    if len(speeds) < KNEE_LEVELS:
        return Knee(None, "too_few_levels")
    plateau = highest_but_outliers([(x, len(by_level[n])) for n, x in sorted(speeds.items())])
    best = {n: max(x, *(throughput(results, corrected=True) or 0.0 for _, results in by_level[n]))
            for n, x in speeds.items()}
    level = min(n for n in speeds if best[n] >= KNEE_SHARE * plateau)
    highest = max(plateau, *speeds.values())
    return Knee(level, "found") if ONE_AT_A_TIME * speeds[level] >= highest else Knee(None, "runs_differ")


def effective_parallelism(levels: Sequence[Level]) -> float | None:
    """Highest throughput over that of one task; None where level 1 has none."""
    speeds = speeds_of(levels)
    return max(speeds.values()) / speeds[1] if 1 in speeds else None


def work_together(ramp: Ramp) -> str:
    """Whether "stable" tasks were done at the same time, which no queue shows: it takes them all and lets them wait.

    none: at most one is stable; slow_page: the result page hides it; unknown; not: nearly one after another; waits:
    beyond the knee they only wait; yes.
    """
    if ramp.slow_page_s is not None:
        return "slow_page"
    if (ramp.max_stable or 0) < 2:
        return "none"
    if ramp.effective_parallelism is None:
        return "unknown"
    if ramp.effective_parallelism < ONE_AT_A_TIME:
        return "not"
    return "waits" if ramp.knee.level and (ramp.max_stable or 0) > ONLY_WAIT * ramp.knee.level else "yes"


def first_breach(judged: LevelRuns) -> Breach | None:
    """What broke first in a run in which the tool itself was not the limit."""
    return next((level_run.breach for level_run, _ in judged if level_run.breach and not level_run.client_limited),
                None)


def busy_neighbour(results: Iterable[TaskResult]) -> tuple[Busy, float] | None:
    """The unwatched process that used most CPU in a batch of these, and how much of a core; None where none used much.
    """
    batches = [list(batch) for _, batch in itertools.groupby(results, key=lambda r: r.batch)]
    longest = [(batch[-1].busiest_other, max(r.processing_time or 0.0 for r in batch)) for batch in batches]
    shares = [(busy, busy.cpu_s / seconds) for busy, seconds in longest if busy and seconds]
    return max((each for each in shares if each[1] >= NEIGHBOUR_SHARE), key=lambda each: each[1], default=None)


def failure_bound(tasks: int) -> float | None:
    """Upper bound of a task's failure rate where none of so many failed, at 95 % confidence."""
    return 1 - CONFIDENCE ** (1 / tasks) if tasks else None


def highest_but_outliers(speeds: Sequence[tuple[float, int]]) -> float:
    """Highest of (throughput, runs) by level. A single run far above the levels beside it is no peak."""
    values = [x for x, _ in speeds]
    for place, (x, runs) in enumerate(speeds[1:-1], start=1):
        values[place] = statistics.median((speeds[place - 1][0], x, speeds[place + 1][0])) if runs == 1 else x
    return max(values, default=0.0)


def judge_level(size: int, judged: LevelRuns) -> Level:
    """All runs of one level as one. A run that was only interrupted says nothing where there is another."""
    judged = [(level_run, results) for level_run, results in judged if not level_run.interrupted] or judged
    limited = all(level_run.client_limited for level_run, _ in judged)
    free = [(level_run, results) for level_run, results in judged if limited or not level_run.client_limited]
    done = [r for _, results in free for r in results if r.status == "success"]
    rtfs = [r.rtf for r in done if r.rtf is not None]
    times = [r.processing_time for r in done if r.processing_time is not None]
    stable = [level_run.stable for level_run, _ in free]
    peaks = [mb for _, results in judged for r in results if (mb := peak_of(r)) is not None]
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
        interrupted=any(level_run.interrupted for level_run, _ in judged),
        rtf_known=sum(r.rtf is not None for _, results in judged for r in results if r.status == "success"),
        below_reserve=any(level_run.below_reserve for level_run, _ in judged),
    )


def peak_of(result: TaskResult) -> float | None:
    """Peak RSS of the workers, or of the API where it does the tasks, MiB."""
    memory = result.memory.get("api")
    return result.worker_rss_peak_mb if memory is None or "worker" in result.memory else memory.peak_mb


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


def load_notes(results: Sequence[TaskResult]) -> list[Note]:
    """Which machines made the load, and which of them were the limit of a level run."""
    runs = {(r.concurrency, r.level_run): r.level.load_hosts for r in results if r.level and r.level.load_hosts}
    hosts = [host for of_run in runs.values() for host in of_run]
    if not hosts:
        return []
    machines = Counter(map(machine_of, {host.name for host in hosts}))
    errors = [host.clock_error_ms for host in hosts if host.clock_error_ms is not None and host.limit is None]
    notes = [Note("load_hosts", {
        "tasks": sum(host.tasks for host in hosts), "count": machines.total(), "machines": len(machines),
        "names": tuple(f"{plain(name)} ×{count}" for name, count in sorted(machines.items())),
        "error": max(errors, default=0.0)})]
    notes += [note for limit in LOAD_LIMITS if (note := limited_by(limit, runs))]
    offsets = {machine_of(host.name): host.clock_offset_ms for host in hosts if host.clock_offset_ms is not None}
    return notes + [Note("load_clock", {"name": plain(name), "offset": ms / 1000})
                    for name, ms in sorted(offsets.items()) if abs(ms) > CLOCK_OFF_MS]


def limited_by(limit: str, runs: Mapping[tuple[int, int | None], Sequence[LoadHost]]) -> Note | None:
    """Which load processes were so limited, and in which runs of which levels; None where none was."""
    names = {host.name for of_run in runs.values() for host in of_run if host.limit == limit}
    spoilt = [size for (size, _), of_run in runs.items() if any(host.limit == limit for host in of_run)]
    return Note(f"load_{limit}", {
        "count": len(names), "names": tuple(by_machine(names)), "levels": tuple(dict.fromkeys(map(str, spoilt))),
        "runs": len(spoilt)}) if names else None


def by_machine(names: Iterable[str]) -> list[str]:
    """Load processes by their machines, with how many they are of each."""
    groups = [(machine, list(them)) for machine, them in itertools.groupby(sorted(names, key=machine_of), machine_of)]
    return [plain(them[0]) if len(them) == 1 else f"{plain(machine)} ×{len(them)}" for machine, them in groups]


def machine_of(name: str) -> str:
    """The machine of a process that makes load: its name without the number behind it."""
    return name.rpartition("#")[0] or name


STOPS = ("failure", "worker_died", "rtf_limit", "memory_reserve", "max_concurrency", "client_limited", "interrupted")


def stop_reason(run: RecordedRun, judged: LevelRuns) -> str | None:
    """Why the ramp ended: as recorded, else what its last level shows; a file that just ends was interrupted."""
    recorded = [r.level.stop_reason for r in run.phase("concurrency") if r.level]
    if found := [reason for reason in recorded if reason in STOPS]:
        return found[-1]
    if not judged:
        return None
    last, results = judged[-1]
    if any(r.error_kind in NOT_THE_SERVICES for r in results):
        return "interrupted"
    if last.breach and last.breach.what in ("worker_died", "process_died", "memory_reserve", "rtf_limit"):
        return last.breach.what.replace("process", "worker")
    if last.breach and last.breach.what != "incomplete":
        return "failure"
    return None if run.legacy else "interrupted"


def failure_kinds(results: Iterable[TaskResult]) -> list[tuple[str, int, list[Failure]]]:
    """Kinds of failure with their counts and their two most frequent failures, the most frequent kind first."""
    kinds: dict[str, Counter[str]] = {}
    failures: dict[str, Failure] = {}  # by what is the same in equal ones
    for r in results:
        if r.status != "success":
            kind = r.error_kind or r.status
            failure = Failure(kind, plain(r.error, MOST_WORDS) if r.error else None, r.error_facts)
            failures.setdefault(str(failure), failure)
            kinds.setdefault(kind, Counter())[str(failure)] += 1
    most = sorted(kinds.items(), key=lambda item: -item[1].total())
    return [(kind, seen.total(), [failures[key] for key, _ in seen.most_common(2)]) for kind, seen in most]

"""Growth per hour of a recording without tasks: what a night of samples says alone, with less certainty than a test.

Nothing in such a recording says when memory was at rest, so it is cut into blocks, and of each the lowest level that
was held for a moment is taken: what a service holds between its tasks, or the least it needs while it works. The
growth rule judges the levels like the readings of cycles.
"""

from __future__ import annotations

import bisect
import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from memory_leak_stress_test import GrowthVerdict, judge_growth
from stress_report.findings import Note
from stress_report.hosts import Readings
from stress_report.memory import RoleSeries
from stress_report.recording import Samples

TOLERANCE_MB_PER_DAY = 200.0  # what a test allows in all, in a day; 8.3 MB per hour
BLOCKS = 24  # enough for the growth rule; each long enough (20 min of a night) for most noise to average out
HELD = 3  # samples in a row that make a level: a dip between two processes is none
SAMPLES_PER_BLOCK = 2 * HELD
LEAST_HOURS = 1 / 6  # a first use takes minutes
CALM_HOURS = 1.0  # memory that is flat for less proves nothing of a night
RESIDENT_SHARE = 0.1  # of the recording: a process that lived for so long is no work-horse, and its end is a break
RECYCLED_SHARE = 0.01  # ... and one that lived for less than that, but for so long, was recycled: 5 min of a night
WORKING_CPU = 10.0  # percent of a core in a sample: a task; an idle worker takes 0.2
WORKED_SHARE = 0.5  # of the blocks in which a role worked, or its flat memory proves nothing
MOST_CORRELATED = 0.9  # of two neighbouring blocks: what 24 of them can still tell


@dataclass(frozen=True)
class Hourly:
    """What a recording says of one role. MB are MiB; rates per hour, None where they are not known."""

    role: str
    verdict: str  # GROWS | FLAT | INCONCLUSIVE
    reason: str
    status: str  # pass | fail | inconclusive
    mb_per_hour: float | None
    at_least: float | None  # one-sided 99 % bounds
    at_most: float | None
    hours: float  # that were judged
    worked_share: float  # of the blocks, in which the role used CPU as tasks do
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Track:
    """One role over time: seconds, MB, and the part of it that is one life of its long-lived processes."""

    role: str
    times: Sequence[float]
    mb: Sequence[float]
    measure: str  # private | rss


def judge_hours(track: Track, series: RoleSeries, samples: Samples) -> Hourly:
    """Judge the longest part of a recording in which no long-lived process of the role came or went."""
    breaks = breaks_of(series, samples)
    begin, end = longest_part(track.times, breaks)
    hours = max(0.0, end - begin) / 3600
    inside = slice(bisect.bisect_left(track.times, begin), bisect.bisect_right(track.times, end))
    times, mb = track.times[inside], track.mb[inside]
    blocks = min(BLOCKS, len(mb) // SAMPLES_PER_BLOCK)
    facts = {"role": track.role, "hours": hours, "replaced": len(breaks), "measure": track.measure,
             "tolerance": TOLERANCE_MB_PER_DAY / 24}

    def undecided(reason: str, **more: Any) -> Hourly:
        return Hourly(track.role, "INCONCLUSIVE", reason, "inconclusive", None, None, None, hours, 0.0, facts | more)

    if lives := recycled_lives(series, samples):
        return undecided("recycled", count=len(lives), life=statistics.median(lives) / 60)
    if hours < LEAST_HOURS:
        return undecided("too_short", minutes=60 * hours, least=60 * LEAST_HOURS)
    levels = [level for level in levels_of(times, mb, blocks) if level is not None]
    if blocks < BLOCKS or len(levels) < blocks:
        return undecided("too_few_samples", least=BLOCKS * SAMPLES_PER_BLOCK, samples=len(mb))
    return conclude(track.role, levels, hours, worked_share(series, samples, begin, end), facts)


def conclude(role: str, levels: Sequence[float], hours: float, worked: float, facts: dict[str, Any]) -> Hourly:
    """The growth rule on the levels of equal blocks, its bounds widened by how much neighbours resemble each other."""
    per_hour = len(levels) / hours
    tolerance = TOLERANCE_MB_PER_DAY / 24
    growth = judge_growth(levels, tolerance_mb=tolerance / per_hour)
    slope = growth.facts["slope"] * per_hour
    margin = (growth.facts["slope"] - growth.facts["low"]) * per_hour * widening(levels, growth.facts["sd"])
    low, high = slope - margin, slope + margin
    verdict, reason = verdict_of(growth, low, high, tolerance)
    facts = facts | {
        "slope": slope, "fall": -slope, "low": low, "high": high, "within": max(high, -low),
        "grown": levels[-1] - levels[0], "fall_back": growth.facts.get("fall_back"), "step": growth.facts.get("step"),
        "worked": 100 * worked, "jumps": growth.facts.get("jumps"), "size": growth.facts.get("size"),
        "hours_per_gb": 1024 / slope if slope > 0 else None,
        "enough": hours * max(2.0, margin / (tolerance - slope)) if slope < tolerance else 2 * hours}
    status = {"grew": "fail", "grew_slowly": "pass", "flat": "pass", "fell": "pass"}.get(reason, "inconclusive")
    if status == "pass" and hours < CALM_HOURS:
        facts |= {"minutes": 60 * hours, "least": 60 * CALM_HOURS}
        return Hourly(role, "INCONCLUSIVE", "too_short", "inconclusive", slope, low, high, hours, worked, facts)
    if status == "pass" and worked < WORKED_SHARE:
        status = "inconclusive"
    return Hourly(role, verdict, reason, status, slope, low, high, hours, worked, facts)


def verdict_of(growth: GrowthVerdict, low: float, high: float, tolerance: float) -> tuple[str, str]:
    """GROWS, FLAT or INCONCLUSIVE, and one word for why. MB per hour."""
    if growth.verdict == "LEAK":
        return ("GROWS", "grew") if low > 0 else ("INCONCLUSIVE", "too_noisy")
    if growth.verdict == "NO LEAK":
        if high >= tolerance:
            return "INCONCLUSIVE", "too_noisy"
        if low > 0:
            return "GROWS", "grew_slowly"
        return "FLAT", "flat" if -low < tolerance else "fell"
    return "INCONCLUSIVE", growth.reason


def levels_of(times: Sequence[float], mb: Sequence[float], blocks: int) -> list[float | None]:
    """The lowest level that was held in each of so many equal spans of time; None where too few samples lie in one."""
    begin, span = times[0], (times[-1] - times[0]) / blocks if blocks else 0.0
    edges = [bisect.bisect_left(times, begin + span * number) for number in range(blocks)] + [len(times)]
    return [lowest_held(mb[first:last]) for first, last in itertools.pairwise(edges)]


def lowest_held(mb: Sequence[float]) -> float | None:
    """The lowest of the levels that as many samples as make one stayed at or below."""
    held = [max(mb[place : place + HELD]) for place in range(len(mb) - HELD + 1)]
    return min(held, default=None)


def widening(levels: Sequence[float], sd: float) -> float:
    """By how much the error of a slope is larger than for independent levels of this sd, MB.

    The correlation r of neighbours makes it sqrt((1 + r) / (1 - r)) as large. It is estimated from the residuals of a
    line, which show (2 + 4 r) / n too little of it (Marriott and Pope 1954, Kendall 1954). Where they are smaller than
    the growth rule ever takes them to be, that allows for it already.
    """
    n = len(levels)
    middle, mean = (n - 1) / 2, sum(levels) / n
    slope = sum((x - middle) * (y - mean) for x, y in enumerate(levels)) * 12 / (n * (n * n - 1))
    residuals = [y - mean - slope * (x - middle) for x, y in enumerate(levels)]
    squares = sum(each * each for each in residuals)
    seen = sum(a * b for a, b in itertools.pairwise(residuals)) / squares if squares else 0.0
    r = min(MOST_CORRELATED, max(0.0, seen + (2 + 4 * seen) / n))
    widened = math.sqrt((1 + r) / (1 - r))
    return max(1.0, min(1.0, math.sqrt(squares / (n - 2)) / sd) * widened)


def breaks_of(series: RoleSeries, samples: Samples) -> list[float]:
    """Elapsed seconds at which a long-lived process of the role came or went, or sampling paused for a whole block."""
    elapsed = samples.elapsed
    begin, end = elapsed[0], elapsed[-1]
    found = {at for at, length in samples.gaps if length > (end - begin) / BLOCKS}
    for process in series.processes:
        born, last = elapsed[process.at[0]], elapsed[process.at[-1]]
        if last - born >= RESIDENT_SHARE * (end - begin):
            found |= {at for at in (born, last) if elapsed[series.at[0]] < at < elapsed[series.at[-1]]}
    return sorted(found)


def recycled_lives(series: RoleSeries, samples: Samples) -> list[float]:
    """Seconds that each recycled process lived, where they held most of the role's memory most of the time; else none.

    What they keep is given back with them, so that the lowest levels of the recording do not show it.
    """
    elapsed, lives, held = samples.elapsed, list[float](), defaultdict[int, float](float)
    whole = elapsed[-1] - elapsed[0]
    for process in series.processes:
        life = elapsed[process.at[-1]] - elapsed[process.at[0]]
        if RECYCLED_SHARE * whole <= life < RESIDENT_SHARE * whole:
            lives.append(life)
            for place, mb in zip(process.at, process.rss, strict=False):
                held[place] += mb
    most = sum(held[place] > mb / 2 for place, mb in zip(series.at, series.rss, strict=True))
    return lives if most > len(series.at) / 2 else []


def longest_part(times: Sequence[float], breaks: Sequence[float]) -> tuple[float, float]:
    """The longest time without a break; the sample at a break belongs to neither side."""
    edges = [times[0] - 1e-6, *breaks, times[-1] + 1e-6]
    begin, end = max(itertools.pairwise(edges), key=lambda part: part[1] - part[0])
    inside = times[bisect.bisect_right(times, begin) : bisect.bisect_left(times, end)]
    return (inside[0], inside[-1]) if inside else (begin, begin)


def worked_share(series: RoleSeries, samples: Samples, begin: float, end: float) -> float:
    """Share of the blocks with a sample in which the role used CPU as tasks do."""
    span = (end - begin) / BLOCKS
    worked = {int((at - begin) / span) for place, cpu in zip(series.at, series.cpu, strict=True)
              if cpu >= WORKING_CPU and begin <= (at := samples.elapsed[place]) < end}
    return len(worked) / BLOCKS


def track_of(series: RoleSeries, samples: Samples, readings: Readings | None) -> Track:
    """The role's private memory, where the monitor recorded it, else its RSS from the CSV."""
    private = readings.private.get(series.role.partition("@")[0], []) if readings else []
    known = [(at, mb) for at, mb in zip(readings.at if readings else (), private, strict=False) if mb is not None]
    if known:
        return Track(series.role, [at for at, _ in known], [mb for _, mb in known], "private")
    return Track(series.role, [samples.elapsed[place] for place in series.at], series.rss, "rss")


def why(found: Hourly) -> list[Note]:
    """The finding in clauses: what memory did, of how much of the recording, and what that cannot show."""
    said = [Note(f"hourly_{found.reason}", found.facts)]
    if found.facts["replaced"] and found.mb_per_hour is not None:
        said.append(Note("hourly_part", found.facts))
    if found.status == "inconclusive" and found.verdict != "INCONCLUSIVE":
        said.append(Note("hourly_idle", found.facts))
    return said


def overall_status(found: Iterable[Hourly]) -> str:
    """One status for a recording: it fails where a role grew, and passes where all are flat and one of them worked."""
    statuses = {(each.status, each.verdict) for each in found}
    if any(status == "fail" for status, _ in statuses):
        return "fail"
    undecided = any(verdict == "INCONCLUSIVE" for _, verdict in statuses)
    return "pass" if not undecided and any(status == "pass" for status, _ in statuses) else "inconclusive"

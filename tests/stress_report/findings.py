"""The nouns of what is found in a record, and text of unknown origin made plain: every other room uses them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memory_leak_stress_test import Breach


@dataclass(frozen=True)
class Note:
    """A sentence of the word table and its facts: what is found is kept apart from how it is said."""

    key: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        """So that notes can be counted: equal ones come from one place, with their facts in one order."""
        return hash((self.key, str(self.facts)))


MOST_WORDS = 300  # characters of anything a user or service supplied


def plain(text: str, limit: int = MOST_WORDS) -> str:
    """Text of unknown origin as one line of printable characters (no control, escape or direction marks), shortened."""
    line = "".join(c if c.isprintable() else " " for c in text[: 4 * limit])
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


CRITERIA = ("long_audio_delta", "return_to_baseline", "no_cumulative_growth", "min_concurrency", "no_worker_crash",
            "rtf_under_load")
MEMORY_CRITERIA = CRITERIA[:3]  # observed and limit in MB
OF_RECORDING = "growth_per_hour"  # of samples without tasks, beside which nothing is measured; MB per hour


@dataclass(frozen=True)
class Failure:
    """Why a task failed: what the tool knows of it, and the words of the service or the system."""

    kind: str
    words: str | None
    facts: Mapping[str, Any]
    test_id: str | None = None  # where one task is meant


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
    below_reserve: bool = False  # less memory was free than was to stay so


@dataclass(frozen=True)
class Knee:
    """The smallest level with all but the highest throughput; None where the levels do not show one, and why."""

    level: int | None
    reason: str  # found | too_few_levels | runs_differ | slow_polls


@dataclass(frozen=True)
class Ramp:
    """The three answers of the ramp (never one), and why it ended."""

    levels: list[Level]
    max_stable: int | None
    max_real_time: int | None
    knee: Knee
    effective_parallelism: float | None
    stop_reason: str | None
    first_breach: Breach | None
    failure_bound: float | None  # of one task at max_stable, 95 % confidence
    tasks_at_limit: int
    confirmed: bool  # max_stable, and the level that failed above it, have the runs that the rules ask for
    poll_error: float | None  # of the turnaround at the lowest level: how coarsely the polls show when a task was done
    slow_page_s: float | None  # how long the result page took to answer, where that is what makes the polls coarse
    load: list[Note] = field(default_factory=list)  # of the machines that made the load, where there were several


def median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None

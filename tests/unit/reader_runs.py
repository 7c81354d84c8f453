"""Runs made up for the reader's tests: result lines as the instrument writes them, readings and ends as wished."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from memory_leak_stress_test import Death, LevelFacts, ProcessMemory, RoleMemory, Settings, TaskResult
from stress_report import recording
from stress_report.judging import Judged, judge

BEGIN = datetime(2026, 3, 2, 9, 0, 0)
BORN = "2026-03-02T08:00:00.000"
CSV_HEAD = "timestamp,elapsed_seconds,process_name,pid,cpu_percent,memory_rss_mb,memory_percent\n"
FLAT = [300.0, 700.0] + [700.0] * 10  # before the first task, after the warm-up round, then one reading per cycle
LEAKING = [300.0, 700.0] + [700.0 + 60 * cycle for cycle in range(1, 13)]


def moment(second: float) -> str:
    return (BEGIN + timedelta(seconds=second)).isoformat(timespec="milliseconds")


def memory(before: float | None, after: float | None, pid: int = 100, *, ended: bool = False) -> RoleMemory:
    process = ProcessMemory(pid, BORN, "rq", after, ended, resident=True, root=True, held_mb=after)
    return RoleMemory(before, after, before, after, after, [process])


def task(second: float, phase: str, clip: str, roles: dict[str, RoleMemory], **changes: Any) -> TaskResult:
    """One successful task of 10 s on a clip of 20 or 100 s, RTF 0.1, that ended at this second."""
    worker, length = roles.get("worker"), 100.0 if clip == "long" else 20.0
    before, after = (worker.before_mb, worker.after_mb) if worker else (None, None)
    delta = None if before is None or after is None else after - before
    result = TaskResult(
        "", phase, moment(second), f"{clip}.wav", length / 31.25, length, 1, "success", empty_text=False, rtf=0.1,
        processing_time=length / 10, time_error=0.1, settled=True, sample_gap_s=0.2, memory=roles,
        worker_rss_before_mb=before, worker_rss_after_mb=after, worker_rss_delta_mb=delta, worker_rss_peak_mb=after,
        settings=Settings(url="http://127.0.0.1:8000").for_record(), host={"name": "h", "cpus": 2})
    return dataclasses.replace(result, **changes)


def leak_phase(readings: Sequence[float] = FLAT, api: Sequence[float] | None = None) -> list[TaskResult]:
    """One short and one long task per cycle; all growth of a cycle comes with its long task."""
    results: list[TaskResult] = []
    for cycle, (before, after) in enumerate(zip(readings, readings[1:], strict=False)):
        for clip, start, end in (("short", before, before), ("long", before, after)):
            roles = {"worker": memory(start, end)}
            if api:
                roles["api"] = memory(api[cycle], api[cycle + 1 if clip == "long" else cycle], 200)
            results.append(task(30 * len(results) + 15, "leak", clip, roles, cycle=cycle))
    return results


def level(size: int, number: int = 1, *, after: float = 700.0, failed: int = 0, lines: int | None = None,
          facts: dict[str, Any] | None = None, deaths: Sequence[Death] = (), **changes: Any) -> list[TaskResult]:
    """One run of one level; `failed` of its tasks were refused, `lines` of them are in the record."""
    roles = {"worker": memory(700.0, after)}
    done = [task(2000 + 20 * size + 5 * number, "concurrency", "short", roles, concurrency=size, level_run=number,
                 level=LevelFacts(**(facts or {})), deaths=list(deaths), rtf=0.1, **changes) for _ in range(size)]
    for result in done[:failed]:
        result.status, result.error_kind, result.error, result.rtf = "failed", "submit_refused", "queue is full", None
    return done[: size if lines is None else lines]


def ramp(*levels: Iterable[TaskResult], stop: str | None = "max_concurrency") -> list[TaskResult]:
    """Levels in a row; the last one carries why the ramp ended."""
    results = [list(each) for each in levels]
    for result in results[-1]:
        result.level = dataclasses.replace(result.level or LevelFacts(), stop_reason=stop)
    return [result for each in results for result in each]


def with_long_delta(mb: float, private: float | None = None) -> list[TaskResult]:
    """RSS, and private memory by as much unless said otherwise, grows by so much across long tasks."""
    results = healthy()
    for result in results:
        if result.phase == "leak" and result.audio_file == "long.wav" and result.cycle:
            worker, result.worker_rss_delta_mb = result.memory["worker"], mb
            before = 700.0 - (mb if private is None else private)
            result.memory = {"worker": dataclasses.replace(worker, private_before_mb=before, private_after_mb=700.0)}
    return results


def healthy() -> list[TaskResult]:
    """A run that passes: flat memory, stable up to five at once, confirmed."""
    return leak_phase() + confirmed(*(level(size) for size in range(1, 6)))


def loaded_phase(readings: Sequence[float], size: int = 5, **changes: Any) -> list[TaskResult]:
    """Rounds of so many short tasks at once; readings as in leak_phase()."""
    return [task(4000 + 30 * cycle, "loaded", "short", {"worker": memory(before, after)}, concurrency=size, cycle=cycle,
                 **changes)
            for cycle, (before, after) in enumerate(itertools.pairwise(readings)) for _ in range(size)]


def confirmed(*levels: Iterable[TaskResult], stop: str | None = "max_concurrency",
              after: float = 700.0) -> list[TaskResult]:
    """A ramp and the runs that confirm its answer: a last level that failed once more, the highest stable one twice."""
    groups = [list(each) for each in levels]
    failed = groups[-1] if any(result.status != "success" for result in groups[-1]) else []
    again = [dataclasses.replace(result, level_run=2, level=LevelFacts()) for result in failed]
    size = len(groups[-2 if failed else -1]) if len(groups) > bool(failed) else 0
    return ramp(*groups, stop=stop) + again + (
        level(size, 2, after=after) + level(size, 3, after=after) if size else [])


def with_settings(results: list[TaskResult], **settings: Any) -> list[TaskResult]:
    for result in results:
        result.settings = result.settings | settings
    return results


def numbered(results: Sequence[TaskResult]) -> list[TaskResult]:
    """With the ids and batch numbers that the instrument gives: a batch is the tasks released together."""
    batches = itertools.groupby(results, lambda r: (r.phase, r.cycle, r.clip, r.concurrency, r.level_run))
    in_order = [dataclasses.replace(r, batch=number) for number, (_, batch) in enumerate(batches, 1) for r in batch]
    return [dataclasses.replace(r, test_id=f"{Path(r.audio_file).stem}_c{r.concurrency}_{number:04d}",
                                task_id=r.task_id or f"id-{number}") for number, r in enumerate(in_order, 1)]


def record(folder: Path, results: Sequence[TaskResult], *, drop: Sequence[int] = (), more: str = "",
           csv: str | None = None, ended: bool = True) -> Path:
    """Write the run's JSONL (without the lines of these indexes, with more text at its end) and CSV."""
    path = folder / "memory_leak_stress_test_20260302_090000.jsonl"
    run = numbered(results)
    if run and ended:
        run[-1] = dataclasses.replace(run[-1], end=True)
    lines = [result.to_json() + "\n" for number, result in enumerate(run) if number not in drop]
    path.write_text("".join(lines) + more, encoding="utf-8")
    if csv is not None:
        path.with_name("system_resources_20260302_090000.csv").write_text(csv, encoding="utf-8")
    return path


def judged(folder: Path, results: Sequence[TaskResult], **how: Any) -> Judged:
    return judge(recording.read_run(record(folder, results, **how), None))


def statuses(verdict: Judged) -> dict[str, str]:
    return {criterion.id: criterion.status for criterion in verdict.criteria}


def sample_rows(seconds: Iterable[float], *processes: tuple[str, int, float], cpu: float = 50.0) -> str:
    """CSV rows: each (name, pid, RSS MB) at each of these seconds."""
    return "".join(f"{moment(second)},{second:.2f},{name},{pid},{cpu},{rss},1.0\n"
                   for second in seconds for name, pid, rss in processes)

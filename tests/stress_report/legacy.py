"""Lines of older formats turned into the present one, JSON to JSON: nothing below this room knows what came before.

schema 0: an older tool of the same purpose. No phase, no peaks, RSS of one process only.
schema 1: this tool until version 1.0. Every line of a batch carried its memory, and what the tool itself knew of a
failure or a death was recorded in English sentences.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from memory_leak_stress_test import TOLERANCE_MB, Death, LevelFacts, ProcessMemory, TaskResult

OLD_TASK_ID = re.compile(r"_c\d+_t(\d+)_\d+$")  # of an older tool's ramp; its other lines are its leak phase
MIB_PER_MB = 1.048576  # the older tool recorded clip sizes in MiB
DEATH = re.compile(r"(?P<role>\w+) process (?P<pid>\d+) \((?P<name>.*)\) ended")
WORKER_ENDED = r"worker process (?P<pid>\d+) \((?P<name>.*)\) ended; "
SENTENCES: Mapping[str, tuple[tuple[str, Mapping[str, Any]], ...]] = {  # by error_kind: pattern, further facts
    "stalled": ((r"no progress for (?P<idle_s>\d+) s while every worker was idle.*", {}),),
    "worker_died": ((WORKER_ENDED + "no worker is left", {"workers_left": 0}),
                    (WORKER_ENDED + r"no progress for (?P<idle_s>\d+) s since", {})),
    "task_timeout": ((r"not done after (?P<limit_s>[\d.]+) s; last seen (?P<last_seen>\w+)\. ?(?P<words>.*)", {}),
                     ("the exchange with the API never ended", {"exchange_ended": False})),
    "task_lost": ((r"accepted as (?P<task_id>.*), which the service no longer knows \(404\)", {}),),
    "task_failed": (("the service gives no reason", {}),),
    "interrupted": (("the test was interrupted before this task was sent", {"sent": False}),
                    ("the test was interrupted before this task ended", {"sent": True})),
}


# ---------------------------------------------------------------------------------------------- the older tool


def is_old(content: Mapping[str, Any]) -> bool:
    """Whether a line was written by the older tool, which knew neither phases nor schemas."""
    return "test_id" in content and "phase" not in content and "schema" not in content


def from_old_tool(content: Mapping[str, Any], old_ids: Counter[tuple[str, ...]]) -> dict[str, Any]:
    """A line of the older tool. `old_ids` counts the tasks of each place over the whole file.

    A level of its ramp has ids like clip_c3_t0_<time>, of its load tests like load_0_<time> with the number of tasks at
    once beside it; every other line is a leak cycle. A clip's first task counts as first use, cycle 0. The length of a
    clip comes from time and RTF.
    """
    clip, size = str(content.get("audio_file")), content.get("concurrency")
    task = OLD_TASK_ID.search(str(content["test_id"]))
    level = bool(task) or (isinstance(size, int) and size > 1)
    place = (clip, str(size), task.group(1)) if task else (clip, str(size)) if level else (clip,)
    before, per_run = old_ids[place], 1 if task or not isinstance(size, int) else max(1, size)
    taken, rtf, mib = (content.get(key) for key in ("processing_time", "rtf", "audio_size_mb"))
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) and v > 0 for v in (taken, rtf))
    known = {f.name for f in dataclasses.fields(TaskResult)} - {
        "memory", "level", "deaths", "settings", "host", "error_kind", "error_facts", "batch", "upload", "end"}
    old_ids[place] += 1
    return {k: v for k, v in content.items() if k in known} | {
        "phase": "concurrency" if level else "leak",
        "schema": 0,
        "status": content["status"] if content.get("status") in ("success", "timeout") else "failed",
        "cycle": None if level else before,
        "level_run": before // per_run + 1 if level else None,
        "audio_seconds": taken / rtf if numbers and taken is not None and rtf is not None else None,
        "audio_size_mb": mib * MIB_PER_MB if isinstance(mib, float) else None,
        "memory": {"worker": dict.fromkeys(("private_before_mb", "private_after_mb", "peak_mb")) | {
            "before_mb": content.get("worker_rss_before_mb"), "after_mb": content.get("worker_rss_after_mb")}},
    }


def forget_unmeasured(results: Sequence[TaskResult]) -> bool:
    """Whether the older tool wrote a memory of 0 everywhere, since it had found no process; then it is null."""
    readings = [mb for r in results for mb in (r.worker_rss_before_mb, r.worker_rss_after_mb) if mb is not None]
    if not readings or any(readings):
        return False
    for result in results:
        result.worker_rss_before_mb = result.worker_rss_after_mb = result.worker_rss_delta_mb = None
        result.memory = {}
    return True


def deaths_of_processes(results: Sequence[TaskResult]) -> None:
    """Deaths as the processes of each batch show them, in place of sentences, which did not say all that is known.

    A child that serves is known by its memory. Whether anything was left at work was not recorded; that another process
    took its place shows in the same reading or in the next.
    """
    batches = [list(batch) for _, batch in itertools.groupby(results, key=lambda result: result.batch)]
    for place, batch in enumerate(batches):
        deaths, following = [], batches[place + 1][0] if place + 1 < len(batches) else None
        for role, memory in batch[-1].memory.items():
            known = {(p.pid, p.started) for p in memory.processes if p.resident}
            later = following.memory[role].processes if following and role in following.memory else []
            born = {(p.pid, p.started) for p in (*memory.processes, *later) if not p.ended} - known
            gone = [p for p in memory.processes if p.ended and (p.root or served(p))]
            deaths += [Death(role, p.pid, p.name, batch[-1].timestamp, p.root, unfinished=int(batch[0].concurrency > 1),
                             left_work=False, replaced=len(born) >= len(gone)) for p in gone]
        for result in batch:
            sentences = [death for death in result.deaths if death.pid not in {d.pid for d in deaths}]
            result.deaths = [*sentences, *deaths]


def served(process: ProcessMemory) -> bool:
    """Whether a child was there for long and held memory worth counting."""
    return process.resident and (process.held_mb or 0.0) > TOLERANCE_MB


def number_batches(results: Sequence[TaskResult]) -> None:
    """Number the groups of tasks that were released together, which older records do not name."""
    number, left = 0, 0
    last: tuple[object, ...] = ()
    for result in results:
        place = (result.phase, result.cycle, result.level_run, result.concurrency, result.audio_file)
        if place != last or not left:
            number, left = number + 1, result.concurrency
        result.batch, last, left = number, place, left - 1


# ---------------------------------------------------------------------------------------------------- schema 1


def from_schema_1(content: Mapping[str, Any]) -> dict[str, Any]:
    """A line of schema 1, its sentences turned into facts."""
    line = dict(content)
    level = content.get("level")
    if isinstance(level, dict):
        words = level.get("deaths")
        line["deaths"] = [dataclasses.asdict(death_of(str(each))) for each in words] if isinstance(words, list) else []
        line["level"] = level_facts(level)
    kind, error = content.get("error_kind"), content.get("error")
    if isinstance(kind, str) and isinstance(error, str):
        line["error"], line["error_facts"] = facts_of(kind, error)
    return line


def level_facts(level: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a level that can be reckoned with; others were not measured."""
    numbers = ("submit_spread_s", "client_cpu_percent", "ticker_late_ms", "host_available_min_mb", "oom_kills")
    found = {name: level.get(name) for name in numbers if type(level.get(name)) in (int, float)}
    if type(found.get("oom_kills")) is float:
        del found["oom_kills"]
    reason = level.get("stop_reason")
    known = LevelFacts(client_limited=level.get("client_limited") is True,
                       stop_reason=reason if isinstance(reason, str) else None)
    return dataclasses.asdict(known) | found


def death_of(sentence: str) -> Death:
    """A death from its sentence; of one that this tool did not write only the words are known.

    Whether another process took its place was not recorded: it is a crash, as it was when it was recorded.
    """
    found = DEATH.fullmatch(sentence)
    role, pid, name = (found["role"], int(found["pid"]), found["name"]) if found else ("", 0, sentence)
    return Death(role, pid, name, at="", replaced=False)


def facts_of(kind: str, error: str) -> tuple[str | None, dict[str, Any]]:
    """The service's own words and the tool's facts in the error of a failed task.

    Only of kinds whose sentences were the tool's own: a service may say the same.
    """
    for pattern, more in SENTENCES.get(kind, ()):
        if found := re.fullmatch(pattern, error, re.DOTALL):
            facts: dict[str, Any] = found.groupdict() | dict(more)
            for name in ("pid", "idle_s", "limit_s"):
                if name in facts:
                    facts[name] = float(facts[name]) if "." in facts[name] else int(facts[name])
            return facts.pop("words", None) or None, facts
    return error, {}

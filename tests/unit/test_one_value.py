"""A record of which one value is changed, or one line is lost, is never better than it was: no pass comes of it."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from memory_leak_stress_test import Death, ProcessMemory, TaskResult
from stress_report.judging import judge
from stress_report.recording import RecordedRun, Unreadable, read_result, read_run
from unit.reader_runs import (
    BORN,
    LEAKING,
    confirmed,
    healthy,
    leak_phase,
    level,
    memory,
    moment,
    ramp,
    with_long_delta,
    with_settings,
)
from unit.test_recording import NAME, as_written
from unit.test_saying import held_after_the_ramp

REMOVED = object()
VALUES = (None, 0, -1, 1e12, True, "x", REMOVED)
# What the verdict does not rest on: names, and the words and sizes that a report shows.
SHOWN_ONLY = {"host", "audio_size_mb", "audio_file", "submit_offset", "queue_time", "error", "error_facts",
              "busiest_other", "name", "url", "short_audio", "long_audio", "watch", "pid"}
THREE = [level(1), level(2), level(3)]
Path_ = tuple[str | int, ...]


def odd_one(results: list[TaskResult], place: int, **fields: Any) -> list[TaskResult]:
    for name, value in fields.items():
        setattr(results[place], name, value)
    return results


def api_dies(root: bool) -> list[TaskResult]:
    """In the last run of the highest level: the process that is watched, or a child of it that serves."""
    pid = 200 if root else 201
    death = Death("api", pid, "uvicorn", moment(0), root, unfinished=1, left_work=False, replaced=False)
    lines = leak_phase(api=[50.0] * 12) + confirmed(*THREE)
    for result in lines[-3:]:
        result.deaths = [death]
        api = memory(50.0, None if root else 50.0, 200, ended=root)
        api.processes += [] if root else [ProcessMemory(201, BORN, "uvicorn", 40.0, True, resident=True, held_mb=40.0)]
        result.memory = result.memory | {"api": api}
    return lines


# name, a run that does not pass, the lines that are changed: those that say why, and the first, which has the settings
ROWS: list[tuple[str, Callable[[], list[TaskResult]], Sequence[int]]] = [
    ("a leak", lambda: leak_phase(LEAKING) + confirmed(*THREE), [15]),
    ("a leak by its own tolerance", lambda: with_settings(
        leak_phase([300.0] + [700.0 + 5 * n for n in range(15)]) + confirmed(*THREE), tolerance_mb=2.0), [0]),
    ("a failed task", lambda: leak_phase() + confirmed(level(1), level(2), level(3, failed=1), stop="failure"), [25]),
    ("a slow task", lambda: odd_one(healthy(), 24, rtf=1.5), [24]),
    ("much kept by long tasks", lambda: with_long_delta(300.0), [0]),
    ("a death", lambda: api_dies(True), [-1]),
    ("a death of a child that serves", lambda: api_dies(False), [-1]),
    ("too few cycles", lambda: leak_phase([700.0] * 9) + confirmed(*THREE), [0, 16]),
    ("not confirmed", lambda: leak_phase() + ramp(*THREE, level(3, 2)), [22, -1]),
    ("memory after the ramp", held_after_the_ramp, [-1]),
    ("a hole in the samples", lambda: odd_one(healthy(), 9, sample_gap_s=12.0), [9]),
    ("the tool was the limit", lambda: leak_phase() + confirmed(
        level(1), level(2, facts={"client_limited": True}), level(3)), [24]),
    ("a task without words", lambda: odd_one(healthy(), 5, empty_text=True), [5]),
    ("an id given twice", lambda: odd_one(healthy(), 5, task_id="id-8"), [5]),
    ("a rise that may not be over", lambda: leak_phase([300.0, 700.0, 700.0] + [800.0] * 10) + confirmed(*THREE),
     [2, 3, 5]),
]


def places(content: Any, before: Path_ = ()) -> Iterator[Path_]:
    """Where a value stands in a line, however deep."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        if key not in SHOWN_ONLY:
            yield (*before, key)
            yield from places(value, (*before, key))


def with_value(content: dict[str, Any], place: Path_, value: object) -> dict[str, Any]:
    content = copy.deepcopy(content)
    inner: Any = content
    for key in place[:-1]:
        inner = inner[key]
    if value is REMOVED:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return content


def may_be(place: Path_, old: Any, value: object) -> bool:
    """Whether it can be what another run wrote: a flag that is set, an id of another name, a death between tasks."""
    flag, named = type(old) is bool and value is True, place == ("task_id",) and value == "x"
    return flag or named or (place[-1] == "unfinished" and value == 0) or old == value


def as_read(line: str, first: str) -> tuple[str | None, bool]:
    """What the reader makes of a line, None where it is of no use: lines that it reads alike are judged alike."""
    run = RecordedRun(Path(NAME))
    try:
        if line != first:
            run.results.append(read_result(first, run, Counter()))
        return repr(read_result(line, run, Counter())), run.legacy
    except (ValueError, OverflowError, RecursionError):
        return None, run.legacy


def verdict(folder: Path, lines: Sequence[str]) -> str | None:
    (folder / NAME).write_text("".join(lines), encoding="utf-8")
    try:
        return judge(read_run(folder / NAME, [])).verdict
    except Unreadable:
        return None


@pytest.mark.parametrize(("make", "numbers"), [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_no_value_that_is_changed_makes_a_pass(
    tmp_path: Path, make: Callable[[], list[TaskResult]], numbers: Sequence[int]
) -> None:
    lines = as_written(make())
    assert verdict(tmp_path, lines) in ("fail", "inconclusive")
    passed = []
    for number in numbers:
        line = json.loads(lines[number])
        seen = {as_read(lines[number], lines[0])}  # as it is, it does not pass
        for place in places(line):
            old: Any = line
            for key in place:
                old = old[key]
            values = VALUES[:-1] if isinstance(place[-1], int) else VALUES  # a list may hold one less
            for value in (value for value in values if not may_be(place, old, value)):
                changed = list(lines)
                changed[number] = json.dumps(with_value(line, place, value)) + "\n"
                read = as_read(changed[number], changed[0])
                if read in seen:
                    continue
                seen.add(read)
                if verdict(tmp_path, changed) == "pass":
                    passed.append((number, place, "removed" if value is REMOVED else value))
    assert passed == []


@pytest.mark.parametrize("make", [pytest.param(row[1], id=row[0]) for row in ROWS] + [healthy])
def test_no_line_that_is_lost_leaves_a_pass(tmp_path: Path, make: Callable[[], list[TaskResult]]) -> None:
    lines = as_written(make())
    assert "pass" not in {verdict(tmp_path, lines[:n] + lines[n + 1 :]) for n in range(len(lines))}

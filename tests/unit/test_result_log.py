"""The JSONL on disk: every line whole, there at once, and read back as what was written."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_leak_stress_test import (
    CannotRecord,
    ProcessMemory,
    ResultLog,
    RoleMemory,
    TaskResult,
    new_files,
)
from stress_report.recording import BadLine, result_from_json
from stress_report.saying import Words


def result(number: int = 1, **values: Any) -> TaskResult:
    fixed: dict[str, Any] = {"phase": "leak", "timestamp": "2026-01-01T00:00:00.000", "audio_file": "a.wav",
             "audio_size_mb": 0.1, "audio_seconds": 3.0, "concurrency": 1, "status": "success"}
    return TaskResult(test_id=f"a_c1_{number:04d}", **(fixed | values))


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_every_line_is_on_disk_when_append_returns_and_is_never_touched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size))
    log = ResultLog(tmp_path / "run.jsonl")
    with log.path.open(encoding="utf-8") as follower:  # as tail -f does
        for number in (1, 2):
            log.append(result(number))
            assert json.loads(follower.read())["test_id"] == f"a_c1_{number:04d}"
            assert synced[-1] == log.path.stat().st_size


def test_the_last_result_of_a_batch_is_safe_until_it_is_complete(tmp_path: Path) -> None:
    log = ResultLog(tmp_path / "run.jsonl")
    log.append(result(1, batch=1))
    held = result(2, batch=1)
    log.hold(held)
    assert [line["test_id"] for line in lines(log.path)] == ["a_c1_0001"]
    assert [(line["test_id"], line["settled"]) for line in lines(log.pending)] == [("a_c1_0002", None)]
    held.settled = True
    log.hold(held)
    assert [(line["test_id"], line["settled"]) for line in lines(log.pending)] == [("a_c1_0002", True)]
    assert log.results == [result(1, batch=1), held], "held twice, counted once"
    log.release()
    assert [line["settled"] for line in lines(log.path)] == [None, True]
    assert [file.name for file in tmp_path.iterdir()] == ["run.jsonl"]
    log.release()
    assert len(lines(log.path)) == 2, "nothing is held any more"


def test_the_next_held_result_completes_the_one_before_and_the_last_line_tells_the_end(tmp_path: Path) -> None:
    log = ResultLog(tmp_path / "run.jsonl")
    for number in (1, 2, 3):
        log.hold(result(number))
    log.release(end=True)
    assert [(line["test_id"], line["end"]) for line in lines(log.path)] == [
        ("a_c1_0001", False), ("a_c1_0002", False), ("a_c1_0003", True)]


def test_settings_and_host_stand_in_the_first_line_and_where_they_change(tmp_path: Path) -> None:
    log = ResultLog(tmp_path / "run.jsonl")
    log.append(result(1, settings={"url": "a"}, host={"cpus": 2}))
    log.append(result(2, settings={"url": "a"}, host={"cpus": 2}))
    log.hold(result(3, settings={"url": "b"}, host={"cpus": 2}))
    assert lines(log.pending)[0]["settings"] == {"url": "b"}
    log.release()
    log.append(result(4, settings={"url": "b"}, host={"cpus": 2}))
    assert [(line["settings"], line["host"]) for line in lines(log.path)] == [
        ({"url": "a"}, {"cpus": 2}), ({}, {}), ({"url": "b"}, {"cpus": 2}), ({}, {})]


def test_a_file_that_exists_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").write_text("kept\n")
    with pytest.raises(FileExistsError):
        ResultLog(tmp_path / "run.jsonl")
    assert (tmp_path / "run.jsonl").read_text() == "kept\n"


@pytest.fixture
def small_files() -> Iterator[None]:
    """A disk that is full after 2,000 bytes, as far as this process can tell."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_is_one_sentence_and_what_was_written_stays_whole(tmp_path: Path) -> None:
    log = ResultLog(tmp_path / "run.jsonl")
    log.append(result(1))
    with pytest.raises(CannotRecord, match="cannot be written") as full:
        log.append(result(2, error="x" * 1500))  # its first part still fits
    assert "df -h" in str(full.value)
    assert [line["test_id"] for line in lines(log.path)] == ["a_c1_0001"], "cut back to the last whole line"


@pytest.mark.usefixtures("small_files")
def test_a_held_result_outlives_a_disk_that_fills_before_its_line_is_written(tmp_path: Path) -> None:
    log = ResultLog(tmp_path / "run.jsonl")
    log.append(result(1))
    log.hold(result(2, error="x" * 900))
    with pytest.raises(CannotRecord):
        log.release()
    assert [line["test_id"] for line in lines(log.path)] == ["a_c1_0001"]
    assert [line["test_id"] for line in lines(log.pending)] == ["a_c1_0002"]
    log.release()
    assert [line["test_id"] for line in lines(log.pending)] == ["a_c1_0002"], "nor does the end of the run remove it"


@pytest.mark.usefixtures("small_files")
def test_a_result_that_cannot_be_held_leaves_the_one_before_as_it_was(tmp_path: Path) -> None:
    log = ResultLog(tmp_path / "run.jsonl")
    held = result(1)
    log.hold(held)
    held.error = "x" * 3000
    with pytest.raises(CannotRecord):
        log.hold(held)
    assert [line["error"] for line in lines(log.pending)] == [None]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.jsonl", "run.pending.json"]


def test_two_runs_of_one_second_get_files_of_their_own(tmp_path: Path) -> None:
    first = new_files(tmp_path)
    first[0].touch()
    second = new_files(tmp_path)
    assert second[0] != first[0]
    assert second[1].stem.removeprefix("system_resources") == second[0].stem.removeprefix("memory_leak_stress_test")


# ------------------------------------------------------------------------------------------------ reading back

megabytes = st.none() | st.floats(0, 1e6)
processes = st.builds(ProcessMemory, st.integers(1, 2**22), st.text(), st.text(), megabytes, st.booleans(),
                      st.booleans(), st.booleans(), megabytes)
roles = st.builds(RoleMemory, megabytes, megabytes, megabytes, megabytes, megabytes, st.lists(processes, max_size=3))


@given(st.text(), st.none() | st.text(), megabytes, st.dictionaries(st.text(), roles, max_size=2))
def test_what_was_written_is_read_back(name: str, error: str | None, rtf: float | None, memory: Any) -> None:
    written = result(audio_file=name, error=error, rtf=rtf, memory=memory, settings={"url": name})
    line = written.to_json()
    assert "\n" not in line
    assert result_from_json(line) == written


def test_a_number_that_is_none_is_never_written() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        result(rtf=float("nan")).to_json()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": 1}, "status is 1"),
        ({"concurrency": "2"}, "concurrency is '2'"),
        ({"concurrency": True}, "concurrency is True"),
        ({"rtf": "fast"}, "rtf is 'fast'"),
        ({"memory": []}, "memory is []"),
        ({"memory": {"worker": {"before_mb": 1.0}}}, "after_mb is missing"),
        ({"settled": 1}, "settled is 1"),
    ],
)
def test_a_wrong_type_is_named(change: dict[str, Any], words: str) -> None:
    content = json.loads(result().to_json()) | change
    with pytest.raises(BadLine) as refused:
        result_from_json(json.dumps(content))
    assert Words("en").note(refused.value.why) == words


def test_fields_of_a_later_version_are_passed_over_and_whole_numbers_are_numbers() -> None:
    content = json.loads(result().to_json()) | {"colour": "red", "rtf": 1}
    read = result_from_json(json.dumps(content))
    assert (read.rtf, type(read.rtf)) == (1.0, float)


def test_a_missing_field_is_named() -> None:
    content = json.loads(result().to_json())
    del content["phase"]
    with pytest.raises(BadLine) as refused:
        result_from_json(json.dumps(content))
    assert Words("en").note(refused.value.why) == "phase is missing"

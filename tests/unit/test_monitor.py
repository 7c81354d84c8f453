"""The monitor's lines: what is in them, that they are whole, and that a night of them costs nothing."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

import memory_leak_stress_test as instrument
from memory_leak_stress_test import (
    CannotRecord,
    Ending,
    HostStretch,
    LineFile,
    Observed,
    ProcessMemory,
    ProcessTable,
    Reading,
    RoleMemory,
    Sampler,
    Screen,
    Settings,
    Tick,
    host_file,
    monitor,
    parse_command_line,
)
from stress_report.hosts import read_readings
from stress_report.recording import read_samples, record_of

KEEPS = """
import time
kept, began = [], time.monotonic()
while True:
    while 8 * len(kept) < 16 * (time.monotonic() - began):  # MB: 16 in every second, however busy this machine is
        kept.append(b"x" * (8 << 20))
    time.sleep(0.1)
"""


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90.0), ("30m", 1800.0), ("8h", 28800.0), ("1.5h", 5400.0),
                                               ("2d", 172800.0)])
def test_a_duration_is_a_number_and_its_unit(text: str, seconds: float) -> None:
    assert parse_command_line(["--phase", "monitor", "--duration", text]).duration == seconds


@pytest.fixture
def leaking() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", KEEPS]) as process:
        yield process.pid
        process.kill()


def test_the_lines_beside_the_csv_say_what_it_cannot(
    leaking: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instrument, "STRETCH_S", 2.0)
    settings, resources = Settings(phase="monitor", duration=5.0), tmp_path / "system_resources_1.csv"
    table, path = ProcessTable({}, {"worker": [leaking]}, set()), host_file(resources)
    with Sampler(table, resources, 0.5) as sampler:
        begun = time.monotonic()
        assert monitor(settings, sampler, Screen(True, sampler), LineFile(path), threading.Event())
        assert 4.5 < time.monotonic() - begun < 25.0  # its clock has begun with the sampler
    head, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert head["host"]["clock"].keys() == {"utc_offset_s", "synchronised", "max_error_s"}
    assert head["limits"]["memory_mb"] > 0
    assert all(each["limit_mb"] > 0 for each in head["limits"]["containers"])  # where a container has a limit
    assert 2 <= len(lines) <= 3
    stretches = [record_of(HostStretch, line, whole=True) for line in lines]
    for first, second in zip(stretches, stretches[1:], strict=False):
        assert second.memory["worker"].before_mb == first.memory["worker"].after_mb
    (process,) = stretches[-1].memory["worker"].processes
    assert (process.pid, process.root, process.ended) == (leaking, True, False)
    readings = read_readings(read_samples(resources))
    assert readings.skipped == 0
    steps = [b - a for a, b in zip(readings.at, readings.at[1:], strict=False)]
    assert 0.9 <= sum(steps) / len(steps) < 2.0
    private = [mb for mb in readings.private["worker"] if mb is not None]
    assert private[-1] - private[0] == pytest.approx(16.0 * (readings.at[-1] - readings.at[0]), abs=17.0)
    assert all(b >= a for a, b in zip(private, private[1:], strict=False))


def test_an_interruption_keeps_what_was_read_since_the_last_line(leaking: int, tmp_path: Path) -> None:
    aborted, path = threading.Event(), tmp_path / "host_1.jsonl"
    with Sampler(ProcessTable({}, {"worker": [leaking]}, set()), None, 0.5) as sampler:
        threading.Timer(3.5, aborted.set).start()
        assert monitor(Settings(phase="monitor"), sampler, Screen(True, sampler), LineFile(path), aborted)
    lines = path.read_text().splitlines()
    assert len(lines) == 2
    assert len(json.loads(lines[1])["at"]) >= 1


def test_an_interruption_just_after_a_line_repeats_no_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ticks(*_: object) -> Iterator[Tick]:
        yield from (Tick(number, float(number), 1.0, scan=True, rows=True) for number in range(21))

    monkeypatch.setattr(instrument, "schedule", ticks)
    path = tmp_path / "host_1.jsonl"
    monitor(Settings(phase="monitor"), cast(Sampler, NightSampler()), Screen(True, None), LineFile(path),
            threading.Event())
    at = [second for line in path.read_text().splitlines()[1:] for second in json.loads(line)["at"]]
    assert at == [float(second) for second in range(2, 22)]


def test_a_line_that_cannot_be_written_leaves_the_others_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = tmp_path / "host_1.jsonl", os.write
    file = LineFile(path)
    file.append("whole")

    def full(fd: int, data: bytes) -> int:
        if b"more" in data:
            real(fd, data[:2])
            raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(CannotRecord, match=r"host_1.jsonl cannot be written \(No space left on device\)"):
        file.append("more")
    file.append("again")
    assert path.read_text() == "whole\nagain\n"
    with pytest.raises(FileExistsError):
        LineFile(path)


# ---------------------------------------------------------------------------------------------- hours in miniature


class NightSampler:
    """A sampler on which a second takes no time: each look is a reading of two processes."""

    began = 0.0
    failure: str | None = None

    def __init__(self) -> None:
        self.looks, self.window = 0, 0

    def latest(self) -> Reading:
        self.looks += 1
        mb = 700.0 + self.looks % 7
        return Reading(float(self.looks), {"worker": mb + 30}, {"worker": mb}, frozenset((1, 2)))

    def open_window(self) -> None:
        self.window += 1

    def observed(self) -> Observed:
        process = ProcessMemory(1, "2026-03-02T08:00:00.000", "rq", 730.0, False, True, True, 700.0)
        return Observed({"worker": (process, dataclasses.replace(process, pid=2))}, {"worker": 740.0}, (), frozenset(),
                        0, 0.2, ())


def test_hours_in_miniature_cost_a_steady_trickle_and_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds, held, sizes = 2 * 3600, list[int](), list[int]()
    path = tmp_path / "host_1.jsonl"

    def ticks(*_: object) -> Iterator[Tick]:
        for number in range(seconds):
            yield Tick(number, float(number), 1.0, scan=True, rows=True)
            if number % 900 == 450:
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
                sizes.append(path.stat().st_size)

    sampler = cast(Sampler, NightSampler())
    monkeypatch.setattr(instrument, "schedule", ticks)
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    tracemalloc.start()
    try:
        monitor(Settings(phase="monitor", duration=3600.0 * 3), sampler, Screen(True, None), LineFile(path),
                threading.Event())
    finally:
        tracemalloc.stop()
    assert max(held[1:]) - min(held[1:]) < 50_000  # bytes, from the second quarter of an hour on
    growth = [b - a for a, b in zip(sizes, sizes[1:], strict=False)]
    assert max(growth) < 1.05 * min(growth)
    assert sizes[-1] < 1_000_000  # a night of two processes: 4 MB
    assert len(path.read_text().splitlines()) == pytest.approx(seconds / 10, abs=2)


@pytest.mark.parametrize(("kills", "known"), [(None, None), (0, False), (2, True)])
def test_whether_the_kernel_killed_is_not_known_where_it_does_not_say(kills: int | None, known: bool | None) -> None:
    ending = Ending(time.monotonic(), "worker", 7, "rq", root=True, left_work=False)
    [death] = Observed({}, {}, (ending,), frozenset(), kills, 0.1, ()).deaths()
    assert (death.oom_kill, death.unfinished, death.replaced) == (known, 0, True)
    [death] = Observed({}, {}, (ending,), frozenset(), kills, 0.1, (), frozenset({"worker"})).deaths()
    assert death.oom_kill is (None if kills is None else False), "in another service's group"


def test_the_memory_of_a_stretch_has_the_fields_of_a_result() -> None:
    sampler = cast(Sampler, NightSampler())
    stretch = instrument.host_stretch(sampler, [cast(Reading, sampler.latest()) for _ in range(3)])
    assert isinstance(stretch.memory["worker"], RoleMemory)
    assert stretch.memory["worker"].private_before_mb == stretch.private_mb["worker"][0] - 1  # type: ignore[operator]
    assert stretch.at == [2.0, 3.0]


@pytest.mark.parametrize(("role", "unfinished"), [("worker", 0), ("api", 1), ("redis", 1)])
def test_an_end_that_nobody_could_see_is_no_end_before_the_death_of_who_is_asked(role: str, unfinished: int) -> None:
    at = time.monotonic()
    ending = Ending(at, role, 7, "x", root=True, left_work=False)
    [death] = Observed({}, {}, (ending,), frozenset(), 0, 0.1, ()).deaths([(at - 1.0, at + 1.0)])
    assert death.unfinished == unfinished

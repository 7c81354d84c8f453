"""The memory that is to stay free, in every phase: predicted before a batch, watched while it runs."""

from __future__ import annotations

import itertools
import json
import resource
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import memory_leak_stress_test as instrument
from memory_leak_stress_test import (
    APIS,
    ApiClient,
    Batch,
    EndsEarly,
    LevelFacts,
    Reserve,
    ResultLog,
    Screen,
    Settings,
    StressTest,
    read_clips,
    run_phases,
)
from stress_report.judging import Judged, judge
from stress_report.recording import read_run
from unit.reader_runs import judged, leak_phase, with_settings
from unit.test_hostile_server import RESULT, SUBMIT, Hostile, http

TOTAL_MB, REST_MB = 16_000.0, 8_000.0
KEPT_MB = 1_600.0  # 10 % of all
TASK_S = 0.15  # since the last of those that were released together came
MISSING_S = 10.0  # ... or without it, where it was not sent
Taken = Callable[[int, int], float]  # (tasks that run, tasks that have ended) -> MB that they take


class Machine:
    """A service whose tasks take a moment, and the memory of the machine it is on."""

    def __init__(self, taken: Taken) -> None:
        self.taken = taken
        self.running: set[str] = set()
        self.most = self.ended = self.awaited = 0
        self.begun = 0.0
        self.numbers = itertools.count()
        self.service = Hostile({SUBMIT: self.submit, RESULT: self.result})

    def memory(self) -> tuple[float, float]:
        return REST_MB - self.taken(len(self.running), self.ended), TOTAL_MB

    def submit(self, sock: Any) -> None:
        name = f"id-{next(self.numbers)}"
        self.running.add(name)
        self.most, self.begun = max(self.most, len(self.running)), time.monotonic()
        self.awaited -= 1
        sock.sendall(http(json.dumps({"task_id": name})))

    def result(self, sock: Any) -> None:
        # All that were released together end together.
        if time.monotonic() > self.begun + (MISSING_S if self.awaited > 0 else TASK_S):
            self.ended += len(self.running)
            self.running.clear()
        state = "processing" if self.running else "done"
        sock.sendall(http(json.dumps({"status": state, "text": "it was"})))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Taken], Machine]]:
    made: list[Machine] = []
    release = Batch.release

    def count_and_release(batch: Batch) -> None:
        made[-1].awaited = len(batch.uploads)
        release(batch)

    def make(taken: Taken) -> Machine:
        made.append(Machine(taken))
        monkeypatch.setattr(instrument, "memory_available", made[-1].memory)
        monkeypatch.setattr(Batch, "release", count_and_release)
        return made[-1]

    yield make
    for each in made:
        each.service.listener.close()


MakeMachine = Callable[[Taken], Machine]


def run_on(folder: Path, on: Machine, **settings: Any) -> tuple[str, Judged]:
    """What is said of a run, and what the reader makes of its record."""
    clip = folder / "clip.wav"
    said: list[str] = []
    with wave.open(str(clip), "wb") as file:
        file.setparams((1, 2, 1000, 0, "NONE", ""))
        file.writeframes(bytes(20_000))
    s = Settings(no_watch=True, max_cycles=10, rtf_limit=0.0, url=on.service.url, settle_timeout=0.05, **settings)
    client, screen = ApiClient(s.url, APIS["asr-queue"]), Screen(False, None)
    screen.event = said.append  # type: ignore[method-assign, assignment]
    log = ResultLog(folder / "memory_leak_stress_test_20260302_090000.jsonl")
    test = StressTest(s, client, read_clips(clip), read_clips(clip), None, log, screen, client.aborted, {},
                      Reserve.for_settings(s))
    try:
        run_phases(test)
    except EndsEarly as error:
        said.append(str(error))
    return "\n".join(said), judge(read_run(log.path, []))


def test_a_ramp_that_begins_high_is_predicted_from_a_single_task(machine: MakeMachine, tmp_path: Path) -> None:
    on = machine(lambda running, _: 1_500.0 * running)
    said, run = run_on(tmp_path, on, phase="concurrency", start=6)
    assert on.most == 1, "the warm-up task alone"
    assert "6 concurrent tasks would leave about 0 MB of memory free, less than the reserve of 1,600 MB" in said
    assert (run.ramp.stop_reason, run.ramp.max_stable, run.verdict) == ("memory_reserve", None, "inconclusive")


def test_the_ramp_ends_before_the_level_that_would_take_the_reserve(machine: MakeMachine, tmp_path: Path) -> None:
    on = machine(lambda running, _: 1_900.0 * running)
    said, run = run_on(tmp_path, on, phase="concurrency")
    assert on.most == 3
    assert "4 concurrent tasks would leave about 400 MB" in said
    assert (run.ramp.stop_reason, run.ramp.max_stable, run.ramp.confirmed) == ("memory_reserve", 3, True)


def test_what_tasks_keep_counts_as_well(machine: MakeMachine, tmp_path: Path) -> None:
    """Arenas of a server's threads: as many as ran at once stay."""
    on = machine(lambda running, _: 700.0 * on.most)
    said, run = run_on(tmp_path, on, phase="concurrency", step="x2", max_concurrency=16)
    assert on.most == 8
    assert "16 concurrent tasks would leave about 0 MB" in said
    assert (run.ramp.stop_reason, run.ramp.max_stable, run.ramp.confirmed) == ("memory_reserve", 8, True)


def test_a_level_that_takes_more_than_predicted_is_drained_and_is_not_the_answer(
    machine: MakeMachine, tmp_path: Path
) -> None:
    on = machine(lambda running, _: 500.0 * running + (6_000.0 if running > 3 else 0.0))
    said, run = run_on(tmp_path, on, phase="concurrency")
    assert on.most == 4
    assert said.count("WARNING only 0 MB of memory are free, less than the reserve of 1,600 MB") == 1
    ramp = run.ramp
    assert (ramp.stop_reason, ramp.max_stable, ramp.confirmed) == ("memory_reserve", 3, True)
    assert [(v.concurrency, v.succeeded, v.below_reserve) for v in ramp.levels[2:]] == [(3, 9, False), (4, 4, True)]
    assert ramp.first_breach is not None
    breach = ramp.first_breach
    assert (breach.concurrency, breach.what, breach.observed, breach.limit) == (4, "memory_reserve", 0.0, KEPT_MB)


@pytest.mark.parametrize(("phase", "options", "ended"), [
    ("leak", {}, 5), ("all", {}, 5), ("loaded", {"at_once": 3}, 6)])
def test_cycles_end_where_a_task_takes_the_reserve(phase: str, options: dict[str, Any], ended: int,
                                                   machine: MakeMachine, tmp_path: Path) -> None:
    on = machine(lambda running, so_far: 7_000.0 if running and so_far + running >= 5 else 0.0)
    said, run = run_on(tmp_path, on, phase=phase, **options)
    assert len(run.run.results) == on.ended == ended, "the batch that ran is drained, and none is sent after it"
    assert said.count("only 1,000 MB of memory are free, less than the reserve of 1,600 MB") == 1
    size = options.get("at_once", 1)
    assert f"the test ends early: {size} concurrent task{'s' * (size > 1)} would leave about 1,000 MB" in said
    assert said.endswith("What was recorded is kept")
    assert run.run.results[-1].level is not None
    assert run.run.results[-1].level.stop_reason == "memory_reserve"
    assert (run.verdict, run.cut_short and run.cut_short.key) == ("inconclusive", "cut_memory_reserve")
    assert run.run.ended is False


def test_tasks_that_would_take_the_reserve_are_not_sent(machine: MakeMachine, tmp_path: Path) -> None:
    on = machine(lambda running, ended: 2_500.0 * running if ended >= 6 else 0.0)  # all of the warm-up's
    said, run = run_on(tmp_path, on, phase="leak", at_once=3)
    assert on.ended == 7, "the one that is sent again, alone"
    assert "3 concurrent tasks would leave about 500 MB" in said
    assert run.cut_short is not None
    assert run.cut_short.key == "cut_memory_reserve"


def test_a_level_that_needs_more_open_files_than_allowed_is_the_tools_limit(
    machine: MakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (instrument.OWN_FILES + 3, 4096))
    said, run = run_on(tmp_path, machine(lambda *_: 0.0), phase="concurrency", start=2)
    assert (run.ramp.max_stable, run.ramp.stop_reason, run.ramp.confirmed) == (3, "client_limited", True)
    assert "4 connections need more open files than this shell allows (enough for 3)" in said


@pytest.mark.parametrize("phase", ["leak", "loaded"])
def test_more_tasks_at_once_than_files_can_be_open_are_not_sent(
    phase: str, machine: MakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else those beyond would be refused by this tool, and told as the service's failure."""
    on = machine(lambda *_: 0.0)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (instrument.OWN_FILES + (3 if on.ended else 99), 4096))
    said, run = run_on(tmp_path, on, phase=phase, at_once=4)
    assert on.ended < 8, "a first batch of 4, perhaps one task more alone"
    assert "4 connections need more open files than this shell allows (enough for 3); raise it with: ulimit -n" in said
    assert run.verdict == "inconclusive"
    assert {result.status for result in run.run.results} == {"success"}


def test_nothing_is_sent_where_too_little_is_free_already(machine: MakeMachine) -> None:
    machine(lambda *_: 6_500.0)
    with pytest.raises(instrument.CannotStart, match="Only 1,500 MB of memory are free, less than the reserve of"):
        Reserve.for_settings(Settings())
    assert Reserve.for_settings(Settings(memory_reserve=9.0)).keep == 1_440.0


def test_models_that_a_warm_up_loads_do_not_count_for_each_task(machine: MakeMachine, tmp_path: Path) -> None:
    on = machine(lambda running, ended: (3_000.0 if ended or running else 0.0) + 100.0 * running)
    said, run = run_on(tmp_path, on, phase="concurrency", start=6, max_concurrency=6)
    assert (on.most, run.ramp.max_stable) == (6, 6), said


@pytest.mark.parametrize(("stop", "ended", "verdict"), [
    (None, True, "pass"), ("memory_reserve", True, "inconclusive"), (None, False, "inconclusive")])
def test_two_things_in_the_record_say_that_cycles_ended_for_lack_of_memory(stop: str | None, ended: bool, verdict: str,
                                                                           tmp_path: Path) -> None:
    results = with_settings(leak_phase(), phase="leak")
    results[-1].level = LevelFacts(stop_reason=stop) if stop else None
    assert judged(tmp_path, results, ended=ended).verdict == verdict

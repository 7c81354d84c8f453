"""Cycles, their warm-up and the tasks of each, on a service that is only pretended."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import memory_leak_stress_test as instrument
from memory_leak_stress_test import (
    Clip,
    Clips,
    Place,
    ProcessView,
    Reading,
    RoleMemory,
    Settings,
    TaskResult,
    leak_phase,
    loaded_phase,
    loaded_size,
    unloaded,
    warm_up,
)

SHORT, LONG = (Clips(Path(name), (Clip(Path(name), 1, seconds),)) for name, seconds in (("short.wav", 1.0),
                                                                                       ("long.wav", 3.0)))


def worker(private: float, *, serves: bool = True, role: str = "worker") -> Any:
    return ProcessView(role, 1, "rq", "rq worker", True, serves, private + 20, private)


class PretendedTest:
    """What leak_phase() and warm_up() ask of a run; `sent` is what was submitted: (cycle, clip, tasks at once)."""

    def __init__(self, workers: list[Any]) -> None:
        self.settings = Settings(min_cycles=2, max_cycles=2)
        self.short, self.long = SHORT, LONG
        self.aborted = threading.Event()
        self.screen = SimpleNamespace(phase=ignore, status=ignore, event=ignore, cycle=ignore, expect=ignore)
        self.log = SimpleNamespace(results=[])
        self.sampler = SimpleNamespace(watched=lambda: workers, serving=lambda: len(workers), works="worker")
        self.sent: list[tuple[int | None, str, int]] = []
        self.status = "success"
        self.unused: Reading | None = None
        self.phases: set[str] = set()
        self.kinds_needed: list[bool] = []
        self.gpus: object | None = None

    def at_rest(self) -> Reading:
        return Reading(0.0, {}, {}, frozenset())

    def batch(self, clip: Clips, size: int, before: Reading, place: Place) -> tuple[list[Any], Reading]:
        self.phases.add(place.phase)
        self.sent.append((place.cycle, clip.path.stem, size))
        self.log.results.append(SimpleNamespace(audio_file=clip.path.name, status=self.status))
        return self.log.results[-1:], before

    def add_holdings(self, last: Any, needed: bool) -> None:
        self.kinds_needed.append(needed)


def ignore(*_: object, **__: object) -> None:
    pass


def sent_in_warm_up(workers: list[Any], status: str = "success") -> list[tuple[int, str, int]]:
    test: Any = PretendedTest(workers)
    test.status = status
    warm_up(test, test.at_rest(), (SHORT, LONG), len(workers), instrument.MORE_WARM_UPS, Place("leak", cycle=0))
    return list(test.sent)


def test_every_worker_is_warmed_up_with_both_clips() -> None:
    assert sent_in_warm_up([worker(300)] * 3) == [(0, "short", 3), (0, "long", 3)]


def test_a_worker_that_has_not_loaded_its_model_gets_more_tasks_but_not_for_ever() -> None:
    more = [(0, "short", 2)] * instrument.MORE_WARM_UPS
    assert sent_in_warm_up([worker(300), worker(30)]) == [(0, "short", 2), (0, "long", 2), *more]


def test_a_service_whose_tasks_fail_is_not_warmed_up_again() -> None:
    assert sent_in_warm_up([worker(300), worker(30)], "failed") == [(0, "short", 2), (0, "long", 2)]


@pytest.mark.parametrize(("others", "expected"), [
    ([worker(151)], False), ([worker(149)], True), ([worker(10, serves=False)], False),
    ([worker(10, role="api")], False)])
def test_a_worker_with_less_than_half_of_the_fullest_has_not_loaded(others: list[Any], expected: bool) -> None:
    assert unloaded([worker(300), *others], "worker") is expected
    assert not unloaded([], "worker")


def test_where_the_api_does_the_work_its_processes_are_looked_at() -> None:
    assert unloaded([worker(300, role="api"), worker(100, role="api")], "api")
    assert not unloaded([worker(300, role="api"), worker(100)], "api")


@pytest.mark.parametrize(("workers", "second"), [(1, ["short", "long"]), (2, ["long", "short"])])
def test_workers_that_take_turns_meet_both_clips(workers: int, second: list[str],
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrument, "judge_leak", lambda *_, **__: {})
    test: Any = PretendedTest([worker(300)] * workers)
    test.client = SimpleNamespace(session=threading.Lock, workers=lambda _: workers)
    leak_phase(test)
    assert [clip for cycle, clip, _ in test.sent if cycle == 1] == ["short", "long"]
    assert [clip for cycle, clip, _ in test.sent if cycle == 2] == second


def test_tasks_released_together_in_the_leak_phase_and_in_the_loaded_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrument, "judge_leak", lambda *_, **__: {})
    test: Any = PretendedTest([worker(300)])
    test.client = SimpleNamespace(session=threading.Lock, workers=lambda _: 1)
    test.settings = Settings(min_cycles=2, max_cycles=2, at_once=4)
    leak_phase(test)
    assert test.sent == [(0, "short", 4), (0, "long", 4)] + [(n, clip, 4) for n in (1, 2) for clip in ("short", "long")]
    test.sent.clear()
    loaded_phase(test, 5)
    assert test.sent == [(0, "short", 5), (1, "short", 5), (2, "short", 5)]
    assert test.phases == {"leak", "loaded"}


@pytest.mark.parametrize(("settings", "needed"), [
    (Settings(min_cycles=3, max_cycles=5), [True, False, True]), (Settings(min_cycles=9, max_cycles=3), [
        True, False, True])])
def test_kinds_of_memory_are_needed_of_the_first_cycle_and_of_the_last(
    settings: Settings, needed: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instrument, "judge_leak", lambda *_, **__: {})
    test: Any = PretendedTest([worker(300)])
    test.client = SimpleNamespace(session=threading.Lock, workers=lambda _: 1)
    test.settings = settings
    leak_phase(test)
    assert test.kinds_needed == needed


def after_first_use(**mb: float) -> TaskResult:
    """The last result of the warm-up round: private memory of each role."""
    memory = {role: RoleMemory(None, held + 30, None, held, None) for role, held in mb.items()}
    return TaskResult("long_c1_0002", "leak", "2026-01-01T00:00:00", "long.wav", 1.0, 3.0, 1, "success", cycle=0,
                      memory=memory)


@pytest.mark.parametrize(("now", "at_once", "confirmed", "size"), [
    pytest.param({"worker": 440.0, "api": 60.0}, None, True, None, id="within the limit"),
    pytest.param({"worker": 510.0, "api": 60.0}, None, True, 6, id="the worker holds more"),
    pytest.param({"worker": 300.0, "api": 290.0}, None, True, 6, id="the API holds more"),
    pytest.param({"worker": 510.0, "api": 60.0}, 3, True, 3, id="as many as the user asks for"),
    pytest.param({"worker": 510.0, "api": 60.0}, None, False, None, id="no level is known to be stable"),
    pytest.param({"api": 60.0}, None, True, None, id="the worker is gone"),
])
def test_loaded_cycles_follow_where_the_ramp_left_memory_behind(now: dict[str, float], at_once: int | None,
                                                                confirmed: bool, size: int | None) -> None:
    test: Any = PretendedTest([])
    test.settings = Settings(at_once=at_once, delta_limit_mb=200)
    test.log.results = [after_first_use(worker=300.0, api=60.0)]
    reading = Reading(0.0, {role: mb + 500 for role, mb in now.items()}, now, frozenset())
    progress: Any = SimpleNamespace(before=reading, good=[1, 2, 6], confirmed=confirmed)
    assert loaded_size(test, progress) == size

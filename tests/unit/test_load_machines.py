"""Load machines and the one that records, in one process: clocks that differ, machines that come, go or cannot help."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

import load_machines
from load_machines import (
    Clock,
    Fleet,
    FleetTest,
    LoadMachine,
    Message,
    Plan,
    Trip,
    clock_from,
    divide,
    limit_of,
    merged,
    own_facts,
)
from memory_leak_stress_test import (
    APIS,
    ApiClient,
    CannotStart,
    Clips,
    EndsEarly,
    LevelFacts,
    LoadHost,
    Outcome,
    Place,
    Reading,
    Reserve,
    ResultLog,
    Settings,
    TaskResult,
)
from unit.test_client import STATES, Service, answer, clip, service
from unit.test_ramp import QuietScreen

__all__ = ["clip", "service"]  # fixtures

LEVEL = Place("concurrency", level_run=1)
NOTHING = Reading(0.0, {}, {}, frozenset())


# ------------------------------------------------------------------------------------------------- pure rules


def test_a_clock_is_known_by_the_fastest_of_its_round_trips_to_half_of_it() -> None:
    slow = Trip(sent=10.0, there=5010.9, back=11.0, wall_there=103.9, wall_back=101.0)
    fast = Trip(sent=20.0, there=5020.01, back=20.02, wall_there=113.01, wall_back=110.02)
    clock = clock_from([slow, fast, slow])
    assert clock.offset == pytest.approx(5000.0)
    assert clock.wall_offset == pytest.approx(3.0)
    assert clock.error == pytest.approx(0.01)
    assert abs(clock_from([slow]).offset - 5000.0) <= clock_from([slow]).error, "a bound, however lopsided the trip"


@pytest.mark.parametrize(("users", "shares"), [
    ({"a": 2, "b": 1}, {"a": [0, 1], "b": [2]}),
    ({"a": 0, "b": 1}, {"b": [0]}),
    ({}, {}),
])
def test_every_machine_gets_as_many_tasks_as_it_has_users(users: dict[str, int], shares: dict[str, list[int]]) -> None:
    assert divide(users, sum(users.values())) == shares


FINE, SURE = own_facts(LevelFacts(0.01, 20.0, 5.0), 0.001), Clock(0.0, 0.0, 0.001)


@pytest.mark.parametrize(("facts", "clock", "limit"), [
    pytest.param(FINE, SURE, None, id="all well"),
    pytest.param(None, SURE, "lost", id="it never said how it did"),
    pytest.param(own_facts(LevelFacts(), 0.0, dropped=1), SURE, "lost", id="it had too few users"),
    pytest.param(FINE, Clock(0.0, 0.0, 0.051), "late", id="its clock is known to 51 ms only"),
    pytest.param(FINE, Clock(9e3, 9e3, 0.049), None, id="a clock may be as far off as it likes, if that is known"),
    pytest.param(own_facts(LevelFacts(), 0.051), SURE, "late", id="the message came late"),
    pytest.param(own_facts(LevelFacts(client_limited=True), 0.0), SURE, "overloaded", id="its own limit"),
])
def test_what_makes_a_machine_the_limit_of_a_level(facts: dict[str, Any] | None, clock: Clock,
                                                   limit: str | None) -> None:
    assert limit_of(facts, clock) == limit


def test_a_level_is_as_good_as_the_worst_of_its_machines() -> None:
    hosts = [LoadHost("a#1", 1, 20.0, 5.0), LoadHost("b#1", 1, 30.0, 4.0, limit="late"), LoadHost("c#1", 1, limit=None)]
    level = merged(LevelFacts(0.02, 1.0, 0.0), hosts)
    assert (level.submit_spread_s, level.client_cpu_percent, level.ticker_late_ms) == (0.02, 30.0, 5.0)
    assert level.client_limited
    assert level.load_hosts == hosts
    assert not merged(LevelFacts(), hosts[:1]).client_limited
    assert merged(LevelFacts(client_limited=True), hosts[:1]).client_limited, "tasks of all machines were not together"


# -------------------------------------------------------------------------------------- machines in one process


def simple(value: Any) -> Any:
    """The value as it comes out of a message: only what msgpack knows, and lists where there were tuples."""
    if isinstance(value, (list, tuple)):
        return [simple(item) for item in value]
    if isinstance(value, dict):
        return {key: simple(item) for key, item in value.items()}
    assert value is None or type(value) in (str, int, float, bool), value
    return value


def test_what_locust_shows_of_a_task_is_made_clean() -> None:
    outcome = Outcome(0, "success")
    assert load_machines.shown(outcome, "a\x1b[2J.wav") == ("a [2J.wav", "")
    outcome.failed("tool_fault", "Traceback\n  token=SECRET1 \x1b[31m")
    assert load_machines.shown(outcome, "a.wav") == ("a.wav tool_fault", "tool_fault: Traceback token=*** [31m")


class Carrier:
    """Stands for Locust: carries messages, and has as many users as are wanted, evenly on all machines.

    `shifts`: how far each machine's monotonic clock is ahead, seconds; its wall clock is 3 s ahead.
    """

    def __init__(self, shifts: Mapping[str, float], users: int = 4) -> None:
        self.fleet = Fleet(self.to_machine, self.present)
        self.shifts: dict[str, float] = {}
        self.there: dict[str, LoadMachine] = {}
        self.gone: set[str] = set()  # no more among those that are there
        self.silent: set[str] = set()  # nothing comes from them
        self.deaf = Counter[str]()  # how many messages do not reach them yet
        self.hold: Callable[[Message], None] = lambda message: None
        for name, shift in shifts.items():
            self.join(name, shift, users)

    def join(self, name: str, shift: float = 0.0, users: int = 4) -> None:
        self.shifts[name] = shift
        machine = self.there[name] = LoadMachine(lambda message: self.to_master(name, message),
                                                 lambda: self.present()[name])
        for _ in range(users):
            threading.Thread(target=self.user, args=(machine,), daemon=True).start()

    def user(self, machine: LoadMachine) -> None:
        while True:
            share, number = machine.waiting.get()
            share.run(number)

    def present(self) -> dict[str, int]:
        names = sorted(set(self.there) - self.gone)
        return {name: (self.fleet.wanted + len(names) - 1 - place) // len(names) for place, name in enumerate(names)}

    def to_machine(self, name: str, message: Message) -> None:
        message = simple(message)
        if message["kind"] == "release":
            message["at"] -= self.shifts[name]
        if self.deaf[name]:
            self.deaf[name] -= 1
        elif name not in self.gone:
            self.there[name].receive(message)

    def to_master(self, name: str, message: Message) -> None:
        message = simple(message)
        if message["kind"] == "pong":
            self.hold(message)
            message |= {"here": message["here"] + self.shifts[name], "wall": message["wall"] + 3.0}
        if name not in self.gone | self.silent:
            self.fleet.receive(name, message)


@pytest.fixture
def make(service: Service, clip: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
         ) -> Iterator[Callable[..., FleetTest]]:
    """Makes a test on the machines of a carrier."""
    monkeypatch.setattr("socket.gethostname", lambda: "host")
    monkeypatch.setattr(load_machines, "GATHER_S", 3.0)
    made: list[FleetTest] = []
    names = (tmp_path / f"run{n}.jsonl" for n in itertools.count())

    def build(carrier: Carrier, **settings: Any) -> FleetTest:
        s = dataclasses.replace(Settings(url=service.url, phase="concurrency", no_watch=True, task_timeout=10.0,
                                         stall_timeout=0.2, settle_timeout=0.05), **settings)
        client = ApiClient(s.url, APIS["asr-queue"])
        made.append(FleetTest(s, client, clip, clip, None, ResultLog(next(names)), cast(Any, QuietScreen()),
                              client.aborted, {}, Reserve(0.0), fleet=carrier.fleet))
        return made[-1]

    yield build
    for test in made:
        test.aborted.set()
        test.log.release()
        test.log.close()


def level_of(test: FleetTest, size: int) -> list[TaskResult]:
    return test.batch(test.short, size, NOTHING, LEVEL)[0]


def facts_of(results: list[TaskResult]) -> LevelFacts:
    level = results[-1].level
    assert level
    return level


def uploads(service: Service) -> list[bytes]:
    return [body for method, _, _, body in service.seen if method == "POST"]


def kinds(results: list[TaskResult]) -> list[str]:
    return sorted(r.error_kind or r.status for r in results)


def test_tasks_of_machines_whose_clocks_differ_by_hours_begin_together(
    make: Callable[..., FleetTest], service: Service
) -> None:
    test = make(Carrier({"a": 5000.0, "b": -5000.0}))
    results = level_of(test, 5)
    assert kinds(results) == ["success"] * 5
    assert sorted({r.load_host for r in results if r.load_host}) == ["host#1", "host#2"]
    assert sum(r.load_host == "host#1" for r in results) in (2, 3)
    assert all(0 <= (r.submit_offset or 0) < 1.0 for r in results)
    assert all(0 < (r.processing_time or 0) < 5.0 for r in results)
    assert len(set(uploads(service))) == len(uploads(service)) == 5, "no two machines send the same"
    level = facts_of(results)
    assert [host.limit for host in level.load_hosts] == [None, None] or level.client_limited  # on a busy machine
    assert [host.clock_offset_ms for host in level.load_hosts] == pytest.approx([3000.0] * 2, abs=50)
    assert max(host.clock_error_ms or 0.0 for host in level.load_hosts) < 50


def test_each_machine_polls_as_often_as_one_that_had_all_tasks(
    make: Callable[..., FleetTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def poll_wait(_elapsed: float, size: int, _failed: int) -> float:
        sizes.append(size)
        return 0.01

    monkeypatch.setattr("memory_leak_stress_test.poll_wait", poll_wait)
    level_of(make(Carrier({"a": 0.0, "b": 0.0})), 4)
    assert set(sizes) == {4}


@pytest.fixture
def held(service: Service) -> Iterator[threading.Event]:
    """Tasks are done once this is set."""
    done = threading.Event()
    service.polls = [lambda handler: STATES["done" if done.is_set() else "processing"](handler)]
    yield done
    done.set()


def in_background(act: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(act()), daemon=True)
    thread.start()
    return thread, results


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("way", ["gone", "silent"])
def test_a_machine_that_is_lost_makes_its_tasks_lost_and_the_level_no_limit_of_the_service(
    way: str, make: Callable[..., FleetTest], service: Service, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_machines, "REPORT_S", 0.05)
    monkeypatch.setattr(load_machines, "SILENT_S", 1.5)
    carrier = Carrier({"a": 0.0, "b": 0.0})
    test = make(carrier)
    thread, done = in_background(lambda: level_of(test, 4))
    load = cast(Any, carrier.fleet)
    until(lambda: load.load and len(load.load.accepted) == 4)
    (carrier.gone if way == "gone" else carrier.silent).add("b")
    until(lambda: len(load.load.missing) == 2)
    held.set()
    thread.join(10)
    (results,) = done
    assert kinds(results) == ["load_host_lost"] * 2 + ["success"] * 2
    name = carrier.fleet.machines["b"].name
    assert {r.load_host for r in results if r.error_kind} == {name}
    assert all(r.task_id for r in results), "the ids of lost tasks are known, so their end can be waited for"
    level = facts_of(results)
    assert level.client_limited
    assert {host.name: host.limit for host in level.load_hosts}[name] == "lost"
    events = cast(QuietScreen, test.screen).events
    assert f"WARNING the load machine {name} was lost: the level does not count" in events
    assert len({r.test_id for r in results}) == 4


def test_a_task_for_which_no_user_is_there_is_not_the_services_failure(
    make: Callable[..., FleetTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory_leak_stress_test.OPEN_S", 0.3)
    results = level_of(make(Carrier({"a": 0.0}, users=1)), 2)
    assert kinds(results) == ["load_host_lost", "success"]
    assert facts_of(results).client_limited


def test_a_machine_that_joins_late_takes_its_share_of_the_next_level(make: Callable[..., FleetTest]) -> None:
    carrier = Carrier({"a": 0.0})
    test = make(carrier)
    assert {r.load_host for r in level_of(test, 2)} == {"host#1"}
    carrier.join("b", 777.0)
    assert {r.load_host for r in level_of(test, 2)} == {"host#1", "host#2"}


def test_a_machine_that_missed_what_the_test_is_is_told_again(
    make: Callable[..., FleetTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_machines, "ASK_AGAIN_S", 0.05)
    carrier = Carrier({"a": 0.0})
    carrier.deaf["a"] = 2  # Locust counts a worker as there before it takes messages
    assert kinds(level_of(make(carrier), 1)) == ["success"]


def test_a_machine_that_is_told_again_prepares_once(
    make: Callable[..., FleetTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_machines, "ASK_AGAIN_S", 0.02)
    told: list[Message] = []
    begun: list[Plan] = []

    def slow(client: ApiClient, plan: Plan) -> None:
        begun.append(plan)
        until(lambda: len(told) >= 3)

    def send(name: str, message: Message) -> None:
        if message["kind"] == "plan":
            told.append(message)
        carrier.to_machine(name, message)

    monkeypatch.setattr(load_machines, "check_reach", slow)
    carrier = Carrier({"a": 0.0})
    carrier.fleet.send = send
    make(carrier)
    assert len(begun) == 1


def test_a_clock_that_is_not_known_well_enough_makes_the_level_inconclusive(make: Callable[..., FleetTest]) -> None:
    carrier = Carrier({"a": 0.0})
    carrier.hold = lambda message: time.sleep(0.12)
    level = facts_of(level_of(make(carrier), 1))
    assert level.client_limited
    assert [host.limit for host in level.load_hosts] == ["late"]
    assert (level.load_hosts[0].clock_error_ms or 0.0) > 50


def watching() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "_watch" in thread.name}


def test_the_end_of_the_test_reaches_every_machine(make: Callable[..., FleetTest], held: threading.Event) -> None:
    carrier = Carrier({"a": 0.0, "b": 0.0})
    test = make(carrier)
    others = watching()
    thread, done = in_background(lambda: level_of(test, 4))
    until(lambda: carrier.fleet.load and carrier.fleet.load.released.is_set())
    until(lambda: watching() - others)
    carrier.silent.add("b")
    test.aborted.set()
    thread.join(10)
    (results,) = done
    assert kinds(results) == ["interrupted"] * 4
    assert all(host.limit is None for host in facts_of(results).load_hosts), "nobody was lost"
    until(lambda: all(m.prepared and m.prepared.client.aborted.is_set() for m in carrier.there.values()))
    until(lambda: not watching() - others)  # though nothing more is heard of one


def test_messages_of_another_test_that_come_late_do_not_count(make: Callable[..., FleetTest], clip: Clips) -> None:
    clip.seed = 5
    carrier = Carrier({"a": 0.0})
    test = make(carrier)
    level_of(test, 1)
    load = carrier.fleet.load
    assert load
    carrier.fleet.receive("stranger", {"kind": "report", "batch": load.batch, "accepted": {0: "x"}})
    carrier.fleet.receive("a", {"kind": "report", "batch": 1, "accepted": {0: "x"}})
    assert "stranger" not in carrier.fleet.machines
    assert load.accepted.get(0) != "x", "the batches of every test have numbers of their own"


# ------------------------------------------------------------------------------------- machines that cannot help


def test_a_clip_that_differs_on_a_machine_ends_the_test_before_it_begins(
    make: Callable[..., FleetTest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    digests = iter(["mine", "theirs"])
    monkeypatch.setattr(load_machines, "digest_of", lambda clip: next(digests))
    with pytest.raises(CannotStart, match=r"host#1 cannot take part: .*clip.wav is another file here"):
        make(Carrier({"a": 0.0}))
    assert list(tmp_path.glob("*.jsonl")) == [], "nothing was recorded"


def test_a_test_that_is_ended_while_its_machines_are_gathered_leaves_no_file(
    make: Callable[..., FleetTest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(fleet: Fleet, size: int, aborted: threading.Event) -> dict[str, int]:
        aborted.set()
        return gather(fleet, size, aborted)

    gather = Fleet.gather
    monkeypatch.setattr(Fleet, "gather", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(Carrier({"a": 0.0}))
    assert list(tmp_path.glob("*.jsonl")) == []


def test_a_token_that_differs_on_a_machine_ends_the_test_before_it_begins(
    make: Callable[..., FleetTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = iter(["here", "there", "there"])
    monkeypatch.setattr(load_machines, "api_token", lambda: next(tokens))
    with pytest.raises(CannotStart, match="ASR_API_TOKEN is not the same"):
        make(Carrier({"a": 0.0}))


def test_an_api_that_a_machine_does_not_reach_ends_the_test_before_it_begins(
    make: Callable[..., FleetTest], service: Service
) -> None:
    with pytest.raises(CannotStart, match="does not answer at http://127.0.0.1:9 from here"):
        make(Carrier({"a": 0.0}), url="http://127.0.0.1:9")


def test_users_that_never_come_end_the_test(make: Callable[..., FleetTest], monkeypatch: pytest.MonkeyPatch) -> None:
    carrier = Carrier({"a": 0.0})
    test = make(carrier)
    monkeypatch.setattr(load_machines, "GATHER_S", 0.2)
    monkeypatch.setattr(load_machines, "ASK_AGAIN_S", 0.05)
    monkeypatch.setattr(carrier.fleet, "present", lambda: {"a": 1})
    asked = carrier.fleet.asked
    with pytest.raises(EndsEarly, match="of 2 users 1 are there"):
        level_of(test, 2)
    assert carrier.fleet.asked > asked + 1, "Locust is asked again for as many"


def test_a_level_needs_no_more_connections_than_its_machines_can_hold(make: Callable[..., FleetTest]) -> None:
    carrier = Carrier({"a": 0.0, "b": 0.0})
    test = make(carrier)
    level_of(test, 2)
    for machine in carrier.fleet.machines.values():
        machine.connections = 100
    carrier.fleet.machines["b"].connections = 60
    assert test.connections() == 120, "both get the same share"


def test_a_failed_task_is_the_services_also_from_a_machine(make: Callable[..., FleetTest], service: Service) -> None:
    service.submit = answer({"detail": "busy"}, 503)
    results = level_of(make(Carrier({"a": 0.0})), 1)
    assert (results[0].error_kind, results[0].error) == ("submit_http_503", "busy")
    assert not [host for host in facts_of(results).load_hosts if host.limit == "lost"]


def test_a_machine_that_comes_back_sends_nothing_of_a_level_that_was_given_up(
    make: Callable[..., FleetTest], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_machines, "SILENT_S", 1.0)
    carrier, late = Carrier({"a": 0.0, "b": 0.0}), list[Message]()
    test, receive = make(carrier), carrier.there["b"].receive
    monkeypatch.setattr(carrier.there["b"], "receive", lambda message: (
        late.append if message["kind"] == "release" else receive)(message))
    results = level_of(test, 4)
    assert kinds(results) == ["load_host_lost"] * 2 + ["success"] * 2
    assert len(uploads(service)) == 2
    for message in late:
        receive(message)
    time.sleep(0.5)
    assert len(uploads(service)) == 2, "tasks of a level that is over would meet those of the next one"
    monkeypatch.setattr(carrier.there["b"], "receive", receive)
    assert kinds(level_of(test, 4)) == ["success"] * 4, "its users are free again"

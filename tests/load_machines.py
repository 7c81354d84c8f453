"""Tasks of one level sent by several machines: what the ones that send them do, and the one that records.

Knows nothing of Locust, which starts the processes and carries the messages (see locustfile.py). A message is a dict
of simple values with its kind. All moments are readings of the monotonic clock of the machine that the message is for.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
import queue
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from memory_leak_stress_test import (
    LOAD_HOST_LOST,
    OPEN_S,
    OWN_FILES,
    ApiClient,
    ApiDescription,
    Batch,
    CannotStart,
    ClientMeter,
    Clip,
    EndsEarly,
    LevelFacts,
    LoadHost,
    Outcome,
    Recording,
    StressTest,
    api_token,
    read_clip,
    recording,
    rounded,
    shortened,
)

Message = dict[str, Any]

TRIPS = 5  # messages to a machine and back by which its clock is measured; the fastest counts
TRIP_S = 2.0  # longest wait for one
CLOCK_S = 0.05  # a machine whose clock is known no better, or that begins so late, does not begin with the others
LEAD_S = 0.1  # from the message that says when, to the release; and four of the longest round trips
REPORT_S = 1.0  # between reports of a machine whose tasks run
SILENT_S = 5.0  # a machine that has not reported for so long is lost
LOOK_S = 0.02
GATHER_S = 60.0  # longest wait for as many users as a level has tasks
ASK_AGAIN_S = 3.0
NAME_LIMIT = 60  # characters of a host's name


# ========================================================================================= a machine that sends


@dataclass(frozen=True)
class Plan:
    """What all levels of a test have in common."""

    url: str
    api: dict[str, Any]  # fields of ApiDescription
    ca_bundle: str | None
    clips: list[tuple[str, str]]  # path and digest
    seed: int
    vary_percent: float
    task_timeout: float
    token: str | None  # digest of the API's token: the token itself does not travel

    def to_message(self) -> Message:
        return {"kind": "plan", **dataclasses.asdict(self)}

    @classmethod
    def from_message(cls, message: Message) -> Plan:
        plan = cls(**{name: value for name, value in message.items() if name != "kind"})
        return dataclasses.replace(plan, clips=[(path, digest) for path, digest in plan.clips])

    def new_client(self) -> ApiClient:
        """A client of the service; a message has made lists of the description's tuples."""
        api: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in self.api.items()}
        return ApiClient(self.url, ApiDescription(**api), api_token(), Path(self.ca_bundle) if self.ca_bundle else None)


@dataclass(kw_only=True)
class Share(Batch):
    """The tasks of a level that this machine sends. Users take them, open connections and wait for the release."""

    batch: int
    level_size: int
    clips: dict[int, str]  # names of the recordings
    due: float = math.inf  # when they are released
    told: threading.Event = field(default_factory=threading.Event)  # when that is
    dropped: set[int] = field(default_factory=set)  # no user was there for them

    @property
    def size(self) -> int:
        """Of the whole level: as often as its tasks are polled by one machine, they are by several together."""
        return self.level_size

    def run(self, number: int) -> Outcome:
        outcome = lost(number, why="no_user") if number in self.dropped else super().run(number)
        return lost(number, why="lost") if self.called_off else outcome

    def accepted(self) -> dict[int, str]:
        """The service's ids of the tasks that it has accepted."""
        return {number: o.task_id for number, o in list(self.begun.items()) if o.task_id is not None}

    def drop_untaken(self) -> list[Outcome]:
        """Outcomes of the tasks that no user has taken when the others are released."""
        self.dropped = set(self.uploads) - set(self.begun)
        return [lost(number, why="no_user") for number in sorted(self.dropped)]


def lost(number: int, why: str, task_id: str | None = None) -> Outcome:
    """The outcome of a task whose machine was lost, or had no user for it."""
    outcome = Outcome(number, "failed", task_id=task_id)
    outcome.failed(LOAD_HOST_LOST, facts={"why": why})
    return outcome


def shown(outcome: Outcome, clip: str) -> tuple[str, str]:
    """What stands for a task on Locust's screen and page: clip and kind of failure, and why it failed."""
    return shortened(f"{clip} {outcome.error_kind or ''}"), shortened(outcome.words)


@dataclass(frozen=True)
class Prepared:
    """What a machine needs for its shares of a test."""

    plan: Plan
    client: ApiClient
    clips: dict[str, Clip]  # by the path in the plan

    def upload(self, path: str, turn: int) -> requests.PreparedRequest:
        """The submission of a clip that went out `turn` times before, from whatever machine."""
        return self.client.prepare(recording(self.clips[path], turn, self.plan.seed, self.plan.vary_percent))


class LoadMachine:
    """One process that sends tasks, on whatever machine it is."""

    def __init__(self, send: Callable[[Message], None], users: Callable[[], int]) -> None:
        self.send, self.users = send, users  # to the machine that records; how many users there are now
        self.waiting: queue.Queue[tuple[Share, int]] = queue.Queue()  # tasks for users to take
        self.preparing: Plan | None = None
        self.prepared: Prepared | None = None
        self.share: Share | None = None

    def receive(self, message: Message) -> None:
        """Take a message; what takes time is done in a thread, since others wait behind it."""
        kind = message["kind"]
        if kind == "ping":
            self.send({"kind": "pong", "sent": message["sent"], "here": time.monotonic(), "wall": time.time(),
                       "users": self.users()})
        elif kind == "plan" and self.preparing != (plan := Plan.from_message(message)):
            self.preparing = plan
            threading.Thread(target=self._prepare, args=(plan,), daemon=True).start()
        elif kind == "share" and self.prepared:
            threading.Thread(target=self._serve, args=(self.prepared, message), daemon=True).start()
        elif kind == "release" and self.share and self.share.batch == message["batch"]:
            self.share.due = message["at"]
            self.share.told.set()
        elif kind == "abort":
            self.abort()

    def abort(self) -> None:
        """The test ends before its end."""
        if self.prepared:
            self.prepared.client.aborted.set()
        if self.share:
            self.share.told.set()

    def _prepare(self, plan: Plan) -> None:
        """Get ready for a test, and say whether this machine can take part."""
        trouble, client = "", plan.new_client()
        try:
            self.prepared = Prepared(plan, client, {path: same_clip(Path(path), digest) for path, digest in plan.clips})
            check_reach(client, plan)
        except CannotStart as error:
            trouble = str(error)
        self.preparing = None
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        most = -1 if files == resource.RLIM_INFINITY else max(0, files - OWN_FILES)
        self.send({"kind": "ready", "host": socket.gethostname(), "connections": most, "trouble": trouble})

    def _serve(self, prepared: Prepared, message: Message) -> None:
        """See a share through: hand its tasks to users, release them when told, report what becomes of them."""
        uploads = {number: prepared.upload(path, turn) for number, path, turn in message["tasks"]}
        names = {number: Path(path).name for number, path, _ in message["tasks"]}
        share = Share(prepared.client, uploads, prepared.plan.task_timeout, lambda _: None, prepared.client.aborted,
                      batch=message["batch"], level_size=message["size"], clips=names)
        self.share = share
        for number in uploads:
            self.waiting.put((share, number))
        share.wait_until_open()
        self.send({"kind": "open", "batch": share.batch})
        share.told.wait()
        share.aborted.wait(max(0.0, share.due - time.monotonic()) if share.due < math.inf else 0.0)
        due = min(share.due, time.monotonic())
        late_s = time.monotonic() - due
        if late_s > SILENT_S / 2:  # it is taken for lost: what it sent now would meet the tasks of another level
            share.called_off = True
            share.begin(due)
            return
        dropped = share.drop_untaken()
        share.begin(due)
        self._report(share, dropped, late_s)

    def _report(self, share: Share, dropped: Iterable[Outcome], late_s: float) -> None:
        """Send every outcome when it comes, meanwhile a sign of life, and with the last one how this machine did."""
        meter, missing, outcomes = ClientMeter(), set(share.uploads), list[Outcome]()
        for outcome in dropped:
            share.outcomes.put(outcome)
        said: dict[int, str] = {}
        next_report = time.monotonic() + REPORT_S
        while missing:
            outcome_or_none = meter.wait_for(share.outcomes)
            if outcome_or_none:
                missing.discard(outcome_or_none.number)
                outcomes.append(outcome_or_none)
                facts = {} if missing else {
                    "facts": own_facts(meter.level_facts(outcomes), late_s, len(share.dropped))}
                self.send({"kind": "outcome", "batch": share.batch, "outcome": dataclasses.asdict(outcome_or_none),
                           **facts})
            if time.monotonic() >= next_report:
                next_report = time.monotonic() + REPORT_S
                new = {number: name for number, name in share.accepted().items() if number not in said}
                self.send({"kind": "report", "batch": share.batch, "accepted": new})
                said |= new


def own_facts(level: LevelFacts, late_s: float, dropped: int = 0) -> dict[str, Any]:
    """How a machine did in a level run: its self-check is that of a single one, for its own tasks.

    `late_s`: seconds by which it began late; `dropped`: tasks for which it had no user.
    """
    return {"cpu_percent": level.client_cpu_percent, "ticker_late_ms": level.ticker_late_ms,
            "overloaded": level.client_limited, "late_s": late_s, "dropped": dropped}


def digest_of(clip: Clip) -> str:
    return hashlib.sha256(clip.content).hexdigest()


def token_digest(seed: int) -> str | None:
    token = api_token()
    return token and hashlib.sha256(f"{seed}:{token}".encode()).hexdigest()


def same_clip(path: Path, digest: str) -> Clip:
    """The clip on this machine. Raises CannotStart where it is not the one of the machine that records."""
    clip = read_clip(path)
    if digest_of(clip) != digest:
        raise CannotStart(f"{path} is another file here than on the machine that records: copy that one here")
    return clip


def check_reach(client: ApiClient, plan: Plan) -> None:
    """Raises CannotStart where the API cannot be reached from here, or its token is not the same."""
    if token_digest(plan.seed) != plan.token:
        raise CannotStart("the environment variable ASR_API_TOKEN is not the same here as on the machine that records")
    try:
        with client.session() as session:
            client.open(session)
    except (requests.RequestException, ValueError) as error:
        raise CannotStart(f"the API does not answer at {client.url} from here ({type(error).__name__}); name it by an "
                          "address that all machines reach, with --host") from None


# ==================================================================================== the machine that records


@dataclass(frozen=True)
class Trip:
    """A message to a machine and back. Seconds of the monotonic clocks here and there, and of the wall clocks."""

    sent: float
    there: float
    back: float
    wall_there: float
    wall_back: float

    @property
    def took(self) -> float:
        return self.back - self.sent


@dataclass(frozen=True)
class Clock:
    """A machine's clocks against those here, seconds: as if it had answered in the middle of the round trip.

    The true offset is not further from it than `error`, half of the round trip (Cristian, Probabilistic clock
    synchronization, 1989).
    """

    offset: float  # of its monotonic clock
    wall_offset: float
    error: float


def clock_from(trips: Sequence[Trip]) -> Clock:
    """The clock by the fastest of some trips."""
    best = min(trips, key=lambda trip: trip.took)
    half = best.took / 2
    return Clock(best.there - (best.sent + half), best.wall_there - (best.wall_back - half), half)


def divide(users: Mapping[str, int], size: int) -> dict[str, list[int]]:
    """The numbers of a level's tasks for each machine, as many as it has users; `size` is the sum of the users."""
    numbers = iter(range(size))
    return {machine: list(itertools.islice(numbers, count)) for machine, count in users.items() if count}


def limit_of(facts: Mapping[str, Any] | None, clock: Clock) -> str | None:
    """Why a machine, and not the service, was the limit of a level run. `facts`: see own_facts(); None: it was lost."""
    if facts is None or facts["dropped"]:
        return "lost"
    if clock.error > CLOCK_S or facts["late_s"] > CLOCK_S:
        return "late"
    return "overloaded" if facts["overloaded"] else None


def merged(level: LevelFacts, hosts: Sequence[LoadHost]) -> LevelFacts:
    """Facts of a level run: its spread is that of all tasks, CPU and ticker are those of the machine that did worst."""
    cpu = [host.cpu_percent for host in hosts if host.cpu_percent is not None]
    late = [host.ticker_late_ms for host in hosts if host.ticker_late_ms is not None]
    return dataclasses.replace(
        level, client_cpu_percent=max(cpu, default=None), ticker_late_ms=max(late, default=None),
        client_limited=level.client_limited or any(h.limit for h in hosts), load_hosts=list(hosts))


@dataclass
class Machine:
    """A load machine as it is known here."""

    name: str = ""  # host name and number of the process; empty until it is ready
    connections: float = math.inf
    trouble: str = ""
    users: int = 0
    clock: Clock | None = None
    trips: list[Trip] = field(default_factory=list)
    heard: float = 0.0  # monotonic
    told: float = -math.inf  # monotonic: when it was last sent the plan


class Fleet:
    """The load machines, seen from the one that records."""

    def __init__(self, send: Callable[[str, Message], None], present: Callable[[], Mapping[str, int]]) -> None:
        self.send, self.present = send, present  # to a machine; those that are there, with their users
        self.machines: dict[str, Machine] = {}  # by what the carrier of messages calls them
        self.plan: Plan | None = None
        self.load: LevelLoad | None = None
        self.wanted = 1  # users
        self.asked = 0  # how often so many were asked for

    def receive(self, machine: str, message: Message) -> None:
        """Take a message from a machine; one that was not told of this test yet speaks of another."""
        known = self.machines.get(machine)
        if known is None:
            return
        known.heard = time.monotonic()
        if message["kind"] == "pong":
            known.users = message["users"]
            known.trips.append(Trip(message["sent"], message["here"], known.heard, message["wall"], time.time()))
        elif message["kind"] == "ready":
            host = shortened(message["host"], NAME_LIMIT)
            number = 1 + sum(m.name.rpartition("#")[0] == host for m in self.machines.values() if m is not known)
            known.connections = math.inf if message["connections"] < 0 else message["connections"]
            known.trouble = shortened(message["trouble"])
            known.name = known.name or f"{host}#{number}"
        elif self.load and self.load.batch == message["batch"]:
            self.load.receive(machine, message)

    def gather(self, size: int, aborted: threading.Event) -> dict[str, int]:
        """Wait until there are `size` users on machines that are ready and whose clocks are known; users by machine.

        Empty where the test is aborted. Raises EndsEarly.
        """
        if size == self.wanted and sum(self.present().values()) != size:
            self.asked += 1  # users that went with a lost machine come back when they are asked for again
        self.wanted = size
        end, ask_again = time.monotonic() + GATHER_S, time.monotonic() + ASK_AGAIN_S
        while not aborted.is_set():
            present = self.present()
            self._prepare(present)
            ready = all(self.machines[m].name and not self.machines[m].trouble for m in present)
            if ready and present and sum(present.values()) == size:
                self.measure_clocks(present, aborted)
                users = {m: self.machines[m].users for m in present}
                if sum(users.values()) == size and all(self.machines[m].clock for m in present):
                    return users
            if time.monotonic() > ask_again:
                self.asked += 1
                ask_again = time.monotonic() + ASK_AGAIN_S
            if time.monotonic() > end:
                raise EndsEarly(f"the test ends early: of {size} users {sum(present.values())} are there after "
                                f"{GATHER_S:.0f} s, on {len(present)} load processes. What was recorded is kept; see "
                                "what they print")
            aborted.wait(LOOK_S)
        return {}

    def _prepare(self, present: Iterable[str]) -> None:
        """Tell machines that are new what the test is. Raises EndsEarly where one cannot take part.

        One that does not answer is told again: Locust counts a worker as there before it takes such messages.
        """
        assert self.plan
        for machine in present:
            known = self.machines.setdefault(machine, Machine())
            if known.trouble:
                raise EndsEarly(f"the load machine {known.name} cannot take part: {known.trouble}")
            if not known.name and time.monotonic() > known.told + ASK_AGAIN_S:
                known.told = time.monotonic()
                self.send(machine, self.plan.to_message())

    def measure_clocks(self, machines: Iterable[str], aborted: threading.Event) -> None:
        """Measure every machine's clock by messages there and back, one after another, of all machines together."""
        waiting = dict.fromkeys(machines, 0)
        for machine in waiting:
            self.machines[machine].trips, self.machines[machine].clock = [], None
        end = time.monotonic() + TRIP_S
        while waiting and time.monotonic() < end and not aborted.is_set():
            for machine, sent in list(waiting.items()):
                back = len(self.machines[machine].trips)
                if back >= TRIPS:
                    del waiting[machine]
                elif back >= sent:
                    waiting[machine] += 1
                    self.send(machine, {"kind": "ping", "sent": time.monotonic()})
            aborted.wait(LOOK_S / 10)
        for known in self.machines.values():
            if known.trips:
                known.clock = clock_from(known.trips)

    def connections(self) -> float:
        """How many all machines that are there can hold, where each has the same share."""
        there = [self.machines[m].connections for m in self.present() if m in self.machines]
        return min(there) * len(there) if there else math.inf

    def is_lost(self, machine: str) -> bool:
        return machine not in self.present() or time.monotonic() - self.machines[machine].heard > SILENT_S


@dataclass(kw_only=True)
class LevelLoad(Batch):
    """The tasks of one level on all machines; used in place of a batch of threads."""

    fleet: Fleet
    batch: int
    recordings: Sequence[Recording]
    shares: dict[str, list[int]] = field(default_factory=dict)
    clocks: dict[str, Clock] = field(default_factory=dict)
    ready: set[str] = field(default_factory=set)  # machines whose connections are open
    accepted: dict[int, str] = field(default_factory=dict)
    missing: set[int] = field(default_factory=set)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.recordings)

    def connect(self) -> None:
        """Give every machine its share, whose connections it begins to open. Raises EndsEarly."""
        fleet, self.missing = self.fleet, set(range(self.size))
        self.shares = divide(fleet.gather(self.size, self.aborted), self.size)
        fleet.load = self
        self.clocks = {m: clock for m in self.shares if (clock := fleet.machines[m].clock)}
        for machine, numbers in self.shares.items():
            fleet.machines[machine].heard = time.monotonic()
            tasks = [(n, str(self.recordings[n].clip.path), self.recordings[n].number) for n in numbers]
            fleet.send(machine, {"kind": "share", "batch": self.batch, "size": self.size, "tasks": tasks})

    def release(self) -> None:
        """Tell every machine in its own clock when all tasks begin, when all connections are open."""
        self._wait_for_machines()
        at = time.monotonic() + LEAD_S + 8 * max((clock.error for clock in self.clocks.values()), default=0.0)
        for machine in self.shares:
            self.fleet.send(machine, {"kind": "release", "batch": self.batch, "at": at + self.clocks[machine].offset})
        self.aborted.wait(max(0.0, at - time.monotonic()))
        self.begin(at)
        threading.Thread(target=self._watch, daemon=True).start()

    def _wait_for_machines(self) -> None:
        end = time.monotonic() + OPEN_S + SILENT_S
        while set(self.shares) - self.ready and time.monotonic() < end and not self.aborted.is_set():
            if any(machine not in self.fleet.present() for machine in self.shares):
                return
            self.aborted.wait(LOOK_S)
        for machine in self.shares:
            self.fleet.machines[machine].heard = time.monotonic()

    def receive(self, machine: str, message: Message) -> None:
        """Take a message of this level run from a machine."""
        if message["kind"] == "open":
            self.ready.add(machine)
        elif message["kind"] == "report":
            self.accepted |= message["accepted"]
        elif message["kind"] == "outcome":
            if "facts" in message:
                self.facts[machine] = message["facts"]
            self._ended(machine, Outcome(**message["outcome"]))

    def _ended(self, machine: str, outcome: Outcome) -> None:
        """Hand on an outcome; one that comes after its machine was taken for lost does not count."""
        if outcome.number in self.missing:
            self.missing.discard(outcome.number)
            outcome.load_host = self.fleet.machines[machine].name
            self.last_progress = time.monotonic()
            self.outcomes.put(outcome)

    def _watch(self) -> None:
        """Until all tasks or the test have ended: give up those of machines that are lost, and pass on its end."""
        while self.missing and self.fleet.load is self:
            for machine, numbers in self.shares.items():
                left = [number for number in numbers if number in self.missing]
                if left and self.fleet.is_lost(machine) and not self.aborted.is_set():
                    for number in left:
                        self._ended(machine, lost(number, "lost", self.accepted.get(number)))
            if self.aborted.is_set():
                for machine in self.shares:
                    self.fleet.send(machine, {"kind": "abort"})
                return
            time.sleep(LOOK_S)

    def hosts(self) -> list[LoadHost]:
        """How each machine did."""
        return [self._host(machine, self.fleet.machines[machine].name, len(numbers))
                for machine, numbers in self.shares.items()]

    def _host(self, machine: str, name: str, tasks: int) -> LoadHost:
        facts, clock = self.facts.get(machine), self.clocks[machine]
        known, limit = facts or {}, None if self.aborted.is_set() else limit_of(facts, clock)
        return LoadHost(name, tasks, known.get("cpu_percent"), known.get("ticker_late_ms"),
                        rounded(1000 * clock.error), rounded(1000 * clock.wall_offset), limit)


@dataclass(kw_only=True)
class FleetTest(StressTest):
    """A test whose tasks are sent by load machines."""

    fleet: Fleet

    def __post_init__(self) -> None:
        """Tell the machines what the test is. Raises CannotStart where one cannot take part, KeyboardInterrupt."""
        s, clips = self.settings, self.short.clips
        api = {name: value for name, value in dataclasses.asdict(s.api).items() if name != "watch"}
        digests = [(str(clip.path), digest_of(clip)) for clip in clips]
        self.fleet.plan = Plan(
            s.url, api, str(s.ca_bundle) if s.ca_bundle else None, digests, self.short.seed, s.vary_length,
            s.task_timeout, token_digest(self.short.seed))
        self.fleet.machines.clear()
        try:
            self.fleet.gather(1, self.aborted)
            if self.aborted.is_set():
                raise KeyboardInterrupt
        except (EndsEarly, KeyboardInterrupt) as error:
            self.log.close()
            self.log.path.unlink()  # nothing is in it
            if isinstance(error, KeyboardInterrupt):
                raise
            raise CannotStart(str(error).removeprefix("the test ends early: ")) from None

    def tasks(self, recordings: Sequence[Recording]) -> Batch:
        batch = self.short.seed << 20 | self.batches + 1  # no number of another test, whose messages may come late
        return LevelLoad(self.client, {}, self.settings.task_timeout, self.given_up, self.aborted, fleet=self.fleet,
                         batch=batch, recordings=recordings)

    def connections(self) -> float:
        return self.fleet.connections()

    def _level_facts(self, tasks: Batch, meter: ClientMeter, outcomes: Sequence[Outcome]) -> LevelFacts:
        """A new meter in place of this machine's: it takes no times, so its own load spoils none."""
        assert isinstance(tasks, LevelLoad)
        level = merged(super()._level_facts(tasks, ClientMeter(), outcomes), tasks.hosts())
        for host in level.load_hosts:
            if host.limit:
                self.screen.event(f"WARNING the load machine {host.name} was {host.limit}: the level does not count")
        return level

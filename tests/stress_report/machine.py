"""What the record says of the whole machine: memory that no watched process holds, and the limits of containers."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memory_leak_stress_test import Container, GrowthVerdict, MachineMemory, TaskResult, judge_growth
from stress_report.memory import Rates, RoleFindings, growth_rates, pace
from stress_report.recording import RecordedRun

IN_STEP_SHARE = 0.8  # of the cycles: what grows with the tasks grows in nearly every one, a busy neighbour does not
STEP_SHARE = 0.25  # of the tolerance: less in a cycle is no growth
BY_ITSELF = 0.5  # of the growth per cycle, at the rate seen while no task ran: nearer to the clock's than to the tasks'
PLACE_SHARE = 0.5  # of the growth of shared memory: the place that has so much of it is named
SUMS = ("shared", "others", "kernel")  # what is judged, besides each name of unwatched processes


@dataclass(frozen=True)
class Part:
    """A part of the machine's memory over the judged cycles. MiB."""

    what: str  # used | watched | others | shared | kernel, or process: those of one name
    readings: list[float]  # at rest after each cycle
    growth: GrowthVerdict
    rates: Rates | None = None
    name: str | None = None  # of the processes
    program: str | None = None  # that the largest of them runs
    count: int = 0
    pid: int | None = None  # of the largest of them
    place: str | None = None  # where shared memory grew most

    @property
    def in_step(self) -> bool:
        """Whether it grew with the tasks: steadily, in nearly every cycle, and not as much while none ran."""
        growth = self.growth
        steps = [b - a for a, b in itertools.pairwise(self.readings)]
        least = STEP_SHARE * growth.facts["tolerance_mb"]
        often = bool(steps) and sum(step >= least for step in steps) >= IN_STEP_SHARE * len(steps)
        return (growth.verdict == "LEAK" or growth.reason == "unconfirmed") and often and not self.by_itself

    @property
    def tells(self) -> bool:
        """Whether it grew enough over all cycles to be worth a line of its own."""
        return 2 * (self.growth.mb_per_cycle or 0.0) >= float(self.growth.facts["tolerance_mb"])

    @property
    def by_itself(self) -> bool:
        return self.rates is not None and (self.rates.idle_share or 0.0) >= BY_ITSELF


@dataclass(frozen=True)
class Killed:
    """Processes that the kernel killed in a container while a batch of so many concurrent tasks ran."""

    count: int
    concurrency: int
    container: Container


@dataclass(frozen=True)
class Reached:
    """When growth that is sure will have used up a limit: a container's, or the machine's memory (None). MiB."""

    container: Container | None
    limit_mb: float
    left_mb: float
    cycles: int
    tasks: int
    seconds: float | None


@dataclass(frozen=True)
class MachineFindings:
    """Where the machine's memory went in a phase of cycles."""

    parts: list[Part]  # used, watched, shared, others, kernel, where they were read
    named: list[Part]  # unwatched processes by name, those that grew fastest first
    grew: Part | None  # with the tasks, though no watched process holds it
    reached: Reached | None
    containers: list[Container] = field(default_factory=list)  # as they were last, with their highest figures
    killed: list[Killed] = field(default_factory=list)
    missing: Mapping[str, str] = field(default_factory=dict)  # what could not be read, and the system's words


def judge_machine(run: RecordedRun, phase: str, roles: Mapping[str, RoleFindings]) -> MachineFindings | None:
    """What the machine did in a phase of cycles; None where the record does not say (older ones, --no-watch)."""
    looks = [result for result in run.results if result.machine]
    if not looks:
        return None
    judged = [r for r in run.phase(phase) if r.cycle]
    batches = list({r.batch: r for r in judged}.values())
    ends = [m for r in {r.cycle: r for r in batches}.values() if (m := r.machine)]
    parts: list[Part] = []
    named: list[Part] = []
    if ends:
        tasks, seconds = pace(judged)
        rule = Rule(run.setting("tolerance_mb"), run.setting("min_cycles"), tasks, seconds,
                    [r.machine for r in batches if r.machine])
        parts = [part for what in ("used", "watched", *SUMS) if (part := rule.sum(what, ends))]
        named = rule.processes(ends)
    by_what = {part.what: part for part in parts}
    suspects = [by_what.get("shared"), *named, by_what.get("kernel"), by_what.get("others")]
    grew = next((part for part in suspects if part and part.in_step), None)
    last = looks[-1].machine
    reached = when_reached(batches, roles, judged) if ends else None
    return MachineFindings(parts, named, grew, reached, containers_of(looks), killed_in(looks),
                           last.missing if last else {})


@dataclass(frozen=True)
class Rule:
    """The growth rule for parts of the machine's memory."""

    tolerance_mb: float
    min_cycles: int
    tasks: int  # per cycle
    seconds: float | None  # per cycle
    batches: Sequence[MachineMemory]

    def judge(self, what: str, readings: list[float], idle: Sequence[tuple[float, float]] = (), apart: float = 1.0,
              **more: Any) -> Part:
        """`apart`: cycles from one reading to the next."""
        growth = judge_growth(readings, tolerance_mb=self.tolerance_mb, min_cycles=self.min_cycles)
        growth = dataclasses.replace(growth, facts=growth.facts | {"tolerance_mb": self.tolerance_mb},
                                     mb_per_cycle=growth.mb_per_cycle and growth.mb_per_cycle / apart)
        rates = None if growth.mb_per_cycle is None else growth_rates(growth.mb_per_cycle, self.tasks, self.seconds,
                                                                      idle)
        return Part(what, readings, growth, rates, **more)

    def sum(self, what: str, ends: Sequence[MachineMemory]) -> Part | None:
        """By the cycles in which it could be read, so that one that is missing clears nothing; None: by none."""
        known = [(n, mb) for n, m in enumerate(ends) if (mb := getattr(m, f"{what}_mb")) is not None]
        if not known:
            return None
        first, last = known[0][0], known[-1][0]
        idle = [(m.rest_s, m.rest_mb[what]) for m in self.batches if what in m.rest_mb]
        return self.judge(what, [mb for _, mb in known], idle, apart=max(1.0, (last - first) / max(1, len(known) - 1)),
                          place=grown_place(ends[first], ends[last]) if what == "shared" else None)

    def processes(self, ends: Sequence[MachineMemory]) -> list[Part]:
        """The unwatched processes by name that are there in every cycle, those that grew fastest first."""
        each = [{other.name: other for other in m.others} for m in ends]
        idle: dict[str, list[tuple[float, float]]] = {}
        for m in self.batches:
            for other in m.others:
                if other.rest_mb is not None:
                    idle.setdefault(other.name, []).append((m.rest_s, other.rest_mb))
        parts = [self.judge("process", [them[name].private_mb for them in each], idle.get(name, ()), name=name,
                            program=last.program or name, count=last.count, pid=last.pid)
                 for name, last in each[-1].items() if all(name in them for them in each)]
        return sorted(parts, key=lambda part: -(part.growth.mb_per_cycle or 0.0))


def grown_place(first: MachineMemory, last: MachineMemory) -> str | None:
    """The tmpfs that most of the growth of shared memory is in; None where none has so much."""
    grown = {place: mb - first.tmpfs.get(place, 0.0) for place, mb in last.tmpfs.items()}
    place = max(grown, key=lambda place: grown[place], default=None)
    total = (last.shared_mb or 0.0) - (first.shared_mb or 0.0)
    return place if place is not None and grown[place] > PLACE_SHARE * total else None


def when_reached(batches: Sequence[TaskResult], roles: Mapping[str, RoleFindings],
                 judged: Sequence[TaskResult]) -> Reached | None:
    """The limit that growth which is sure reaches first; None where nothing surely grows."""
    last = next((r.machine for r in reversed(batches) if r.machine), None)
    rates = {role: v.rates.per_cycle for role, v in roles.items() if v.rates and surely_grows(v.growth)
             and not role.endswith(" GPU")}
    if last is None or not rates:
        return None
    limits: list[tuple[float, float, float, Container | None]] = [
        (sum(rates.values()), last.total_mb - last.used_mb, last.total_mb, None)]
    for container in last.containers:
        rate = sum(mb for role, mb in rates.items() if role in container.roles)
        limits += [(rate, container.limit_mb - container.working_set_mb, container.limit_mb, container)] * (rate > 0)
    rate, left, limit, container_or_none = min(limits, key=lambda each: each[1] / each[0])
    tasks, seconds = pace(judged)
    cycles = max(0, int(left / rate))
    return Reached(container_or_none, limit, left, cycles, cycles * tasks, seconds and cycles * seconds)


def surely_grows(growth: GrowthVerdict) -> bool:
    """What recycling or the end of a work-horse gives back reaches no limit."""
    return growth.reason in ("steady_growth", "fast_growth", "small_growth")


def containers_of(looks: Sequence[TaskResult]) -> list[Container]:
    """Each container as it was last seen, with the highest figures of the whole run and all that was killed in it."""
    found: dict[str, list[Container]] = {}
    for container in (c for r in one_a_batch(looks) if r.machine for c in r.machine.containers):
        found.setdefault(container.path, []).append(container)
    return [dataclasses.replace(
        seen[-1], most_mb=max(c.most_mb for c in seen), peak_mb=max(c.peak_mb or 0.0 for c in seen) or None,
        oom_kills=None if all(c.oom_kills is None for c in seen) else sum(c.oom_kills or 0 for c in seen))
        for seen in found.values()]


def killed_in(looks: Sequence[TaskResult]) -> list[Killed]:
    return [Killed(c.oom_kills, r.concurrency, c) for r in one_a_batch(looks) if r.machine
            for c in r.machine.containers if c.oom_kills]


def one_a_batch(results: Sequence[TaskResult]) -> list[TaskResult]:
    return list({(r.phase, r.batch): r for r in results}.values())


def withheld(roles: Mapping[str, RoleFindings], works: str, machine: MachineFindings | None) -> dict[str, RoleFindings]:
    """No NO LEAK for the role that does the tasks where memory grew with them outside the watched processes."""
    found, part = roles.get(works), machine.grew if machine else None
    if found is None or part is None or machine is None or found.growth.verdict != "NO LEAK":
        return dict(roles)
    watched = next((each.growth.mb_per_cycle for each in machine.parts if each.what == "watched"), None)
    kind = {"process": "process" if part.count == 1 else "processes"}.get(part.what, part.what)
    facts = {"rate": part.growth.mb_per_cycle, "held": watched, "before": part.readings[0], "after": part.readings[-1],
             "name": part.name, "program": part.program, "count": part.count, "pid": part.pid, "place": part.place}
    reason = f"unwatched_{kind if part.what != 'shared' or part.place else 'shared_anywhere'}"
    growth = dataclasses.replace(found.growth, verdict="INCONCLUSIVE", reason=reason,
                                 facts=found.growth.facts | facts)
    return {**roles, works: dataclasses.replace(found, growth=growth)}

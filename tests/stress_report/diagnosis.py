"""Which kind of memory grew, and what else a process kept: threads, open files. Facts; saying.py has the words."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from memory_leak_stress_test import DIAGNOSTIC_TOOLS, ROLES, WINDOW, Holdings, Kinds, TaskResult, judge_growth
from stress_report.findings import Note
from stress_report.memory import RoleFindings
from stress_report.recording import RecordedRun

PRIVATE = ("heap", "arenas", "large", "shared", "stacks", "copied")  # kinds that add up to private memory
COUNTS = ("threads", "files")
SHOWN_MB = 1.0  # a smaller change of a kind is an allocator's, or a list's that grew by one
GREW_MB = 10.0  # less growth over all cycles has no kind worth a sentence
MOST_OF = 0.6  # of the growth: then this kind explains it
LEAST_RISE = 10  # threads or files over all cycles: a few more are no leak worth a line
MANY_THREADS = 4  # glibc gives each thread that allocates an arena of its own, up to 8 per core
GOES_ON = 1 / 3  # of the growth of mapped files in the second half of the cycles: not first use
SAME_SHARE = 0.7  # a rate of growth that is so much of the one before is the same
ARENA_TEST = "MALLOC_ARENA_MAX=2 MALLOC_TRIM_THRESHOLD_=131072"
FEW_ARENAS = 4  # with no more than these there is little to fragment


@dataclass(frozen=True)
class Kept:
    """What one process held at rest after each cycle of a phase that it lived through."""

    role: str
    pid: int
    cycles: list[int]
    held: list[Holdings]

    @property
    def kinds(self) -> list[tuple[int, Kinds]]:
        """(cycle, kinds) where the mappings were read."""
        return [(cycle, held.kinds) for cycle, held in zip(self.cycles, self.held, strict=True) if held.kinds]

    @property
    def changes(self) -> dict[str, float]:
        """MiB that each kind gained between the first and the last time that the mappings were read; {}: not known."""
        if len(self.kinds) < 2:
            return {}
        (_, first), (_, last) = self.kinds[0], self.kinds[-1]
        return {kind: of_kind(last, kind) - of_kind(first, kind) for kind in (*PRIVATE, "lazy", "mapped")}

    @property
    def span(self) -> int:
        """Cycles between these two."""
        return self.kinds[-1][0] - self.kinds[0][0]

    def counts(self, what: str) -> list[int | None]:
        return [getattr(held, what) for held in self.held]


@dataclass(frozen=True)
class Rising:
    """Threads or open files of a role that rise with the tasks. A pool that is not full yet looks the same."""

    what: str  # threads | files
    role: str
    pid: int  # the process whose count rose most
    first: int  # of all its processes, after the first judged cycle
    last: int
    per_cycle: float
    per_task: float
    sockets: bool  # most of the files are sockets
    tasks_left: int | None  # until this process has as many open files as it may have


@dataclass(frozen=True)
class Command:
    """What a user can do next: why, the command, and whether its program is on the machine of the test."""

    why: str
    command: str
    tool: str | None  # None: it needs no program of its own
    installed: bool | None  # None: not recorded


@dataclass(frozen=True)
class Diagnosis:
    """What grew beside the verdicts, and what follows from it."""

    grown: dict[str, Kept] = field(default_factory=dict)  # role -> the process of it that grew most, where one changed
    rising: list[Rising] = field(default_factory=list)
    conclusions: list[Note] = field(default_factory=list)  # what follows from the kinds, the most important first
    commands: list[Command] = field(default_factory=list)
    read: bool = False  # mappings were read at least twice
    hidden: list[str] = field(default_factory=list)  # roles whose mappings could not be read
    cycles: tuple[int, int] = (0, 0)  # the first and the last in which mappings were read, else the counts

    @property
    def first(self) -> Rising | Note | None:
        """The one thing that belongs on the first screen: a failure waiting, else what kind of memory grew."""
        return self.rising[0] if self.rising else self.conclusions[0] if self.conclusions else None


def of_kind(kinds: Kinds, kind: str) -> float:
    """MiB."""
    mb: float = getattr(kinds, f"{kind}_mb")
    return mb


def diagnose(run: RecordedRun, roles: Mapping[str, RoleFindings], phase: str) -> Diagnosis:
    """What grew over the cycles of a phase; empty where the record holds nothing of it."""
    last_lines = {r.cycle: r for r in run.phase(phase) if r.cycle}
    kept = [each for role in ROLES for each in kept_by(role, list(last_lines.values()))]
    tasks = max(1, round(sum(bool(r.cycle) for r in run.phase(phase)) / max(1, len(last_lines))))
    rising = [found for role in ROLES for what in COUNTS
              if (found := rise(what, [each for each in kept if each.role == role], tasks))]
    grown = {role: most for role in ROLES if (most := grew_most([k for k in kept if k.role == role], roles.get(role)))}
    files = [note for each in grown.values() if (note := mapped(each, run.setting("tolerance_mb")))]
    tools = run.results[0].host.get("tools") if run.results else None
    known = [tool for tool in DIAGNOSTIC_TOOLS if tool in tools] if isinstance(tools, list) else None
    spans = [[cycle for cycle, _ in each.kinds] for each in kept if len(each.kinds) > 1]
    looks = spans or [each.cycles for each in kept]
    hidden = {each.role for each in kept} - {each.role for each in kept if each.kinds}
    cycles = (min(look[0] for look in looks), max(look[-1] for look in looks)) if looks else (0, 0)
    steps = next_steps(grown, roles, rising, kept, known)
    return Diagnosis(grown, rising, [*leaking_kinds(grown, roles), *files, *gpu_unknown(run)], steps, bool(spans),
                     sorted(hidden, key=ROLES.index), cycles)


def gpu_unknown(run: RecordedRun) -> list[Note]:
    """That a GPU is used, and the driver never says by whom."""
    peaks = [memory.gpu.peak_mb for r in run.results for memory in r.memory.values() if memory.gpu]
    return [Note("gpu_unknown")] if peaks and not any(mb is not None for mb in peaks) else []


def kept_by(role: str, last_lines: Sequence[TaskResult]) -> list[Kept]:
    """The role's processes that lived through the same cycles, as many of these (by their last lines) as any did."""
    lives: dict[tuple[int, str], list[tuple[int, Holdings]]] = {}
    for result in last_lines:
        for process in result.memory[role].processes if role in result.memory else ():
            if process.holdings and not process.ended:
                lives.setdefault((process.pid, process.started), []).append((result.cycle or 0, process.holdings))
    kept = [Kept(role, pid, [cycle for cycle, _ in life], [held for _, held in life])
            for (pid, _), life in lives.items() if len(life) > 1]
    longest = max(kept, key=lambda each: (len(each.cycles), each.cycles[-1]), default=None)
    return [each for each in kept if longest and each.cycles == longest.cycles]


def rise(what: str, kept: Sequence[Kept], tasks: int) -> Rising | None:
    """Whether these processes' threads or files together rise with the tasks.

    Counts have no noise, so they do where they rose in every cycle up to the last, by enough in all; where they did so
    in most cycles only, the growth rule decides.
    """
    series = [each.counts(what) for each in kept]
    known = [[one for one in counts if one is not None] for counts in series]
    if not known or any(len(counts) < len(each) for counts, each in zip(known, series, strict=True)):
        return None
    sums = [sum(counts) for counts in zip(*known, strict=True)]
    every = len(sums) >= WINDOW and all(b > a for a, b in itertools.pairwise(sums))
    if sums[-1] - sums[0] < LEAST_RISE or not (every or judge_growth(sums, tolerance_mb=1.0).verdict == "LEAK"):
        return None
    gains = [counts[-1] - counts[0] for counts in known]
    most = kept[gains.index(max(gains))]
    cycles = most.cycles[-1] - most.cycles[0]
    held, before = most.held[-1], most.held[0]
    left = (held.files_limit or 0) - (held.files or 0) if what == "files" and held.files_limit else None
    sockets = what == "files" and 2 * ((held.sockets or 0) - (before.sockets or 0)) > max(gains)
    return Rising(what, most.role, most.pid, sums[0], sums[-1], (sums[-1] - sums[0]) / cycles,
                  (sums[-1] - sums[0]) / cycles / tasks, sockets,
                  None if left is None else max(0, int(left * cycles * tasks / max(gains))))


def grew_most(kept: Sequence[Kept], findings: RoleFindings | None) -> Kept | None:
    """The process to show of a role: the one that its verdict names, else the one that changed most; None: none did."""
    changed = {each.pid: each for each in kept if worth_showing(each)}
    if findings and findings.pid in changed:
        return changed[findings.pid]
    return max(changed.values(), key=lambda each: sum(map(abs, each.changes.values())), default=None)


def worth_showing(each: Kept) -> bool:
    counts = [each.counts(what) for what in COUNTS]
    return any(abs(mb) >= SHOWN_MB for mb in each.changes.values()) or any(c[0] != c[-1] for c in counts)


def leaking_kinds(grown: Mapping[str, Kept], roles: Mapping[str, RoleFindings]) -> list[Note]:
    """What follows from the kinds that grew, of each role that is not cleared, or that surely grows a little."""
    found = []
    for role, each in grown.items():
        growth = roles[role].growth if role in roles else None
        counts = growth and (growth.verdict in ("LEAK", "INCONCLUSIVE") or growth.reason == "small_growth")
        if counts and sum(each.changes.get(kind, 0.0) for kind in PRIVATE) >= GREW_MB:
            found.append(conclude(each))
    return found


def conclude(each: Kept) -> Note:
    """The sentence that follows from which kinds of a process's private memory grew, with its figures."""
    changes, last = each.changes, each.kinds[-1][1]
    grown = {kind: changes[kind] for kind in PRIVATE if changes[kind] > 0}
    total = sum(grown.values())
    small = grown.get("heap", 0.0) + grown.get("arenas", 0.0)
    kind = next((kind for kind in ("large", "shared", "stacks", "copied") if grown.get(kind, 0.0) >= MOST_OF * total),
                None)
    threads = each.held[-1].threads or 0
    facts = {"role": each.role, "pid": each.pid, "total": total, "mb": grown.get(kind or "", small),
             "arenas": last.arenas, "threads": threads, "test": ARENA_TEST, "allocator": last.allocator,
             "lazy": changes["lazy"]}
    if each.role == "redis":
        return Note("grew_redis", facts)
    if changes["lazy"] >= MOST_OF * total:
        return Note("grew_lazy", facts)
    if small >= MOST_OF * total and last.allocator == "glibc":
        most = last.tuned.get("MALLOC_ARENA_MAX", "")
        if most.isdecimal() and int(most) <= FEW_ARENAS:
            return Note("grew_tuned", facts | {"test": tuple(f"{name}={value}" for name, value in last.tuned.items())})
        many = threads >= MANY_THREADS and grown.get("arenas", 0.0) >= MOST_OF * small
        return Note("grew_arenas" if many else "grew_heap", facts)
    if kind == "large" and last.runtime == "go":
        return Note("grew_go", facts)
    if kind == "large" and last.allocator != "glibc":
        return Note("grew_allocator", facts)
    if kind == "large":
        return Note("grew_large_python" if last.runtime == "python" else "grew_large", facts)
    if kind:
        return Note(f"grew_{kind}", facts)
    parts = sorted(grown, key=lambda kind: -grown[kind])[:3]
    said = [Note("grew_part", {"mb": grown[kind], "kind": Note(f"kind_{kind}")}) for kind in parts]
    return Note("grew_mixed", facts | {"parts": tuple(said)})


def mapped(each: Kept, tolerance_mb: float) -> Note | None:
    """Mapped files that keep growing: RSS climbs though private memory, by which growth is judged, may not."""
    sizes = [kinds.mapped_mb for _, kinds in each.kinds]
    gained = sizes[-1] - sizes[0] if sizes else 0.0
    if len(sizes) < 2 or gained < tolerance_mb * each.span:
        return None
    if len(sizes) > 2 and sizes[-1] - sizes[len(sizes) // 2] < GOES_ON * gained:
        return None
    return Note("grew_mapped", {"role": each.role, "pid": each.pid, "rate": gained / each.span,
                                "names": tuple(files_grown(each.kinds[0][1], each.kinds[-1][1])) or Note("many_files")})


def files_grown(first: Kinds, last: Kinds) -> list[str]:
    """The mapped files that grew most, at most three. One that was not among the largest was no larger than they."""
    before, unnamed = first.mapped_files, min(first.mapped_files.values(), default=0.0)
    gains = {name: mb - before.get(name, unnamed) for name, mb in last.mapped_files.items()}
    return [name for name in sorted(gains, key=lambda name: -gains[name]) if gains[name] >= SHOWN_MB][:3]


# What helps where, in order: key of the reason, the command, its program.
STEPS: Mapping[str, Sequence[tuple[str, str, str | None]]] = {
    "arenas": (("step_arenas", ARENA_TEST, None),),
    "python": (("step_memray", "memray attach {pid}", "memray"),
               ("step_stats_python", "ctypes.CDLL(None).malloc_stats()", None)),
    "native": (("step_heaptrack", "heaptrack --pid {pid}", "heaptrack"),
               ("step_stats", "gdb -p {pid} -batch -ex 'call (void)malloc_stats()'", "gdb")),
    "go": (("step_pprof", "go tool pprof http://ADDRESS/debug/pprof/heap", "go"),),
    "jemalloc": (("step_jeprof", "MALLOC_CONF=prof:true,lg_prof_interval:30", "jeprof"),),
    "gpu": (("step_gpu_cache", "torch.cuda.empty_cache()", None),
            ("step_gpu_fragments", "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True", None)),
    "threads": (("step_threads", "py-spy dump --native --pid {pid}", "py-spy"),),
    "native threads": (("step_threads", "gdb -p {pid} -batch -ex 'thread apply all bt 8'", "gdb"),),
    "files": (("step_files", "ls -l /proc/{pid}/fd", None),),
    "redis": (("step_redis", "redis-cli --bigkeys", None),)}


def next_steps(grown: Mapping[str, Kept], roles: Mapping[str, RoleFindings], rising: Sequence[Rising],
               kept: Sequence[Kept], tools: Sequence[str] | None) -> list[Command]:
    """Commands that fit the process: of the first role that leaks, then of threads and files that rise."""
    runtime = {each.pid: each.kinds[-1][1].runtime for each in kept if each.kinds}
    wanted: list[tuple[str, int]] = []
    leaking = next((role for role in grown if role in roles and roles[role].growth.verdict == "LEAK"), None)
    if leaking:
        each = grown[leaking]
        last = each.kinds[-1][1] if each.kinds else None  # threads or files changed, but the mappings may not be read
        small = bool(each.changes) and conclude(each).key in ("grew_arenas", "grew_heap")
        wanted += [(name, each.pid) for name, fits in (("arenas", small), ("redis", leaking == "redis")) if fits]
        if last and leaking != "redis":
            wanted += [(last.runtime, each.pid), *[("jemalloc", each.pid)] * (last.allocator == "jemalloc")]
    wanted += [("gpu", 0)] if any(r.endswith(" GPU") and v.growth.verdict == "LEAK" for r, v in roles.items()) else []
    wanted += [("files" if each.what == "files" else "threads" if runtime.get(each.pid) == "python"
                else "native threads", each.pid) for each in rising]
    steps = itertools.chain.from_iterable([(pid, step) for step in STEPS[name]] for name, pid in wanted)
    return [Command(why, command.format(pid=pid), tool, None if tools is None else tool is None or tool in tools)
            for pid, (why, command, tool) in steps]


def allocator_settings(run: RecordedRun, role: str) -> dict[str, str] | None:
    """Variables that tune the allocator of a role's processes, as first recorded; None where they are not."""
    processes = (p for r in run.results if role in r.memory for p in r.memory[role].processes)
    return next((p.holdings.kinds.tuned for p in processes if p.holdings and p.holdings.kinds), None)

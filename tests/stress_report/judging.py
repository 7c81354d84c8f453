"""The criteria and the verdict of a run."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

from memory_leak_stress_test import (
    CONFIRM_RUNS,
    GIVE_UP_CYCLES,
    NOT_THE_SERVICES,
    ROLES,
    TOOL_FAULT,
    Death,
    ProcessMemory,
    TaskResult,
    crashes_and_recycled,
    without_work,
)
from stress_report.concurrency import REAL_TIME, judge_ramp
from stress_report.diagnosis import Diagnosis, diagnose
from stress_report.findings import OF_RECORDING, Criterion, Failure, Note, Ramp, median
from stress_report.hosts import Host, join_hosts, leaks_in_ramp, recorded_alone, roles_of_hosts, unjudged_gpus
from stress_report.hourly import TOLERANCE_MB_PER_DAY, Hourly, judge_hours, overall_status, track_of, why
from stress_report.machine import MachineFindings, judge_machine, withheld
from stress_report.memory import (
    Evidence,
    RoleFindings,
    RoleSeries,
    growth_after_ramp,
    growth_over_ramp,
    judge_roles,
    repeated_levels,
    seek_hidden,
    series_of_roles,
)
from stress_report.recording import CYCLES, RecordedRun, Samples

DELTA_BAD_MB = 500.0  # a long task that leaves more is bad; between the limit (200) and this, poor
HOST_LEFT_OUT, CSV_LEFT_OUT = ("host_other_run", "host_no_roles"), ("csv_empty", "csv_other_run")
NEEDED_LEVEL, GOOD_LEVEL = 3, 5  # concurrent tasks that a service must handle, and that are good


@dataclass
class Judged:
    """A run and everything derived from it."""

    run: RecordedRun
    verdict: str  # pass | fail | inconclusive
    criteria: list[Criterion]
    roles: dict[str, RoleFindings]
    loaded: dict[str, RoleFindings]  # the same under load; empty where there were no loaded cycles
    ramp: Ramp
    evidence: Evidence | None
    machine: MachineFindings | None  # None where the record says nothing of it
    crashes: list[Death | Failure]
    recycled: list[Death]
    cut_short: Note | None  # why the record is not the whole run, or proves no work, so that it never passes
    usage: list[tuple[Samples, list[RoleSeries]]]
    hosts: list[Host]  # watched by a monitor each, while the load came from elsewhere
    hourly: list[Hourly]  # growth per hour, of a recording without tasks
    diagnosis: Diagnosis  # of the leak phase; of loaded cycles where they alone show a leak, or are all there is


def judge(run: RecordedRun) -> Judged:
    """Everything that is derived from a run, with the memory of its hosts where they were watched for themselves."""
    if not run.results:
        return judge_recording(run)
    run, hosts = join_hosts(run)
    evidence = seek_hidden(run) if run.legacy else None
    loaded, machine = judge_phase(run, None, "loaded")
    roles = loaded
    if run.setting("phase") != "loaded":
        roles, machine = judge_phase(run, evidence, "leak")
    if hosts:
        of_hosts = roles_of_hosts(hosts, loaded, "loaded")
        roles = of_hosts if roles is loaded else roles_of_hosts(hosts, roles, "leak")
        loaded = of_hosts
        roles = roles if run.cycles_asked else leaks_in_ramp(run, hosts)
    ramp = judge_ramp(run)
    crashes, recycled = find_deaths(run)
    memory = [long_audio_delta(run, roles, evidence),
              held_under_load(return_to_baseline(run, roles, loaded, evidence), run, loaded)]
    criteria = [*(doubted(c, evidence) for c in memory), no_cumulative_growth(run, roles, evidence),
                min_concurrency(run, ramp), no_worker_crash(run, crashes, recycled), rtf_under_load(run, ramp)]
    cut_short = find_cut(run, ramp)
    usage = [(samples, series_of_roles(run, samples)) for samples in run.samples]
    under_load = roles is loaded or (leaks(loaded) and not leaks(roles))
    diagnosis = diagnose(run, loaded, "loaded") if under_load else diagnose(run, roles, "leak")
    return Judged(run, overall(criteria, cut_short), criteria, roles, loaded, ramp, evidence, machine, crashes,
                  recycled, cut_short, usage, hosts, [], diagnosis)


def judge_recording(run: RecordedRun) -> Judged:
    """Growth per hour of samples alone: without tasks, so that no other criterion can be measured."""
    ramp, usage, hourly = judge_ramp(run), list[tuple[Samples, list[RoleSeries]]](), list[Hourly]()
    for samples, readings in recorded_alone(run):
        series = series_of_roles(run, samples)
        usage.append((samples, series))
        hourly += [judge_hours(track_of(each, samples, readings), each, samples) for each in series]
    criteria = [growth_per_hour(hourly), long_audio_delta(run, {}, None), return_to_baseline(run, {}, {}, None),
                no_cumulative_growth(run, {}, None), min_concurrency(run, ramp), no_worker_crash(run, [], []),
                rtf_under_load(run, ramp)]
    run = dataclasses.replace(run, samples=[samples for samples, _ in usage],
                              notes=[*run.notes, *unjudged_gpus(run.samples)])
    cut_short = Note("cut_host") if any(note.key in CSV_LEFT_OUT for note in run.notes) else None
    verdict = overall_status(hourly)
    return Judged(run, "inconclusive" if cut_short and verdict == "pass" else verdict, criteria, {}, {}, ramp, None,
                  None, [], [], cut_short, usage, [], hourly, diagnose(run, {}, "leak"))


def growth_per_hour(hourly: Sequence[Hourly]) -> Criterion:
    """What the recording says of each role that it holds; the one that grows most is observed."""
    rates = [each.mb_per_hour for each in hourly if each.mb_per_hour is not None]
    said = [Note("hourly_role", {"role": each.role, "why": why(each)}) for each in hourly]
    return Criterion(OF_RECORDING, overall_status(hourly), max(rates, default=None),
                     round(TOLERANCE_MB_PER_DAY / 24, 1), Note("growth_text", {"roles": said}))


def leaks(roles: Mapping[str, RoleFindings]) -> bool:
    return any(v.growth.verdict == "LEAK" for v in roles.values())


def judge_phase(run: RecordedRun, evidence: Evidence | None,
                phase: str) -> tuple[dict[str, RoleFindings], MachineFindings | None]:
    """The watched roles and the whole machine in a phase of cycles."""
    roles = judge_roles(run, evidence, phase)
    machine = judge_machine(run, phase, roles)
    return withheld(roles, run.works, machine), machine


def find_cut(run: RecordedRun, ramp: Ramp) -> Note | None:
    """Why the run as a whole is no evidence: its end or some lines are not there, or nothing shows work."""
    if any(r.error_kind == TOOL_FAULT for r in run.results):
        return Note("cut_tool_fault")
    if ramp.stop_reason == "interrupted" or any(r.error_kind == "interrupted" for r in run.results):
        return Note("cut_interrupted")
    if any(r.level and r.level.stop_reason == "memory_reserve" for r in run.results if r.phase in CYCLES):
        return Note("cut_memory_reserve")
    if run.results and not run.legacy and run.asked("concurrency") and not run.phase("concurrency"):
        return Note("cut_early")
    if run.lost:
        return Note("cut_lost", {"count": run.lost})
    if run.ended is False:
        return Note("cut_end")
    if any(note.key in HOST_LEFT_OUT or (note.key in CSV_LEFT_OUT and run.setting("no_watch")) for note in run.notes):
        return Note("cut_host")
    if any(note.key == "host_short" for note in run.notes):
        return Note("cut_host_short")
    if run.odd_settings:
        return Note("cut_settings", {"names": tuple(f"--{name.replace('_', '-')}" for name in run.odd_settings)})
    return without_work_shown(run) or ramp_left_memory(run)


def without_work_shown(run: RecordedRun) -> Note | None:
    """Why "done" does not show that work was done."""
    if run.empty_texts:
        return Note("empty_text", {"count": run.empty_texts})
    if run.textless:
        return Note("no_text", {"count": run.textless})
    if run.nameless:
        return Note("no_ids", {"count": run.nameless})
    return Note("same_ids", {"count": run.same_ids}) if run.same_ids else None


def ramp_left_memory(run: RecordedRun) -> Note | None:
    """What memory did in a ramp that was run alone: nothing judges it, and gigabytes never pass in silence."""
    grown = growth_over_ramp(run) if run.setting("phase") == "concurrency" and run.watched else None
    if grown is None or grown[2] - grown[1] < run.setting("delta_limit_mb"):
        return None
    role, before, after = grown
    facts = {"role": role, "before": before, "after": after}
    if repeated := repeated_levels(run, role):
        facts |= {"level": repeated.concurrency, "readings": tuple(f"{mb:,.0f}" for mb in repeated.readings)}
        return Note("ramp_memory_grows", facts)
    return Note("ramp_memory", facts)


def overall(criteria: Sequence[Criterion], cut_short: Note | None) -> str:
    """The verdict: what was not asked for is no reason to withhold a pass; anything else that is missing is."""
    counted = [c.status for c in criteria if c.asked or c.status != "not_measured"]
    if "fail" in counted:
        return "fail"
    return "pass" if set(counted) == {"pass"} and not cut_short else "inconclusive"


def find_deaths(run: RecordedRun) -> tuple[list[Death | Failure], list[Death]]:
    """What crashed: processes that serve a role, or the work-horse of a task; and what was recycled between tasks."""
    crashes, recycled = crashes_and_recycled(run.results)
    recorded = {(death.role, death.pid) for death in [*crashes, *recycled]}
    for death in deaths_seen(run.results):
        if (death.role, death.pid) not in recorded:
            (recycled if death.replaced else crashes).append(death)
    if crashes:
        return [*dict.fromkeys(crashes)], recycled
    died = (r for r in run.results if r.error_kind == "worker_died")
    return [Failure("worker_died", r.error, r.error_facts, r.test_id) for r in died], recycled


def deaths_seen(results: Sequence[TaskResult]) -> Iterator[Death]:
    """Processes that served a role and have ended, or are not there any more in the next reading."""
    for role in ROLES:
        known: dict[tuple[int, str], ProcessMemory] = {}
        for result in (r for r in results if role in r.memory):
            roots = {(p.pid, p.started): p for p in result.memory[role].processes if p.root}
            if not roots:
                continue
            yield from (Death(role, p.pid, p.name, result.timestamp) for p in roots.values() if p.ended)
            if any(p.resident for p in roots.values()):
                as_many = len(roots) >= len(known)
                yield from (Death(role, p.pid, p.name, result.timestamp, unfinished=0, replaced=as_many)
                            for key, p in known.items() if key not in roots)
            known = {key: p for key, p in roots.items() if not p.ended}


def memory_missing(run: RecordedRun, evidence: Evidence | None) -> Note | None:
    """Why a memory criterion of the leak phase cannot be measured; None where it can."""
    if not run.cycles_asked:
        return Note("no_leak_phase")
    if not run.watched:
        return Note("memory_not_watched")
    if evidence and evidence.hidden:
        return Note("reason_wrong_process", {"recorded": evidence.recorded_max_mb,
                                             "peak": max(h.peak_mb for h in evidence.hidden)})
    return None if run.phase("leak") or run.phase("loaded") else Note("no_leak_lines")


def unmeasured(name: str, limit: float, why: Note) -> Criterion:
    asked = why.key not in ("no_leak_phase", "memory_not_watched", "no_ramp_phase")
    return Criterion(name, "not_measured", None, limit, why, asked)


def doubted(criterion: Criterion, evidence: Evidence | None) -> Criterion:
    """An old record clears nobody unless its CSV shows the process it measured."""
    if evidence is None or evidence.recorded or criterion.status != "pass":
        return criterion
    return dataclasses.replace(criterion, status="inconclusive", text=Note("reason_old_record"))


def gave_up(run: RecordedRun) -> list[TaskResult]:
    """The failed tasks of a phase of cycles at whose end, or in all of which, no task succeeded; empty where some did.
    """
    of_cycles = run.phase("leak") or run.phase("loaded")
    tasks = [r for r in of_cycles if r.cycle and r.error_kind not in NOT_THE_SERVICES]
    cycles = sorted({r.cycle or 0 for r in tasks})
    last = [r for r in tasks if (r.cycle or 0) in cycles[-GIVE_UP_CYCLES:]]
    failed = [r for r in last if r.status != "success"]
    return failed if len(failed) == len(last) and (len(cycles) >= GIVE_UP_CYCLES or last == tasks) else []


@dataclass(frozen=True)
class Delta:
    """What a role holds more: RSS, as the user's limit means it, and private memory, which a leak is made of. MB."""

    rss: float
    private: float | None


def deltas_of(run: RecordedRun, tasks: Sequence[TaskResult]) -> list[Delta]:
    """Growth of the role that does the tasks, across those that succeeded and came to rest."""
    deltas = []
    for r in tasks:
        counts = r.status == "success" and r.settled is not False
        memory, rss = r.memory.get(run.works), run.rss(r)
        if counts and rss.delta is not None:
            own = None if memory is None or None in (memory.private_before_mb, memory.private_after_mb) else (
                (memory.private_after_mb or 0.0) - (memory.private_before_mb or 0.0)) / r.concurrency
            deltas.append(Delta(rss.delta / r.concurrency, own))  # tasks released together share what they left
    return deltas


def replaced_in(role: RoleFindings | None) -> set[int]:
    """Cycles in which a process of the role was replaced."""
    return {cycle for cycle, kind in role.breaks if kind == "replaced"} if role else set()


def is_below(path: str, folder: str) -> bool:
    """Whether a path is that of the folder, or of a file in it."""
    return PurePath(folder) in (PurePath(path), *PurePath(path).parents)


def long_tasks(run: RecordedRun) -> list[TaskResult]:
    """The tasks of the leak phase on the long clip, or on those of a folder of them, with the first use."""
    leak, asked = run.phase("leak"), str(run.setting("long_audio"))
    named = [r for r in leak if r.audio_path and is_below(r.audio_path, asked)]
    longest = max(leak, key=lambda r: (r.audio_seconds or 0.0, r.audio_size_mb or 0.0)).clip
    return named if len(named) < len(leak) and named else [r for r in leak if r.clip == longest]


def long_audio_delta(run: RecordedRun, roles: Mapping[str, RoleFindings], evidence: Evidence | None) -> Criterion:
    """Median growth across tasks of the longest clip after its first use, none of which spans a replacement."""
    limit = run.setting("delta_limit_mb")
    leak = run.phase("leak")
    if failed := gave_up(run):
        facts = {"failed": len(failed), "kinds": tuple(sorted({r.error_kind or r.status for r in failed}))}
        return Criterion("long_audio_delta", "fail", None, limit, Note("delta_gave_up", facts))
    if why := memory_missing(run, evidence) or (None if leak else Note("no_leak_phase")):
        return unmeasured("long_audio_delta", limit, why)
    of_long = long_tasks(run)
    clip = run.clip_names[of_long[-1].clip]
    replaced = replaced_in(roles.get(run.works))
    tasks = [r for r in of_long if r.cycle and r.cycle not in replaced]
    deltas = deltas_of(run, tasks)
    if not deltas:
        return unmeasured("long_audio_delta", limit, Note("no_long_task", {"clip": clip}))
    kept = statistics.median(delta.rss for delta in deltas)
    own = median([delta.private for delta in deltas if delta.private is not None])
    bad = max(limit, DELTA_BAD_MB)
    band = Note(band_of(kept, limit, bad), {"limit": limit, "bad": bad})
    facts = {"median": kept, "highest": max(delta.rss for delta in deltas), "tasks": len(deltas), "clip": clip,
             "band": band, "submitted": len(tasks), "private": own, "role": run.works}
    if kept >= limit and own is not None and own < limit:
        return Criterion("long_audio_delta", "pass", kept, limit, Note("delta_mapped", facts))
    if kept >= limit:
        return Criterion("long_audio_delta", "fail", kept, limit, Note("delta_text", facts))
    if 2 * len(deltas) <= len(tasks):
        return Criterion("long_audio_delta", "inconclusive", kept, limit, Note("delta_few", facts))
    return Criterion("long_audio_delta", "pass", kept, limit, Note("delta_text", facts))


def band_of(kept: float, limit: float, bad: float) -> str:
    if kept < limit:
        return "band_good"
    return "band_poor" if kept <= bad else "band_bad"


def return_to_baseline(run: RecordedRun, roles: Mapping[str, RoleFindings], loaded: Mapping[str, RoleFindings],
                       evidence: Evidence | None) -> Criterion:
    """Last settled reading of the role that works against that after first use; then what the ramp left in each."""
    limit = run.setting("delta_limit_mb")
    if why := memory_missing(run, evidence) or (None if run.asked("leak") else Note("no_leak_phase")):
        return unmeasured("return_to_baseline", limit, why)
    leak = [r for r in run.phase("leak") if run.rss(r).after is not None and r.status == "success"]
    first, later = [r for r in leak if r.cycle == 0], [r for r in leak if r.cycle]
    settled = [r for r in later if r.settled is not False]
    if not first or not later:
        return unmeasured("return_to_baseline", limit, Note("no_baseline"))

    base, last = first[-1], (settled or later)[-1]
    works, begun = roles.get(run.works), run.rss(base).after or 0.0
    kept = (run.rss(last).after or 0.0) - begun
    own = private_growth(run.works, base, last)
    after = growth_after_ramp(run, base)
    facts: dict[str, Any] = {"kept": kept, "base": begun, "limit": limit, "private": own, "works": run.works,
                             "after_ramp": after.get(run.works)}

    def conclude(status: str, key: str, more: Mapping[str, object] = MappingProxyType({})) -> Criterion:
        observed = facts.get("contained", more.get("after_ramp", kept))
        return Criterion("return_to_baseline", status, observed, limit, Note(key, {**facts, **more}))

    if not settled or base.settled is False:
        return conclude("inconclusive", "baseline_unsettled")
    if works and replaced_in(works):
        contained = works.growth.facts.get("contained")
        if contained is None or works.growth.verdict == "INCONCLUSIVE":
            return conclude("inconclusive", "baseline_replaced")
        facts["contained"] = contained
        return conclude("pass" if contained < limit else "fail", "baseline_recycled")
    if kept >= limit and not (own is not None and own < limit):
        return conclude("fail", "baseline_text_ramp" if run.works in after else "baseline_text")
    if after and max(after.values()) >= limit:
        role = max(after, key=lambda role: after[role])
        status, key, more = left_by_ramp(run, role, loaded)
        return conclude(status, key, {"role": role, "after_ramp": after[role], **more})
    if kept >= limit:
        return conclude("pass", "baseline_mapped")
    return conclude("pass", "baseline_text_ramp" if run.works in after else "baseline_text")


def held_under_load(criterion: Criterion, run: RecordedRun, loaded: Mapping[str, RoleFindings]) -> Criterion:
    """Nothing passes while loaded cycles leak, or leave it open: what a ramp left may be gone with its process."""
    found = next((v for verdict in ("LEAK", "INCONCLUSIVE") for v in loaded.values() if v.growth.verdict == verdict),
                 None)
    if found is None or criterion.status == "fail" or not criterion.asked:
        return criterion
    if found.growth.verdict != "LEAK" and criterion.status != "pass":
        return criterion
    facts = {**criterion.text.facts, "size": max(r.concurrency for r in run.phase("loaded")), "grows": found.role,
             "rate": found.growth.mb_per_cycle, "cycles": found.growth.cycles}
    if found.growth.verdict == "LEAK":
        return dataclasses.replace(criterion, status="fail", text=Note("baseline_loaded_leak", facts))
    return dataclasses.replace(criterion, status="inconclusive", text=Note("baseline_loaded_undecided", facts))


def private_growth(role: str, first: TaskResult, last: TaskResult) -> float | None:
    """Private memory of a role after the last of two tasks above that after the first; None where not known."""
    held = [r.memory[role].private_after_mb if role in r.memory else None for r in (first, last)]
    return None if held[0] is None or held[1] is None else held[1] - held[0]


def left_by_ramp(run: RecordedRun, role: str, loaded: Mapping[str, RoleFindings]) -> tuple[str, str, dict[str, object]]:
    """Status, sentence and facts where the ramp left memory: loaded cycles show whether it is a leak."""
    leaking = next((v for v in loaded.values() if v.growth.verdict == "LEAK"), None)
    found = leaking or loaded.get(role)
    if found:
        size = max(r.concurrency for r in run.phase("loaded"))
        more: dict[str, object] = {"size": size, "rate": found.growth.mb_per_cycle, "grows": found.role,
                                   "bound": found.growth.upper_bound_mb_per_cycle, "cycles": found.growth.cycles}
        if leaking:
            return "fail", "baseline_loaded_leak", more
        if found.growth.verdict == "NO LEAK":
            return "pass", "baseline_high_water", more
        return "inconclusive", "baseline_loaded_open", more
    if repeated := repeated_levels(run, role):
        readings = tuple(f"{mb:,.0f}" for mb in repeated.readings)
        return "inconclusive", "baseline_ramp_grows", {"level": repeated.concurrency, "readings": readings}
    return "inconclusive", "baseline_ramp", {}


def no_cumulative_growth(run: RecordedRun, roles: Mapping[str, RoleFindings], evidence: Evidence | None) -> Criterion:
    """The growth rule's verdict over all watched roles."""
    limit = run.setting("tolerance_mb")
    why = memory_missing(run, evidence)
    if not roles or (why and why.key != "no_leak_phase"):  # a ramp may show a leak, too
        return unmeasured("no_cumulative_growth", limit, why or Note("no_leak_lines"))
    verdicts = {v.growth.verdict for v in roles.values()}
    slopes = [v.growth.mb_per_cycle for v in roles.values() if v.growth.mb_per_cycle is not None]
    says = Note("growth_text", {"roles": [
        Note(f"growth_{v.growth.verdict}", {"role": role, "rate": v.growth.mb_per_cycle, "cycles": v.growth.cycles,
                                            "bound": v.growth.upper_bound_mb_per_cycle})
        for role, v in roles.items()]})
    if verdicts == {"NOT MEASURED"}:
        return unmeasured("no_cumulative_growth", limit, says)
    return Criterion("no_cumulative_growth", status_of(verdicts), max(slopes, default=None), limit, says)


def status_of(verdicts: set[str]) -> str:
    """One status for the leak verdicts of all roles."""
    if "LEAK" in verdicts:
        return "fail"
    return "pass" if verdicts == {"NO LEAK"} else "inconclusive"


def no_worker_crash(run: RecordedRun, crashes: Sequence[Death | Failure], recycled: Sequence[Death]) -> Criterion:
    """No process that serves a role crashed; that it was recycled between tasks is said."""
    if crashes:
        facts = {"first": list(crashes[:3]), "count": len(crashes)}
        return Criterion("no_worker_crash", "fail", len(crashes), 0, Note("crash_text", facts))
    if not run.results:
        return unmeasured("no_worker_crash", 0, Note("crash_unrecorded"))
    if not run.watched:
        return unmeasured("no_worker_crash", 0, Note("memory_not_watched"))
    unknown = sum(not alive_known(run, r) for r in run.results)
    if unknown == len(run.results):
        return unmeasured("no_worker_crash", 0, Note("crash_unrecorded"))
    if unknown or run.lost:
        facts = {"count": unknown + run.lost}
        return Criterion("no_worker_crash", "inconclusive", None, 0, Note("crash_unread", facts))
    if idle := without_work(run.works, run.results):  # another process did it, whose end nobody would see
        why = Note("reason_no_work_other" if idle["pid"] else "reason_no_work", idle)
        facts = {"role": run.works, "why": why}
        return Criterion("no_worker_crash", "inconclusive", None, 0, Note("crash_no_work", facts))
    if recycled:
        facts = {"count": len(recycled), "first": recycled[0]}
        return Criterion("no_worker_crash", "pass", 0, 0, Note("crash_recycled", facts))
    return Criterion("no_worker_crash", "pass", 0, 0, Note("crash_none"))


def alive_known(run: RecordedRun, result: TaskResult) -> bool:
    """Whether a line says which processes did the work while its task ran."""
    return run.works in result.memory and any(p.root for p in result.memory[run.works].processes)


def ramp_missing(run: RecordedRun, ramp: Ramp) -> Note | None:
    """Why nothing of the ramp can be measured; None where it can."""
    if ramp.levels:
        return None
    if not run.asked("concurrency"):
        return Note("no_ramp_phase")
    return Note("no_ramp_levels", {"stop": Note(f"stop_{ramp.stop_reason}")}) if ramp.stop_reason else (
        Note("no_ramp_lines"))


def min_concurrency(run: RecordedRun, ramp: Ramp) -> Criterion:
    """At least three concurrent tasks are stable."""
    if why := ramp_missing(run, ramp):
        return unmeasured("min_concurrency", NEEDED_LEVEL, why)
    observed, breach = ramp.max_stable, ramp.first_breach
    facts = {"stable": observed, "lowest": ramp.levels[0].concurrency, "highest": ramp.levels[-1].concurrency,
             "runs": CONFIRM_RUNS, "stop": Note(f"stop_{ramp.stop_reason or 'unknown'}")}
    if observed is not None and observed >= NEEDED_LEVEL and (later := failed_later(run, observed)):
        facts |= {"failed": len(later), "at": later[0].concurrency}
        return Criterion("min_concurrency", "inconclusive", observed, NEEDED_LEVEL, Note("stable_contradicted", facts))
    if observed is not None and observed >= NEEDED_LEVEL and not ramp.confirmed:
        return Criterion("min_concurrency", "inconclusive", observed, NEEDED_LEVEL, Note("stable_provisional", facts))
    if observed is not None and observed >= NEEDED_LEVEL:
        key = "stable_good" if observed >= GOOD_LEVEL else "stable_enough"
        return Criterion("min_concurrency", "pass", observed, NEEDED_LEVEL, Note(key, facts))
    if breach and breach.concurrency <= NEEDED_LEVEL and breach.what not in ("rtf_limit", "memory_reserve",
                                                                                  "incomplete"):
        text = Note("stable_failed", {"breach": breach})
        return Criterion("min_concurrency", "fail", observed, NEEDED_LEVEL, text)
    return Criterion("min_concurrency", "inconclusive", observed, NEEDED_LEVEL, Note("stable_open", facts))


def failed_later(run: RecordedRun, stable: int) -> list[TaskResult]:
    """Tasks that failed in loaded cycles of as many concurrent tasks as the ramp had found stable, or fewer."""
    return [r for r in run.phase("loaded") if r.status != "success" and r.error_kind not in NOT_THE_SERVICES
            and r.concurrency <= stable]


def rtf_under_load(run: RecordedRun, ramp: Ramp) -> Criterion:
    """RTF under 1.0 at every level up to three; the level where it stops being so is named."""
    levels = [level for level in ramp.levels if level.rtf_max is not None and not level.client_limited]
    if not levels:
        return unmeasured("rtf_under_load", REAL_TIME, ramp_missing(run, ramp) or Note("no_rtf"))
    slow = next((level for level in levels if (level.rtf_max or 0.0) >= REAL_TIME), None)
    enough = next((level for level in levels if level.concurrency >= NEEDED_LEVEL), None)
    top = enough.concurrency if enough else NEEDED_LEVEL
    judged = [level for level in levels if level.concurrency <= top]
    observed = max((level.rtf_max or 0.0 for level in judged), default=0.0)
    known = [level.concurrency for level in levels if level.complete and level.rtf_known == level.submitted]
    facts = {"rtf": observed, "highest": max(known, default=0), "level": slow.concurrency if slow else None,
             "at": judged[-1].concurrency if judged else 0, "slow_rtf": slow.rtf_max if slow else None}

    def conclude(status: str, key: str) -> Criterion:
        return Criterion("rtf_under_load", status, observed, REAL_TIME, Note(key, facts))

    if slow and slow.concurrency <= NEEDED_LEVEL:
        return conclude("fail", "rtf_slow")
    tested = [level for level in ramp.levels if level.concurrency <= top]
    whole = all(level.complete and level.rtf_known == level.submitted and not level.client_limited for level in tested)
    if not enough or not whole or observed >= REAL_TIME:
        return conclude("inconclusive", "rtf_open")
    return conclude("pass", "rtf_slow_later" if slow else "rtf_never_slow")

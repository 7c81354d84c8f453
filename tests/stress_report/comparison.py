"""Two runs side by side: is the fix shown, and what makes them hard to compare?"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from memory_leak_stress_test import ROLES, TaskResult
from stress_report.diagnosis import SAME_SHARE, allocator_settings
from stress_report.findings import Note, median
from stress_report.judging import Judged, leaks, without_work_shown
from stress_report.memory import RoleFindings
from stress_report.recording import RecordedRun, began_at

SLOWED_SHARE = 0.25  # of the growth before: what surely still grows by so much has been slowed down, not fixed


@dataclass(frozen=True)
class Change:
    """One figure before and after."""

    what: Note
    before: float | Note | None
    after: float | Note | None
    digits: int = 1


ROLE_FIGURES: Mapping[str, Callable[[RoleFindings], float | None]] = {
    "rate": lambda role: role.growth.mb_per_cycle,
    "bound": lambda role: role.growth.upper_bound_mb_per_cycle,
    "first_use": lambda role: role.first_use_growth_mb,
    "peak": lambda role: role.peak_mb,
}


def compare(before: Judged, after: Judged) -> tuple[Note, list[Change], list[Note]]:
    """Whether the fix is shown, the figures side by side, and what makes the two runs hard to compare."""
    if not any(leaks(side.roles) for side in (before, after)) and any(leaks(side.loaded) for side in (before, after)):
        before, after = (dataclasses.replace(side, roles=side.loaded) for side in (before, after))
    role = compared_role(before, after)
    unlike = [*unlike_cycles(before, after), *differences(before.run, after.run)]
    return judge_fix(before, after, role), side_by_side(before, after, role), unlike


def unlike_cycles(before: Judged, after: Judged) -> list[Note]:
    """That growth per cycle is that of other cycles, or of other hosts, so that it cannot be compared."""
    if not before.roles or not after.roles:
        return []
    pairs = ((Note("phase"), cycles_of(before), cycles_of(after)),
             (Note("part_hosts"), tuple(host.name for host in before.hosts), tuple(host.name for host in after.hosts)))
    return [Note("differs", {"what": what, "before": old or "–", "after": new or "–"})
            for what, old, new in pairs if old != new]


def cycles_of(side: Judged) -> str:
    """By which tasks the growth of the roles is judged, as on the command line."""
    if not side.run.cycles_asked:
        return "--phase concurrency"
    return f"--phase {side.run.cycles_of('loaded' if side.roles is side.loaded else 'leak')}"


def side_by_side(before: Judged, after: Judged, role: str) -> list[Change]:
    """The figures of both runs: criteria on memory, the role's growth, RTF, levels, verdicts."""

    def change(what: Note, figure: Callable[[Judged], float | Note | None], digits: int = 1) -> Change:
        return Change(what, figure(before), figure(after), digits)

    changes = [change(Note(name), functools.partial(observed, criterion=name))
               for name in ("long_audio_delta", "return_to_baseline")]
    changes += [change(Note(key, {"role": role}), functools.partial(of_role, role=role, pick=pick))
                for key, pick in ROLE_FIGURES.items()]
    changes += [change(Note("rate_per_hour", {"role": each}), functools.partial(per_hour, role=each))
                for each in dict.fromkeys(found.role for side in (before, after) for found in side.hourly)]
    changes.append(change(Note("rtf_median"), leak_rtf, digits=3))
    changes.append(change(Note("max_stable"), lambda side: side.ramp.max_stable, digits=0))
    changes.append(change(Note("max_real_time"), lambda side: side.ramp.max_real_time, digits=0))
    changes.append(change(Note("knee"), lambda side: side.ramp.knee.level, digits=0))
    changes += [change(Note("leak_verdict", {"role": each}), functools.partial(leak_word, role=each))
                for each in dict.fromkeys((*ROLES, *before.roles, *after.roles))
                if each in before.roles or each in after.roles]
    return [*changes, change(Note("verdict"), lambda side: Note(f"verdict_{side.verdict}"))]


def of_role(side: Judged, role: str, pick: Callable[[RoleFindings], float | None]) -> float | None:
    return pick(side.roles[role]) if role in side.roles else None


def per_hour(side: Judged, role: str) -> float | None:
    return next((each.mb_per_hour for each in side.hourly if each.role == role), None)


def observed(side: Judged, criterion: str) -> float | None:
    return next(c.observed for c in side.criteria if c.id == criterion)


def leak_rtf(side: Judged) -> float | None:
    """Median RTF of the leak phase after first use."""
    return median([r.rtf for r in side.run.phase("leak") if r.cycle and r.rtf is not None])


def judge_fix(before: Judged, after: Judged, role: str) -> Note:
    """Whether the fix is shown, with the figures that say so."""
    if before.hourly and after.hourly:
        return Note("fix_hours", {"before": before.criteria[0].text, "after": after.criteria[0].text})
    old, new = before.roles.get(role), after.roles.get(role)
    others = tuple(each for each, v in after.roles.items() if each != role and v.growth.verdict == "LEAK")
    doubt = fix_doubt(old, new, before, after)
    key = fix_key(leak_of(old), leak_of(new), bool(doubt), bool(others))
    was_tuned, tuned = (allocator_settings(side.run, role) for side in (before, after))
    tried = was_tuned is not None and tuned and tuned != was_tuned and key in ("fix_shown", "fix_not_shown")
    key = (allocator_key(old, new) if tried else None) or key
    return Note(key, {
        "tuned": tuple(f"{name}={value}" for name, value in (tuned or {}).items()), "role": role,
        "others": others, "why": doubt or "", "old": leak_word(before, role),
        "new": leak_word(after, role), "before": old.growth.mb_per_cycle if old else None,
        "after": new.growth.upper_bound_mb_per_cycle if new else None, "rate": new.growth.mb_per_cycle if new else None,
        "delta": delta_note(before, after) or ""})


def delta_note(before: Judged, after: Judged) -> Note | None:
    """What a long task left; None where one of the runs does not tell."""
    deltas = [observed(side, "long_audio_delta") for side in (before, after)]
    return None if None in deltas else Note("fix_delta", {
        "before": deltas[0], "after": deltas[1], "role": after.run.works})


def allocator_key(old: RoleFindings | None, new: RoleFindings | None) -> str | None:
    """What a run with another setting of the allocator says of growth that was there before: was it the allocator's?"""
    before, now = (each.growth.mb_per_cycle if each else None for each in (old, new))
    if before is None or leak_of(old) != "LEAK":
        return None
    if leak_of(new) == "NO LEAK":
        return "fix_allocator"
    return None if now is None else "fix_not_allocator" if now >= SAME_SHARE * before else "fix_part_allocator"


def fix_key(old: str, new: str, doubt: bool, other_leaks: bool) -> str:
    """What the leak verdicts of the role before and now say of the fix."""
    if doubt:
        return "fix_doubt"
    if new == "LEAK":
        return {"LEAK": "fix_not_shown", "NO LEAK": "fix_new_leak"}.get(old, "fix_still_leaks")
    if new != "NO LEAK":
        return "fix_open"
    if other_leaks:
        return "fix_other_leaks"
    return {"LEAK": "fix_shown", "NO LEAK": "fix_both_clean"}.get(old, "fix_unproven")


NO_PROOF = ("cut_host", "cut_lost", "cut_settings")  # why a run is no evidence of what its cycles show


def fix_doubt(old: RoleFindings | None, new: RoleFindings | None, before: Judged, after: Judged) -> Note | None:
    """Why a fix is not shown though the role leaked before and has NO LEAK now; None where nothing is in doubt."""
    if (leak_of(old), leak_of(new)) != ("LEAK", "NO LEAK"):
        return None
    left = next(c for c in after.criteria if c.id == "return_to_baseline")
    if left.status in ("fail", "inconclusive"):
        return left.text
    if without_work_shown(after.run) or (after.cut_short and after.cut_short.key in NO_PROOF):
        return Note("fix_no_proof")
    if cycles_of(before) != cycles_of(after):
        return Note("fix_other_cycles", {"before": cycles_of(before), "after": cycles_of(after)})
    if len(before.hosts) > len(after.hosts) > 0:
        return Note("fix_fewer_hosts", {"before": len(before.hosts), "after": len(after.hosts)})
    longest = [max((r.audio_seconds or 0.0 for r in side.run.results), default=0.0) for side in (before, after)]
    if 0 < longest[1] < SAME_SHARE * longest[0]:  # 0: the record does not say how long its clips were
        return Note("fix_shorter_clips", {"before": longest[0], "after": longest[1]})
    rate = old.growth.mb_per_cycle if old else None
    bound = new.growth.upper_bound_mb_per_cycle if new else None
    if rate is not None and bound is not None and bound >= rate:
        return Note("fix_same_rate", {"rate": rate, "bound": bound})
    still = new.growth.mb_per_cycle if new and new.growth.reason == "small_growth" else None
    if rate and still and still >= SLOWED_SHARE * rate:
        return Note("fix_slower", {"before": rate, "after": still})
    return None


def compared_role(before: Judged, after: Judged) -> str:
    """The role the comparison is about: the one that leaked before, else the one that leaks now, else the worker."""
    leaking = [role for side in (before, after) for role, v in side.roles.items() if v.growth.verdict == "LEAK"]
    return leaking[0] if leaking else "worker"


def leak_of(role: RoleFindings | None) -> str:
    return role.growth.verdict if role else "NOT MEASURED"


def leak_word(side: Judged, role: str) -> Note:
    return Note(f"leak_{leak_of(side.roles.get(role))}")


def differences(before: RecordedRun, after: RecordedRun) -> list[Note]:
    """Conditions that differ between two runs: what changed may be due to them."""
    found = []
    for key, pick in CONDITIONS.items():
        old, new = (sorted({str(pick(r)) for r in run.results}) for run in (before, after))
        if old and new and old != new and not {"None", "[]"} & {*old, *new}:
            found.append(Note("differs", {"what": Note(key), "before": tuple(old), "after": tuple(new)}))
    for name in JUDGED_BY:
        limits = [value if isinstance(value := run.setting(name), str) else f"{value:g}" for run in (before, after)]
        if limits[0] != limits[1]:
            option = f"--{name.replace('_', '-')}"
            found.append(Note("differs", {"what": option, "before": limits[0], "after": limits[1]}))
    if before.legacy is not after.legacy:
        found.append(Note("differs_old"))
    begins = [began_at(run) for run in (before, after)]
    later = begins[0] is not None and begins[1] is not None and begins[0] > begins[1]
    if later or before.path.resolve() == after.path.resolve():
        found.append(Note("differs_order"))
    return found


def host_memory(host: Mapping[str, Any]) -> Any:
    """The machine's memory with its unit; what is no number as it is."""
    memory = host.get("memory_mb")
    return f"{memory:,} MB" if isinstance(memory, int) else memory


# Settings that decide verdicts and levels.
JUDGED_BY = ("tolerance_mb", "delta_limit_mb", "min_cycles", "start", "step", "max_concurrency", "rtf_limit")
CONDITIONS: Mapping[str, Callable[[TaskResult], Any]] = {
    "host": lambda r: r.host.get("name"),
    "clips": lambda r: None if r.audio_seconds is None else f"{r.audio_seconds:.0f} s",
    "cpus": lambda r: r.host.get("cpus"),
    "host_memory": lambda r: host_memory(r.host),
    "tool_version": lambda r: r.host.get("tool_version"),
}

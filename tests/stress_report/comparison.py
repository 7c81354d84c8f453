"""Two runs side by side: is the fix shown, and what makes them hard to compare?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from memory_leak_stress_test import ROLES, TaskResult, median
from stress_report.findings import Note
from stress_report.judging import Judged
from stress_report.memory import RoleFindings
from stress_report.recording import RecordedRun, run_span


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
    changes = [Change(Note(old.id), old.observed, new.observed)
               for old, new in zip(before.criteria, after.criteria, strict=True)
               if old.id in ("long_audio_delta", "return_to_baseline")]
    role = compared_role(before, after)
    old_role, new_role = before.roles.get(role), after.roles.get(role)
    for key, pick in ROLE_FIGURES.items():
        figures = [pick(verdict) if verdict else None for verdict in (old_role, new_role)]
        changes.append(Change(Note(key, {"role": role}), figures[0], figures[1]))
    rtfs = [median([r.rtf for r in side.run.phase("leak") if r.cycle and r.rtf is not None])
            for side in (before, after)]
    changes.append(Change(Note("rtf_median"), rtfs[0], rtfs[1], 3))
    for key in ("max_stable", "max_real_time"):
        changes.append(Change(Note(key), getattr(before.ramp, key), getattr(after.ramp, key), 0))
    changes.append(Change(Note("knee"), before.ramp.knee.level, after.ramp.knee.level, 0))
    for each in (each for each in ROLES if each in before.roles or each in after.roles):
        changes.append(Change(Note("leak_verdict", {"role": each}), leak_word(before, each), leak_word(after, each)))
    changes.append(Change(Note("verdict"), Note(f"verdict_{before.verdict}"), Note(f"verdict_{after.verdict}")))

    old, new = (verdict.growth.verdict if verdict else "NOT MEASURED" for verdict in (old_role, new_role))
    others = [each for each, verdict in after.roles.items() if each != role and verdict.growth.verdict == "LEAK"]
    doubt = fix_doubt(old_role, new_role, after) if (old, new) == ("LEAK", "NO LEAK") else None
    if doubt:
        key = "fix_doubt"
    elif new == "NO LEAK":
        key = "fix_shown" if old == "LEAK" else "fix_both_clean" if old == "NO LEAK" else "fix_unproven"
        key = "fix_other_leaks" if others else key
    elif new == "LEAK":
        key = "fix_not_shown" if old == "LEAK" else "fix_new_leak" if old == "NO LEAK" else "fix_still_leaks"
    else:
        key = "fix_open"
    facts = {"role": role, "others": tuple(others), "why": doubt or "",
             "before": old_role.growth.mb_per_cycle if old_role else None,
             "after": new_role.growth.upper_bound_mb_per_cycle if new_role else None,
             "rate": new_role.growth.mb_per_cycle if new_role else None, "old": leak_word(before, role),
             "new": leak_word(after, role), "delta_before": changes[0].before, "delta_after": changes[0].after}
    return Note(key, facts), changes, differences(before.run, after.run)


def fix_doubt(old: RoleFindings | None, new: RoleFindings | None, after: Judged) -> Note | None:
    """Why a fix is not shown though the role leaked before and has NO LEAK now."""
    left = next(c for c in after.criteria if c.id == "return_to_baseline")
    if left.status in ("fail", "inconclusive"):
        return left.text
    rate = old.growth.mb_per_cycle if old else None
    bound = new.growth.upper_bound_mb_per_cycle if new else None
    if rate is not None and bound is not None and bound >= rate:
        return Note("fix_same_rate", {"rate": rate, "bound": bound})
    return None


def compared_role(before: Judged, after: Judged) -> str:
    """The role the comparison is about: the one that leaked before, else the one that leaks now, else the worker."""
    leaking = [role for side in (before, after) for role, v in side.roles.items() if v.growth.verdict == "LEAK"]
    return leaking[0] if leaking else "worker"


def leak_word(side: Judged, role: str) -> Note:
    return Note(f"leak_{side.roles[role].growth.verdict if role in side.roles else 'NOT MEASURED'}")


def differences(before: RecordedRun, after: RecordedRun) -> list[Note]:
    """Conditions that differ between two runs: what changed may be due to them."""
    found = []
    for key, pick in CONDITIONS.items():
        old, new = (sorted({str(pick(r)) for r in run.results}) for run in (before, after))
        if old != new and not {"None", "[]"} & {*old, *new}:
            found.append(Note("differs", {"what": Note(key), "before": tuple(old), "after": tuple(new)}))
    for name in JUDGED_BY:
        limits = [f"{run.setting(name):g}" for run in (before, after)]
        if limits[0] != limits[1]:
            option = f"--{name.replace('_', '-')}"
            found.append(Note("differs", {"what": option, "before": limits[0], "after": limits[1]}))
    if before.legacy is not after.legacy:
        found.append(Note("differs_old"))
    begins = [span[0] if (span := run_span(run)) else None for run in (before, after)]
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

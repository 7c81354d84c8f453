"""A run in figures, as printed by --json (the fields are those of the guide)."""

from __future__ import annotations

from typing import Any

from memory_leak_stress_test import Breach
from stress_report.comparison import compare
from stress_report.findings import Note
from stress_report.hosts import Host
from stress_report.hourly import Hourly, why
from stress_report.judging import Judged
from stress_report.machine import MachineFindings
from stress_report.memory import RoleFindings
from stress_report.saying import Words, reason


def summary(judged: Judged, say: Words) -> dict[str, Any]:
    """The run in figures, as printed by --json."""
    ramp, run = judged.ramp, judged.run
    leak = {role: role_figures(v, say) for role, v in judged.roles.items()}
    left_out = ("complete", "flaky", "interrupted", "rtf_known", "below_reserve")
    levels = [{k: tidy(v) for k, v in vars(level).items() if k not in left_out} for level in ramp.levels]
    criteria = [{"id": c.id, "status": c.status, "observed": tidy(c.observed), "limit": tidy(c.limit),
                 "text": say.note(c.text)} for c in judged.criteria]
    return {"version": 2, "verdict": judged.verdict, "criteria": criteria, "leak": leak,
            "leak_under_load": {role: role_figures(v, say) for role, v in judged.loaded.items()},
            "hosts": {host.name: host_figures(host) for host in judged.hosts},
            "recording": {each.role: hourly_figures(each, say) for each in judged.hourly},
            "machine": machine_figures(judged.machine) if judged.machine else None,
            "concurrency": {"max_stable": ramp.max_stable, "max_real_time": ramp.max_real_time, "knee": ramp.knee.level,
                            "knee_reason": ramp.knee.reason,
                            "effective_parallelism": tidy(ramp.effective_parallelism), "stop_reason": ramp.stop_reason,
                            "first_breach": breach_figures(ramp.first_breach, say) if ramp.first_breach else None,
                            "levels": levels},
            "rising": [vars(each) for each in judged.diagnosis.rising],
            "kinds": {role: {"pid": each.pid, "cycles": each.span,
                             "grown_mb": {kind: tidy(mb) for kind, mb in each.changes.items()}}
                      for role, each in judged.diagnosis.grown.items() if each.changes},
            "input": {"lines": run.lines, "results": len(run.results), "skipped_lines": sum(run.skipped.values()),
                      "empty_texts": run.empty_texts, "duplicate_lines": run.duplicates,
                      "missing_lines": run.missing,
                      "csv_rows": sum(s.rows for s in run.samples),
                      "skipped_csv_rows": sum(s.skipped for s in run.samples), "old_record": run.legacy}}


def role_figures(v: RoleFindings, say: Words) -> dict[str, Any]:
    """The leak verdict of one role, MB and MB per cycle."""
    return {"verdict": v.growth.verdict, "mb_per_cycle": tidy(v.growth.mb_per_cycle),
            "upper_bound_mb_per_cycle": tidy(v.growth.upper_bound_mb_per_cycle),
            "mb_per_hour": tidy(v.rates.per_hour) if v.rates else None,
            "first_use_growth_mb": tidy(v.first_use_growth_mb), "peak_mb": tidy(v.peak_mb), "cycles": v.growth.cycles,
            "reason": reason(v.growth, say), "pid": v.pid}


def host_figures(host: Host) -> dict[str, Any]:
    """A host that was watched for itself; its clock against the load's in seconds, as it was corrected."""
    return {"roles": list(host.readings.rss), "file": host.samples.path.name, "clock_compared_by": host.clock.how,
            "clock_offset_s": tidy(host.clock.offset_s), "clock_error_s": tidy(host.clock.error_s),
            "clock_kept_by_ntp": host.clock.kept, "time_zone_s": host.clock.zone_s}


def hourly_figures(found: Hourly, say: Words) -> dict[str, Any]:
    """What a recording without tasks says of one role; MB per hour with one-sided 99 % bounds."""
    return {"verdict": found.verdict, "mb_per_hour": tidy(found.mb_per_hour), "at_least": tidy(found.at_least),
            "at_most": tidy(found.at_most), "hours": tidy(found.hours), "worked_share": tidy(found.worked_share),
            "reason": say("semicolon").join(say.note(note) for note in why(found))}


def machine_figures(machine: MachineFindings) -> dict[str, Any]:
    """The whole machine at rest, MB and MB per cycle: whose its memory is, what grew with the tasks, containers."""
    parts = [{"what": p.what, "name": p.name, "pid": p.pid, "before_mb": tidy(p.readings[0]), "after_mb":
              tidy(p.readings[-1]), "mb_per_cycle": tidy(p.growth.mb_per_cycle), "grows_with_tasks": p.in_step}
             for p in (*machine.parts, *machine.named)]
    reached = machine.reached and {name: tidy(value) for name, value in vars(machine.reached).items()} | {
        "container": machine.reached.container.path if machine.reached.container else None}
    return {"parts": parts, "limit_reached": reached,
            "containers": [{name: tidy(value) for name, value in vars(c).items()} for c in machine.containers]}


def breach_figures(breach: Breach, say: Words) -> dict[str, Any]:
    """A breach; what was seen of it in figures, where it is one, else in words."""
    figure = breach.what in ("rtf_limit", "memory_reserve")
    return {"concurrency": breach.concurrency, "test_id": breach.test_id, "what": breach.what,
            "observed": breach.observed if figure else say.observed(breach),
            "limit": say.limit(breach) if breach.what == "incomplete" else breach.limit}


def comparison(before: Judged, after: Judged, say: Words) -> dict[str, Any]:
    """Before and after, as printed by --json with --baseline."""
    fix, changes, unlike = compare(before, after)
    sides = [{"what": c.what.key, **c.what.facts, "before": tidy(c.before), "after": tidy(c.after)} for c in changes]
    return {"fix": fix.key, "text": say.note(fix), "differences": [say.note(n) for n in unlike], "changes": sides}


def tidy(value: Any) -> Any:
    if isinstance(value, Note):
        return value.key.removeprefix("leak_").removeprefix("verdict_")
    return round(value, 4) if isinstance(value, float) else value

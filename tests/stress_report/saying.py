"""Findings in words of either language: headline, sentences, what to do next."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from memory_leak_stress_test import WINDOW, Breach, Busy, Death, GrowthVerdict, TaskResult
from stress_report.concurrency import busy_neighbour, failure_kinds, work_together
from stress_report.diagnosis import Rising
from stress_report.findings import (
    MEMORY_CRITERIA,
    MOST_WORDS,
    OF_RECORDING,
    Criterion,
    Failure,
    Note,
    Ramp,
    plain,
)
from stress_report.hosts import Host
from stress_report.judging import Judged, gave_up, memory_missing, ramp_missing
from stress_report.machine import Killed, Reached
from stress_report.memory import RoleFindings, growth_over_ramp
from stress_report.words import LANGUAGES, WORDS

SHORT_WORDS = 120  # characters of what was seen of a breach, where it is only mentioned


class FigureFormat(string.Formatter):
    """str.format for the word table: what was not measured is shown as –, no zero as -0.0, and words bend to a count.

    {count:|line|lines} is "line" where count is 1, else "lines".
    """

    def format_field(self, value: Any, spec: str) -> str:
        if spec.startswith("|"):
            _, one, many = spec.split("|")
            return one if value == 1 else many
        if value is None:
            return "–"
        text = format(value, spec)
        return text[1:] if isinstance(value, float) and text.startswith("-") and not text.strip("-0.") else text


FIGURES = FigureFormat()


class Words:
    """The word table in one language; texts come out plain, and are made safe where they are written."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.column = LANGUAGES.index(language)

    def __call__(self, key: str, **facts: Any) -> str:
        return FIGURES.format(WORDS[key][self.column], **{k: self._fact(v) for k, v in facts.items()})

    def note(self, note: Note) -> str:
        return self(note.key, **note.facts)

    def join(self, items: Iterable[str]) -> str:
        return self("list").join(items)

    def kind(self, name: str) -> str:
        """A kind of failure or breach by its name, with what it means where that is known."""
        key = "kind_submit_http" if name.startswith("submit_http_") else f"kind_{name}"
        return self("kind", meaning=self(key), name=name) if key in WORDS else plain(name)

    def death(self, death: Death) -> str:
        """Which process ended; of an old record's odd sentence only the words are known."""
        return self("death", **vars(death)) if death.role else plain(death.name)

    def failure(self, failure: Failure) -> str:
        """What the tool knows of a failed task, then the words of the service; empty where there are neither."""
        known = [self._known(failure, name) for name in failure.facts]
        said = [*filter(None, known), plain(failure.words or "")]
        if failure.kind == "task_failed" and not any(said):
            return self("no_reason")
        return self("semicolon").join(filter(None, said))

    def _known(self, failure: Failure, name: str) -> str | None:
        """One fact in words. The facts of a later version have none yet: then they are left out."""
        facts = {key: f"{value:g}" if isinstance(value, float) else plain(str(value))
                 for key, value in failure.facts.items() if value is not None}
        value = failure.facts[name]
        if value is None:
            return None
        for key in (f"fact_{failure.kind}_{name}", f"fact_{name}_{str(value).lower()}", f"fact_{name}"):
            if key in WORDS:
                return self(key, **{"name": "–", **facts, "problem": self._problem(facts.get("problem", ""))})
        return None

    def _problem(self, problem: str) -> str:
        """What is wrong with an answer, by the tool's name for it."""
        return self(f"problem_{problem}") if f"problem_{problem}" in WORDS else problem

    def observed(self, breach: Breach) -> str:
        """What was seen of a breach: a figure, a death, what became of a task."""
        if breach.what == "incomplete":
            return self("lines", count=int(breach.observed or 0))
        if breach.what == "memory_reserve":
            return self("megabytes", mb=breach.observed)
        if breach.observed is not None:
            return num(breach.observed, 2)
        words = self.death(breach.death) if breach.death else self.failure(
            Failure(breach.what, breach.words, breach.facts))
        return self("killed", words=words, count=breach.oom_kills) if breach.oom_kills else words or "–"

    def limit(self, breach: Breach) -> str:
        if breach.what == "incomplete":
            return self("lines", count=int(breach.limit or 0))
        if breach.what == "memory_reserve":
            return self("megabytes", mb=breach.limit)
        return num(breach.limit, 2)

    def _fact(self, value: Any) -> Any:
        """Facts that are themselves said in words: a list is clauses, a tuple is an enumeration."""
        if isinstance(value, Note):
            return self.note(value)
        if isinstance(value, Breach):
            observed = plain(self.observed(value), SHORT_WORDS)
            return self("breach_short", level=value.concurrency, what=self.kind(value.what), observed=observed)
        if isinstance(value, Death):
            return self.death(value)
        if isinstance(value, Failure):
            return self("crashed_task", task=value.test_id, words=self.failure(value) or self.kind(value.kind))
        if isinstance(value, list):
            return self("semicolon").join(self._fact(item) for item in value)
        if isinstance(value, tuple):
            return self.join(self._fact(item) for item in value)
        return plain(str(value)) if isinstance(value, (str, Path)) else value


AFTERWARDS = (("kept", "said_at"), ("revoked", "revoked"))  # what later readings did to a verdict, by its fact


def reason(growth: GrowthVerdict, say: Words) -> str:
    """Why a verdict is what it is."""
    suffix = say("rss_suffix") if growth.facts.get("measure") == "rss" and growth.verdict != "NOT MEASURED" else ""
    key = "no_work_other" if growth.reason == "no_work" and growth.facts.get("pid") else growth.reason
    later = "".join(say(f"afterwards_{name}", **growth.facts) for name, fact in AFTERWARDS if fact in growth.facts)
    return say(f"reason_{key}", **growth.facts) + later + suffix


def num(value: float | None, digits: int = 1, sign: bool = False) -> str:
    """A figure for people; – where it was not measured."""
    if value is None:
        return "–"
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    return text[1:] if text.startswith(("-0", "+0")) and not text.strip("-+0.") else text


IN_MB = (*MEMORY_CRITERIA, OF_RECORDING)


def shown_criteria(judged: Judged) -> list[Criterion]:
    """The rows of the table: of a recording without tasks only what can be said of one."""
    return judged.criteria if judged.run.results else [c for c in judged.criteria if c.id == OF_RECORDING]


def observed_text(c: Criterion) -> str:
    unit = " MB" if c.id in IN_MB and c.observed is not None else ""
    digits = {"min_concurrency": 0, "no_worker_crash": 0, "rtf_under_load": 2}.get(c.id, 1)
    return num(c.observed, digits, sign=c.id in IN_MB) + unit


def limit_text(c: Criterion, say: Words) -> str:
    if c.id == "no_worker_crash":
        return say("limit_none")
    unit = " MB" if c.id in IN_MB else ""
    return say("limit_least" if c.id == "min_concurrency" else "limit_below", limit=f"{c.limit:g}{unit}")


def headline(judged: Judged, say: Words) -> str:
    """The verdict for somebody who reads one line."""
    if not judged.run.results:
        grown = [each.role for each in judged.hourly if each.status == "fail"]
        return say(f"head_recording_{judged.verdict}", roles=say.join(grown))
    missing = names_of(judged, WANTING[judged.verdict], True, say)
    untested = names_of(judged, ("not_measured",), False, say)
    said = [lead(judged, say), head(judged, missing, untested, say)]
    if judged.cut_short:
        said.append(say.note(judged.cut_short))
    if failed := judged.run.failed_in_cycles:
        named = say.join(say.kind(kind) for kind, _, _ in failure_kinds(failed)[:3])
        submitted = sum(len(judged.run.phase(phase)) for phase in {r.phase for r in failed})
        said.append(say("head_tasks", failed=len(failed), submitted=submitted, kinds=named,
                        phases=phases_of(failed)))
    if untested and (missing or judged.verdict == "pass"):
        said.append(say("head_untested", names=untested))
    return say("space").join(part for part in said if part)


def phases_of(results: Iterable[TaskResult]) -> tuple[Note, ...]:
    return tuple(Note(f"phase_{phase}") for phase in dict.fromkeys(r.phase for r in results))


WANTING: Mapping[str, tuple[str, ...]] = {  # statuses of criteria that explain a verdict
    "pass": (), "fail": ("fail",), "inconclusive": ("inconclusive", "not_measured")}


def names_of(judged: Judged, statuses: Iterable[str], asked: bool, say: Words) -> str:
    """Criteria of these statuses, of phases that were to be run or of those that were not."""
    return say.join(say(c.id) for c in judged.criteria if c.status in statuses and c.asked is asked)


def head(judged: Judged, missing: str, untested: str, say: Words) -> str:
    if judged.verdict == "inconclusive" and judged.cut_short and not missing:
        return say("head_whole")
    return say(f"head_{judged.verdict}", names=missing or untested)


def lead(judged: Judged, say: Words) -> str:
    """What a manager asks: does memory leak, and how many concurrent tasks does the service handle?"""
    parts = []
    if judged.run.watched and (judged.run.cycles_asked or judged.roles):
        parts.append(leak_lead(judged, say))
    if judged.run.asked("concurrency"):
        parts.append(say("lead_provisional", stable=judged.ramp.max_stable) if doubtful_level(judged) else
                     ramp_lead(judged.ramp, say))
    text = say("semicolon").join(parts)
    return say("lead", sentences=text[:1].upper() + text[1:]) if text else ""


def doubtful_level(judged: Judged) -> Note | None:
    """Why the highest stable level is no answer yet, though no failure below it is known; None where it is one."""
    text = criterion(judged, "min_concurrency").text
    return text if text.key in ("stable_provisional", "stable_contradicted") else None


def leak_lead(judged: Judged, say: Words) -> str:
    alone = {} if judged.roles is judged.loaded else judged.roles
    if leaking := leaking_roles(alone):
        return say("lead_LEAK", roles=say.join(v.role for v in leaking))
    if loaded := leaking_roles(judged.loaded):
        return say("lead_loaded", roles=say.join(v.role for v in loaded))
    if small := growing_slowly(judged.roles):
        return say("lead_small_together" if len(small) > 1 else "lead_small", roles=say.join(v.role for v in small),
                   rate=sum(v.growth.mb_per_cycle or 0.0 for v in small))
    if judged.roles and all(c.status == "pass" for c in judged.criteria if c.id in MEMORY_CRITERIA and c.asked):
        return say("lead_NO LEAK")
    return say("lead_gave_up" if gave_up(judged.run) else "lead_open")


def leaking_roles(roles: Mapping[str, RoleFindings]) -> list[RoleFindings]:
    """Those that leak; of a role on several hosts the hosts, and not all of them together too."""
    leaking = [v for v in roles.values() if v.growth.verdict == "LEAK"]
    on_hosts = {v.role.partition("@")[0] for v in leaking if "@" in v.role}
    return [v for v in leaking if v.role not in on_hosts]


def growing_slowly(roles: Mapping[str, RoleFindings]) -> list[RoleFindings]:
    """Those that surely grow, though by less than the tolerance, the fastest first; of several hosts all together."""
    small = [v for v in roles.values() if v.growth.reason == "small_growth"]
    whole = [v for v in small if "@" not in v.role] or small
    return sorted(whole, key=lambda v: v.growth.mb_per_cycle or 0.0, reverse=True)


def ramp_lead(ramp: Ramp, say: Words) -> str:
    if ramp.max_stable is None:
        return say("lead_stands_open")
    if not ramp.max_stable:
        return say("lead_stands_none")
    more = ramp.levels[-1].concurrency == ramp.max_stable  # nothing failed: it may handle more
    if work_together(ramp) == "not":
        return say("lead_queued", stable=say("at_least", count=ramp.max_stable) if more else ramp.max_stable)
    return say("lead_stands_more" if more else "lead_stands", stable=ramp.max_stable)


def clock_sentences(host: Host, say: Words) -> list[str]:
    """How far a host's clock was off the load's, how sure that is, and what was done about it."""
    clock = host.clock
    key = "agrees" if clock.how == "work" and not clock.offset_s else clock.how
    said = [say(f"clock_{key}", host=host.name, offset=clock.offset_s, error=clock.error_s)]
    if clock.kept is False:
        said.append(say("clock_not_kept"))
    if clock.zone_s:
        said.append(say("clock_zone", hours=clock.zone_s / 3600))
    return said


# Passed though the figure is above its limit, or what the figure does not tell.
EXPLAINED = ("delta_mapped", "baseline_mapped", "baseline_high_water", "crash_text", "crash_unread")


def three_sentences(judged: Judged, say: Words) -> list[str]:
    """Memory, with what became of processes, concurrency, what to do next; before that, what else must be known."""
    memory = memory_sentence(judged, say)
    said_already = any(capped(v.growth, say)[1:] in memory for v in judged.roles.values() if "times" in v.growth.facts)
    if judged.recycled and not said_already:
        roles = say.join(dict.fromkeys(death.role for death in judged.recycled))
        memory = say("space").join([memory, say("recycled", roles=roles, count=len(judged.recycled))])
    explained = [say("explained", what=say(c.id), why=c.text) for c in judged.criteria if c.text.key in EXPLAINED]
    memory = say("space").join([memory, *explained])
    return [memory, ramp_sentence(judged, say), *extra_line(judged, say), next_sentence(judged, say)]


def extra_line(judged: Judged, say: Words) -> list[str]:
    """What the machine as a whole and the kinds of memory add to the first screen: one line, mostly none."""
    said = [*machine_sentence(judged, say), *extra_sentence(judged, say)]
    return [say("space").join(said)] if said else []


def extra_sentence(judged: Judged, say: Words) -> list[str]:
    """Threads or files that rise, else what kind of memory grew; often none."""
    found = judged.diagnosis.first
    return [] if found is None else [rising_sentence(found, say) if isinstance(found, Rising) else say.note(found)]


def rising_sentence(rising: Rising, say: Words) -> str:
    facts = {name: getattr(rising, name) for name in ("role", "pid", "first", "last", "per_task")}
    if rising.what == "threads":
        return say("rising_threads", **facts)
    limit = "" if rising.tasks_left is None else say("rising_limit", pid=rising.pid, tasks=rising.tasks_left)
    return say("rising_sockets" if rising.sockets else "rising_files", **facts, limit=limit).strip()


def memory_sentence(judged: Judged, say: Words) -> str:
    """What leaks, else why that is not known, else how sure it is that nothing does."""
    if judged.hourly:
        return say("memory_hourly", roles=judged.criteria[0].text)
    roles, hidden = judged.roles, judged.evidence.hidden if judged.evidence else []
    if leaking := leaking_roles(roles):
        return leaks(leaking, say)
    if hidden and judged.evidence:
        return say("old_sentence", recorded=judged.evidence.recorded_max_mb, peak=max(h.peak_mb for h in hidden),
                   held=max(h.held_mb for h in hidden))
    if why := memory_missing(judged.run, judged.evidence):
        grown = growth_over_ramp(judged.run)
        if grown and why.key == "no_leak_phase":
            return say("memory_ramp", reason=say.note(why), role=grown[0], before=grown[1], after=grown[2])
        return say("memory_none", reason=say.note(why))
    if undecided := next((v for v in roles.values() if v.growth.verdict != "NO LEAK"), None):
        key = "memory_none_role" if undecided.growth.verdict == "NOT MEASURED" else "memory_open"
        return say(key, role=undecided.role, reason=capped(undecided.growth, say))
    asked = (c for c in judged.criteria if c.id in MEMORY_CRITERIA and c.asked)
    if doubt := next((c.text for c in asked if c.status != "pass"), None):
        return say("memory_doubt", roles=say.join(roles), reason=doubt)
    if small := growing_slowly(roles):
        reason = [capped(small[0].growth, say), *lasts(small[0], say), *in_all(small, say)]
        return say("memory_small", role=small[0].role, reason=reason)
    worst = max(roles.values(), key=lambda v: v.growth.upper_bound_mb_per_cycle or 0.0)
    text = capped(worst.growth, say)
    together = say.join(role for role in roles if "@" not in role)
    return say("memory_clean", roles=together, reason=text[:1].upper() + text[1:])


def machine_sentence(judged: Judged, say: Words) -> list[str]:
    """The one sentence on the machine or a container, if there is something to say: what was killed, else when.

    Not for slow growth under the tolerance, which says for how long 1 GB lasts, unless a container ends it.
    """
    machine = judged.machine
    if machine and machine.killed:
        return [killed_text(machine.killed[0], say)]
    reached = machine.reached if machine else None
    leaking = any(v.growth.verdict == "LEAK" for v in judged.roles.values())
    return [reached_text(reached, say)] if reached and (leaking or reached.container) else []


def killed_text(killed: Killed, say: Words) -> str:
    return say("killed_in_container", at=killed.concurrency, count=killed.count,
               roles=say.join(killed.container.roles), limit=killed.container.limit_mb)


def reached_text(reached: Reached, say: Words) -> str:
    """When a limit will be reached at this pace."""
    return say("reached_container" if reached.container else "reached_machine", limit=reached.limit_mb,
               left=reached.left_mb, cycles=reached.cycles, tasks=reached.tasks,
               time=say("unknown") if reached.seconds is None else about(reached.seconds, say))


def about(seconds: float, say: Words) -> str:
    """A time in whole minutes, or hours where they are many."""
    minutes = round(seconds / 60)
    return say("hours", hours=round(minutes / 60)) if minutes >= 120 else say("whole_minutes", minutes=max(1, minutes))


def lasts(small: RoleFindings, say: Words) -> list[str]:
    """For how long free memory lasts a growth under the tolerance; nothing where the time of a cycle is not known."""
    hours = small.rates.hours_per_gb if small.rates else None
    if hours is None:
        return []
    return [say("small_lasts", time=about(3600 * hours, say))]


def in_all(small: Sequence[RoleFindings], say: Words) -> list[str]:
    """What several roles that grow by less than the tolerance take together; nothing where it is one."""
    rate = sum(v.growth.mb_per_cycle or 0.0 for v in small)
    return [say("small_together", roles=say.join(v.role for v in small[1:]), rate=rate,
                cycles=int(1024 / rate))] if len(small) > 1 else []


def leaks(leaking: Sequence[RoleFindings], say: Words) -> str:
    said = [say("memory_leak", role=v.role, reason=capped(v.growth, say)) for v in leaking]
    text = say("memory_head", sentences=say("semicolon").join(said))
    clips = sorted({v.follows for v in leaking if v.follows and v.follows != "both"})
    return say("space").join([text, *(say("memory_follows", clip=clip) for clip in clips)])


def capped(growth: GrowthVerdict, say: Words) -> str:
    return plain(reason(growth, say), 2 * MOST_WORDS)


def ramp_sentence(judged: Judged, say: Words) -> str:
    ramp = judged.ramp
    if why := ramp_missing(judged.run, ramp):
        return say("ramp_none", reason=why)
    stop = say(f"stop_{ramp.stop_reason or 'unknown'}")
    if doubt := doubtful_level(judged):
        return say("ramp_doubt", reason=doubt, stop=stop)
    if ramp.max_stable is None:
        return say("ramp_open", stop=stop)
    if not ramp.max_stable and ramp.first_breach:
        return say("ramp_broken", breach=ramp.first_breach)
    return say("ramp_head", stable=ramp.max_stable, real_time=real_time(ramp, say), stop=stop,
               together=together(ramp, say)).strip()


def real_time(ramp: Ramp, say: Words) -> str:
    """Up to how many concurrent tasks all are faster than real time."""
    if ramp.max_real_time is None:
        return say("real_unknown")
    if not ramp.max_real_time:
        return say("real_none")
    if ramp.max_real_time == ramp.max_stable:
        return say("real_all")
    return say("real_some", real_time=ramp.max_real_time)


def together(ramp: Ramp, say: Words) -> str:
    """Whether "stable" tasks were done at the same time."""
    how = work_together(ramp)
    if how == "none":
        return ""
    alone = how in ("unknown", "slow_page") or ramp.knee.level
    key = f"together_{how}" if alone else f"together_{how}_no_knee"
    return say(key, seconds=ramp.slow_page_s, stable=ramp.max_stable, knee=ramp.knee.level,
               parallelism=ramp.effective_parallelism)


def next_sentence(judged: Judged, say: Words) -> str:
    """The one thing to do next."""
    return say(advice(judged), **advice_facts(judged))


def advice(judged: Judged) -> str:
    """The first row of the table whose condition holds."""
    return next(key for holds, key in ADVICE if holds(judged))


def advice_facts(judged: Judged) -> dict[str, Any]:
    """What the sentences of the table name."""
    run, leaking, growth = judged.run, first_leaking(judged), undecided_growth(judged)
    longest = max(run.phase("leak") or run.results, key=lambda r: r.audio_seconds or 0.0, default=None)
    cycles = int(run.setting("max_cycles"))
    needed = max(int(growth.facts.get(key) or 0) for key in ("needed", "enough")) if growth else 0
    wanting = [c for c in judged.criteria if c.asked and c.status in WANTING["inconclusive"]] or judged.criteria
    loaded = criterion(judged, "return_to_baseline").text.facts.get("grows")
    rising = judged.diagnosis.rising[0] if judged.diagnosis.rising else None
    neighbour, share = slowed_by(judged) or (None, None)
    return {"file": run.path.name, "role": leaking.role if leaking else loaded,
            "kept": Note(f"kept_{rising.what}") if rising else "", "rising": rising.role if rising else None,
            "stable": judged.ramp.max_stable,
            "clip": leaking.follows if leaking and leaking.follows not in (None, "both") else (
                run.clip_names[longest.clip] if longest else ""),
            "level": judged.ramp.first_breach.concurrency if judged.ramp.first_breach else None,
            "pid": neighbour and neighbour.pid, "name": neighbour and neighbour.name, "cores": share,
            "slow_level": criterion(judged, "rtf_under_load").text.facts.get("level"),
            "phase": run.cycles_of("leak" if run.asked("leak") else "loaded"),
            "phases": phases_of(run.failed_in_cycles), "works": run.works,
            "cycles": max(cycles, needed), "most": max(2 * cycles, needed, WINDOW),
            "what": tuple(Note(c.id) for c in wanting)}


def criterion(judged: Judged, name: str) -> Criterion:
    return next(c for c in judged.criteria if c.id == name)


def first_leaking(judged: Judged) -> RoleFindings | None:
    return next(iter(leaking_roles(judged.roles)), None)


def undecided_growth(judged: Judged) -> GrowthVerdict | None:
    """That of the first role that neither leaks nor is cleared."""
    return next((v.growth for v in judged.roles.values() if v.growth.verdict not in ("LEAK", "NO LEAK")), None)


def leaks_in(role: str) -> Callable[[Judged], bool]:
    return lambda judged: (found := first_leaking(judged)) is not None and found.role.partition("@")[0] == role


def failed(*names: str) -> Callable[[Judged], bool]:
    return lambda judged: any(criterion(judged, name).status == "fail" for name in names)


def undecided_by(*reasons: str) -> Callable[[Judged], bool]:
    """By one of these reasons, or one that begins so."""
    return lambda judged: (growth := undecided_growth(judged)) is not None and growth.reason.startswith(reasons)


def cut_by(*reasons: str) -> Callable[[Judged], bool]:
    return lambda judged: judged.cut_short is not None and judged.cut_short.key in reasons


def too_few_levels_by(stop: str) -> Callable[[Judged], bool]:
    return lambda judged: (judged.ramp.stop_reason == stop
                           and criterion(judged, "min_concurrency").status in ("inconclusive", "not_measured"))


def began_too_high(judged: Judged) -> bool:
    """Whether the lowest level failed, and lower ones could have been tried."""
    breach, levels = judged.ramp.first_breach, judged.ramp.levels
    return breach is not None and breach.concurrency == levels[0].concurrency > 1 and judged.ramp.max_stable is None


def ramp_left_doubt(judged: Judged) -> bool:
    """Whether it is open if the ramp left a high-water mark or a leak, and a stable level to find out is known."""
    open_ends = ("baseline_ramp", "baseline_ramp_grows", "baseline_loaded_open", "baseline_loaded_undecided")
    cut = judged.cut_short is not None and judged.cut_short.key.startswith("ramp_memory")
    return (cut or criterion(judged, "return_to_baseline").text.key in open_ends) and bool(judged.ramp.max_stable)


def slowed_by(judged: Judged) -> tuple[Busy, float] | None:
    """What else used much of the CPU while tasks were slower than real time, and how much of a core."""
    slow = criterion(judged, "rtf_under_load")
    tasks = [r for r in judged.run.phase("concurrency") if r.concurrency == slow.text.facts.get("level")]
    return busy_neighbour(tasks) if slow.status == "fail" else None


def another_worked(judged: Judged) -> bool:
    """Whether the watched processes are not those that did the work, or their memory was never read."""
    crash = criterion(judged, "no_worker_crash").text.key
    return crash == "crash_no_work" or undecided_by("no_work", "not_measured")(judged)


# What to do next; the first row that holds. The order is the policy: fix what failed, else make the run whole, else
# keep it.
ADVICE: Sequence[tuple[Callable[[Judged], bool], str]] = (
    (lambda judged: not judged.run.results and judged.verdict == "fail", "next_recording_grew"),
    (lambda judged: not judged.run.results, "next_results"),
    (leaks_in("backend"), "next_leak_go"),
    (lambda judged: (found := first_leaking(judged)) is not None and found.role.endswith(" GPU"), "next_leak_gpu"),
    (lambda judged: first_leaking(judged) is not None, "next_leak"),
    (lambda judged: judged.run.legacy, "next_old"),
    (failed("no_worker_crash"), "next_crash"),
    (lambda judged: criterion(judged, "return_to_baseline").text.key == "baseline_loaded_leak", "next_loaded"),
    (lambda judged: bool(gave_up(judged.run)), "next_failed"),
    (failed("long_audio_delta", "return_to_baseline"), "next_high_delta"),
    (failed("min_concurrency"), "next_concurrency"),
    (lambda judged: slowed_by(judged) is not None, "next_slow_beside"),
    (failed("rtf_under_load"), "next_slow"),
    (cut_by("empty_text", "no_text"), "next_empty"),
    (cut_by("same_ids", "no_ids"), "next_ids"),
    (lambda judged: bool(judged.run.failed_in_cycles), "next_failed"),
    (ramp_left_doubt, "next_loaded_alone"),
    (cut_by("cut_memory_reserve"), "next_memory"),
    (cut_by("cut_host"), "next_hosts"),
    (lambda judged: judged.cut_short is not None, "next_whole"),
    (another_worked, "next_watch"),
    (undecided_by("unwatched_"), "next_unwatched"),
    (lambda judged: bool(judged.diagnosis.rising), "next_rising"),
    (undecided_by("unsettled"), "next_unsettled"),
    (undecided_by("sampler_gap"), "next_sampler_gap"),
    (undecided_by("gap_unknown"), "next_gap_unknown"),
    (lambda judged: criterion(judged, "no_cumulative_growth").status == "inconclusive", "next_cycles"),
    (began_too_high, "next_lower_start"),
    (too_few_levels_by("memory_reserve"), "next_memory_reserve"),
    (too_few_levels_by("rtf_limit"), "next_rtf_limit"),
    (lambda judged: judged.verdict != "pass", "next_again"),
    (lambda judged: True, "next_keep"),
)

"""Findings in words of either language: headline, sentences, what to do next."""

from __future__ import annotations

import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from memory_leak_stress_test import Breach, GrowthVerdict
from stress_report.concurrency import failure_kinds, work_together
from stress_report.findings import MEMORY_CRITERIA, MOST_WORDS, Criterion, Note, Ramp, plain
from stress_report.judging import Judged, in_words, memory_missing
from stress_report.words import LANGUAGES, WORDS


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

    def _fact(self, value: Any) -> Any:
        """Facts that are themselves said in words: a list is clauses, a tuple is an enumeration."""
        if isinstance(value, Note):
            return self.note(value)
        if isinstance(value, Breach):
            observed = seen_of(value.observed, 120)
            return self("breach_short", level=value.concurrency, what=self.kind(value.what), observed=observed)
        if isinstance(value, list):
            return self("semicolon").join(self._fact(item) for item in value)
        if isinstance(value, tuple):
            return self.join(self._fact(item) for item in value)
        return plain(str(value)) if isinstance(value, (str, Path)) else value


def reason(growth: GrowthVerdict, say: Words) -> str:
    """Why a verdict is what it is."""
    suffix = say("rss_suffix") if growth.facts.get("measure") == "rss" and growth.verdict != "NOT MEASURED" else ""
    return say(f"reason_{growth.reason}", **growth.facts) + suffix


def seen_of(seen: float | str | None, limit: int = MOST_WORDS) -> Note | str:
    """What was seen of a breach: a figure or words."""
    return in_words(seen, limit) if isinstance(seen, str) else num(seen, 2)


def num(value: float | None, digits: int = 1, sign: bool = False) -> str:
    """A figure for people; – where it was not measured."""
    if value is None:
        return "–"
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    return text[1:] if text.startswith(("-0", "+0")) and not text.strip("-+0.") else text


def observed_text(c: Criterion) -> str:
    unit = " MB" if c.id in MEMORY_CRITERIA and c.observed is not None else ""
    digits = 0 if c.id in ("min_concurrency", "no_worker_crash") else 2 if c.id == "rtf_under_load" else 1
    return num(c.observed, digits, sign=c.id in MEMORY_CRITERIA) + unit


def limit_text(c: Criterion, say: Words) -> str:
    if c.id == "no_worker_crash":
        return say("limit_none")
    unit = " MB" if c.id in MEMORY_CRITERIA else ""
    return say("limit_least" if c.id == "min_concurrency" else "limit_below", limit=f"{c.limit:g}{unit}")


def headline(judged: Judged, say: Words) -> str:
    """The verdict for somebody who reads one line."""

    def names(statuses: Iterable[str], asked: bool) -> str:
        return say.join(say(c.id) for c in judged.criteria if c.status in statuses and c.asked is asked)

    if not judged.run.results:
        return say("head_resources")
    wanted = {"pass": (), "fail": ("fail",), "inconclusive": ("inconclusive", "not_measured")}[judged.verdict]
    untested = names(("not_measured",), False)
    missing = names(wanted, True)
    key = "whole" if judged.verdict == "inconclusive" and judged.cut_short and not missing else judged.verdict
    said = [lead(judged, say), say(f"head_{key}", names=missing or untested)]
    if judged.cut_short:
        said.append(say.note(judged.cut_short))
    if failed := judged.run.failed_leak_tasks:
        named = say.join(say.kind(kind) for kind, _, _ in failure_kinds(failed)[:3])
        said.append(say("head_tasks", failed=len(failed), submitted=len(judged.run.phase("leak")), kinds=named))
    if untested and (missing or judged.verdict == "pass"):
        said.append(say("head_untested", names=untested))
    return say("space").join(part for part in said if part)


def lead(judged: Judged, say: Words) -> str:
    """What a manager asks: does memory leak, and how many tasks at once does the service stand?"""
    parts = []
    if judged.run.asked("leak") and judged.run.watched:
        leaking = [role for role, v in judged.roles.items() if v.growth.verdict == "LEAK"]
        memory = {c.status for c in judged.criteria if c.id in MEMORY_CRITERIA}
        clean = judged.roles and memory == {"pass"}
        key = "lead_LEAK" if leaking else "lead_NO LEAK" if clean else "lead_open"
        parts.append(say(key, roles=say.join(leaking)))
    if judged.run.asked("concurrency"):
        stable = judged.ramp.max_stable
        queued = work_together(judged.ramp) == "not"
        key = "stands_open" if stable is None else "queued" if queued else "stands" if stable else "stands_none"
        more = stable and judged.ramp.levels[-1].concurrency == stable  # nothing broke: it may stand more
        parts.append(say(f"lead_{key}", stable=say("at_least", count=stable) if more else stable))
    text = say("semicolon").join(parts)
    return say("lead", sentences=text[:1].upper() + text[1:]) if text else ""


def three_sentences(judged: Judged, say: Words) -> list[str]:
    """Memory, concurrency, what to do next."""
    return [memory_sentence(judged, say), ramp_sentence(judged, say), next_sentence(judged, say)]


def memory_sentence(judged: Judged, say: Words) -> str:
    roles, hidden = judged.roles, judged.evidence.hidden if judged.evidence else []
    if leaking := [v for v in roles.values() if v.growth.verdict == "LEAK"]:
        said = [say("memory_leak", role=v.role, reason=capped(v.growth, say)) for v in leaking]
        text = say("memory_head", sentences=say("semicolon").join(said))
        clips = sorted({v.follows for v in leaking if v.follows and v.follows != "both"})
        return say("space").join([text, *(say("memory_follows", clip=clip) for clip in clips)])
    if hidden and judged.evidence:
        return say("old_sentence", recorded=judged.evidence.recorded_max_mb, peak=max(h.peak_mb for h in hidden),
                   held=max(h.held_mb for h in hidden))
    undecided = next((v for v in roles.values() if v.growth.verdict != "NO LEAK"), None)
    if why := memory_missing(judged.run, judged.evidence):
        return say("memory_none", reason=say.note(why))
    if undecided:
        key = "memory_none" if undecided.growth.verdict == "NOT MEASURED" else "memory_open"
        return say(key, role=undecided.role, reason=capped(undecided.growth, say))
    doubts = [c.text for c in judged.criteria if c.id in MEMORY_CRITERIA and c.status != "pass"]
    if doubts:
        return say("memory_doubt", roles=say.join(roles), reason=doubts[0])
    worst = max(roles.values(), key=lambda v: v.growth.upper_bound_mb_per_cycle or 0.0)
    text = capped(worst.growth, say)
    return say("memory_clean", roles=say.join(roles), reason=text[:1].upper() + text[1:])


def capped(growth: GrowthVerdict, say: Words) -> str:
    return plain(reason(growth, say), 2 * MOST_WORDS)


def ramp_sentence(judged: Judged, say: Words) -> str:
    ramp = judged.ramp
    if not ramp.levels:
        asked = judged.run.asked("concurrency")
        return say("ramp_none", reason=say("no_ramp_lines" if asked else "no_ramp_phase"))
    stop = say(f"stop_{ramp.stop_reason or 'unknown'}")
    if ramp.max_stable is None:
        return say("ramp_open", stop=stop)
    if not ramp.max_stable and ramp.first_breach:
        return say("ramp_broken", breach=ramp.first_breach)
    slow = {None: "real_unknown", 0: "real_none", ramp.max_stable: "real_all"}.get(ramp.max_real_time, "real_some")
    return say("ramp_head", stable=ramp.max_stable, real_time=say(slow, real_time=ramp.max_real_time), stop=stop,
               together=together(ramp, say)).strip()


def together(ramp: Ramp, say: Words) -> str:
    """Whether "stable" tasks were done at the same time."""
    how = work_together(ramp)
    if how == "none":
        return ""
    key = f"together_{how}" if how == "unknown" or ramp.knee.level else f"together_{how}_no_knee"
    return say(key, stable=ramp.max_stable, knee=ramp.knee.level, parallelism=ramp.effective_parallelism)


def next_sentence(judged: Judged, say: Words) -> str:
    """The one thing to do next: mend what failed, else make the run whole, else keep it."""
    run, file = judged.run, judged.run.path.name
    if not run.results:
        return say("next_results")
    status = {c.id: c for c in judged.criteria}
    leaking = next((v for v in judged.roles.values() if v.growth.verdict == "LEAK"), None)
    longest = max(run.phase("leak"), key=lambda r: r.audio_seconds or 0.0).audio_file if run.phase("leak") else ""
    if leaking:
        clip = leaking.follows if leaking.follows not in (None, "both") else longest
        key = "next_leak_go" if leaking.role == "backend" else "next_leak"
        return say(key, role=leaking.role, clip=clip, file=file)
    if run.legacy:
        return say("next_old")
    if status["no_worker_crash"].status == "fail":
        return say("next_crash")
    if "fail" in (status["long_audio_delta"].status, status["return_to_baseline"].status):
        return say("next_high_delta", clip=longest, file=file)
    if status["min_concurrency"].status == "fail" and judged.ramp.first_breach:
        return say("next_concurrency", level=judged.ramp.first_breach.concurrency)
    if status["rtf_under_load"].status == "fail":
        return say("next_slow", level=status["rtf_under_load"].text.facts["level"])
    if judged.cut_short and judged.cut_short.key == "empty_text":
        return say("next_empty")
    if run.failed_leak_tasks:
        return say("next_failed")
    if judged.cut_short:
        return say("next_whole")
    if status["return_to_baseline"].text.key == "baseline_ramp":
        return say("next_ramp")
    growth = next((v.growth for v in judged.roles.values() if v.growth.verdict != "NO LEAK"), None)
    if growth and growth.reason in ("unsettled", "sampler_gap", "gap_unknown"):
        return say(f"next_{growth.reason}")
    if status["no_cumulative_growth"].status == "inconclusive" and growth:
        cycles = int(run.setting("max_cycles"))
        needed = max(int(growth.facts.get(key) or 0) for key in ("needed", "enough"))
        return say("next_cycles", cycles=max(cycles, needed), most=max(2 * cycles, needed))
    stop = judged.ramp.stop_reason
    if status["min_concurrency"].status == "inconclusive" and stop in ("memory_reserve", "rtf_limit"):
        return say(f"next_{stop}")
    missing = [c for c in judged.criteria if c.asked and c.status in ("inconclusive", "not_measured")]
    if missing or judged.verdict != "pass":
        return say("next_again", what=say.join(say(c.id) for c in missing or judged.criteria))
    return say("next_keep", file=file)

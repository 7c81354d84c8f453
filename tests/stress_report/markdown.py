"""The report as markdown that shows any text as it is."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from memory_leak_stress_test import ROLES, Settings, TaskResult
from stress_report.comparison import Change, compare, host_memory
from stress_report.concurrency import COARSE, KNEE_LEVELS, REAL_TIME, failure_kinds
from stress_report.diagnosis import COUNTS, PRIVATE, SHOWN_MB, Kept, of_kind
from stress_report.findings import MOST_WORDS, Level, Note, Ramp, median, plain
from stress_report.hosts import Host
from stress_report.judging import Judged
from stress_report.machine import Part
from stress_report.memory import (
    BY_THE_CLOCK,
    MUCH_BIGGER_MB,
    HorseFigures,
    RoleFindings,
    cached_clips,
    identical_clips,
)
from stress_report.recording import EPOCH, RecordedRun, began_at, hole_from, run_span
from stress_report.saying import (
    Words,
    capped,
    clock_sentences,
    headline,
    killed_text,
    limit_text,
    memory_sentence,
    num,
    observed_text,
    ramp_sentence,
    reached_text,
    rising_sentence,
    shown_criteria,
    three_sentences,
    together,
)
from stress_report.words import WORDS

MOST_ROWS = 60  # of a table; the middle of a longer one is left out, and said so
ENTITIES = {c: f"&#{ord(c)};" for c in "\\`*[]{}|~$@^"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def md(text: str) -> str:
    """Any text as markdown that shows it as it is: one line, no markup, no HTML, no links.

    Letters that could mean something to a renderer become entities, which are always shown as text.
    """
    line = "".join(ENTITIES.get(c, c) for c in plain(text, 4 * MOST_WORDS))
    line = re.sub(r"^[-+=#](?=[-=# ]|$)|(?<=^\d)[.)](?= )", lambda mark: f"&#{ord(mark[0])};", line)
    line = re.sub(r"(?<![^\W_])_|_(?![^\W_])", "&#95;", line)  # inside a word it is harmless and reads better
    line = re.sub(r"(?i)\b(https?|ftp|mailto|xmpp):", r"\1&#58;", line)
    return re.sub(r"(?i)\bwww\.", "www&#46;", line)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, whole: bool = False) -> list[str]:
    """A markdown table; the first `left` columns are text, the others figures. `whole`: no short cell is broken."""
    marks = ["---" if i < left else "---:" for i in range(len(headers))]
    show = unbroken if whole else md
    lines = [f"| {' | '.join(show(cell) or ' ' for cell in line)} |" for line in (headers, *rows)]
    return [lines[0], f"| {' | '.join(marks)} |", *lines[1:], ""]


def unbroken(text: str) -> str:
    """Markdown of a cell; a short one with no-break spaces, and word joiners between Chinese characters."""
    if len(text) > 16:
        return md(text)
    return re.sub(r"(?<=[\u4e00-\u9fff])(?=[\u4e00-\u9fff])", "\u2060", md(text).replace(" ", "\u00a0"))


def shortened_table(headers: Sequence[str], rows: Sequence[Sequence[str]], say: Words, left: int = 1) -> list[str]:
    return [*table(headers, shortened(rows), left), *left_out(rows, say)]


def shortened(items: Sequence[Any]) -> list[Any]:
    """The first and last of a long list."""
    return list(items) if len(items) <= MOST_ROWS else [*items[: MOST_ROWS // 2], *items[-MOST_ROWS // 2 :]]


def left_out(items: Sequence[Any], say: Words) -> list[str]:
    return sentences([say("rows_left_out", count=len(items) - MOST_ROWS)]) if len(items) > MOST_ROWS else []


def code(text: str) -> list[str]:
    """A code block; its fence is longer than any in the text."""
    line = plain(text, 10 * MOST_WORDS)
    fence = "`" * max(3, 1 + max((len(ticks) for ticks in re.findall(r"`+", line)), default=0))
    return [fence, line, fence, ""]


def sentences(lines: Iterable[str]) -> list[str]:
    return [part for line in lines for part in (md(line), "")]


def bullets(lines: Iterable[str]) -> list[str]:
    return [*(f"- {md(line)}" for line in lines), ""]


def picture(alt: str, file: str) -> list[str]:
    return [f"![{md(alt)}]({quote(file)})", ""]


def report(
    judged: Judged, before: Judged | None, charts: Mapping[str, str], chart_notes: Sequence[Note], say: Words
) -> str:
    """The whole report: first screen, comparison, set-up, memory, concurrency, resources, method."""
    verdict = f"**{md(say('verdict_' + judged.verdict))}** – {md(headline(judged, say))}"
    lines = [f"# {md(say('title'))}", "", verdict, ""]
    headers = columns(say, "what", "observed", "limit", "result", "why")
    lines += table(headers, criteria_rows(judged, say), 5, whole=True)
    lines += bullets(three_sentences(judged, say))
    parts = [("compare", comparison_part(before, judged, say) if before else []), ("run", run_part(judged, say)),
             ("old", old_part(judged, say)), ("hosts", hosts_part(judged.hosts, say)),
             ("memory", memory_part(judged, charts, say)), ("kinds", kinds_part(judged, say)),
             ("machine", machine_part(judged, charts, say)), ("ramp", ramp_part(judged, charts, say)),
             ("loaded", loaded_part(judged, say)), ("resources", resources_part(judged, say)),
             ("method", method_part(judged, chart_notes, say)), ("input", input_part(judged.run, say))]
    for key, part in parts:
        if part:
            lines += [f"## {md(say('part_' + key))}", "", *part]
    return "\n".join(lines).rstrip() + "\n"


def columns(say: Words, *names: str) -> list[str]:
    return [say(f"col_{name}") for name in names]


def criteria_rows(judged: Judged, say: Words) -> list[tuple[str, str, str, str, str]]:
    return [(say(c.id), observed_text(c), limit_text(c, say), say(f"status_{c.status}"), say.note(c.text))
            for c in shown_criteria(judged)]


def comparison_part(before: Judged, after: Judged, say: Words) -> list[str]:
    fix, changes, unlike = compare(before, after)
    rows = [(say.note(change.what), figure_text(change.before, change.digits, say),
             figure_text(change.after, change.digits, say), change_text(change)) for change in changes]
    lines = [f"**{md(say.note(fix))}**", "", *table(columns(say, "what", "before", "after", "change"), rows)]
    runs = say("fix_run", before=before.run.path.name, after=after.run.path.name,
               began_before=began(before.run) or say("unknown"), began_after=began(after.run) or say("unknown"))
    return lines + bullets([runs, *map(say.note, unlike)])


def figure_text(value: float | Note | None, digits: int, say: Words) -> str:
    return say.note(value) if isinstance(value, Note) else num(value, digits)


def change_text(change: Change) -> str:
    if isinstance(change.before, Note) or isinstance(change.after, Note):
        return "" if change.before == change.after else "→"
    known = change.before is not None and change.after is not None
    return num((change.after or 0.0) - (change.before or 0.0), change.digits, sign=True) if known else "–"


def run_part(judged: Judged, say: Words) -> list[str]:
    """All that is needed to repeat the run."""
    run = judged.run
    first = run.results[0] if run.results else None
    host: Mapping[str, Any] = first.host if first else {}
    settings: Mapping[str, Any] = first.settings if first else {}
    phase = settings.get("phase")
    facts = [("host", host.get("name")), ("cpus", host.get("cpus")),
             ("host_memory", host_memory(host)), ("system", host.get("system")), ("python", host.get("python")),
             ("tool_version", host.get("tool_version")),
             ("api", f"{settings.get('api', 'asr-queue')} {settings['url']}" if "url" in settings else None),
             ("phase", say(f"phase_{phase}") if f"phase_{phase}" in WORDS else phase), ("when", began(run)),
             ("duration", duration_text(run, say)),
             ("files", " + ".join([run.path.name, *(s.path.name for s in run.samples if s.path != run.path)]))]
    known = [(say(key), say("unknown") if value is None else str(value)) for key, value in facts]
    lines = table(columns(say, "what", "value"), known, 2)
    clips = Counter((run.clip_names[r.clip], num(r.audio_seconds), num(r.audio_size_mb, 2)) for r in run.results)
    if clips:
        rows = [(*clip, str(count)) for clip, count in clips.items()]
        lines += shortened_table(columns(say, "clip", "length", "size", "tasks"), rows, say)
    if settings:
        lines += [*sentences([say("repeat")]), *code(repeat_command(settings))]
    return lines


def repeat_command(settings: Mapping[str, Any]) -> str:
    """The command line of a run: every setting that is not the default."""
    words = ["python3", "tests/memory_leak_stress_test.py"]
    defaults = Settings().for_record()
    for name, value in settings.items():
        if name not in defaults or value == defaults[name] or value is None:
            continue
        option = f"--{name.replace('_', '-')}"
        values = [f"{value:g}" if isinstance(value, float) else str(value)]
        if isinstance(value, dict):  # --watch and --pid: lists by role
            values = [f"{role}={each}" for role, them in value.items() if isinstance(them, list) for each in them]
        words += [option] if value is True else [word for each in values for word in (option, each)]
    return shlex.join(words)


def began(run: RecordedRun) -> str | None:
    begin = began_at(run)
    try:
        return None if begin is None else (EPOCH + timedelta(seconds=begin)).isoformat(" ", "seconds")
    except OverflowError:  # a time of the year 1 and a task of a thousand years
        return None


def duration_text(run: RecordedRun, say: Words) -> str | None:
    span = run_span(run)
    seconds = int(span[1] - span[0]) if span else 0
    return say("minutes", minutes=seconds // 60, seconds=seconds % 60) if span else None


def old_part(judged: Judged, say: Words) -> list[str]:
    """What an older tool's record can and cannot prove, and what its CSV shows."""
    evidence = judged.evidence
    if evidence is None:
        return []
    hidden = sorted(evidence.hidden, key=lambda h: h.first_s)
    lines = sentences([say("old_head")])
    if hidden:
        who = evidence.recorded
        recorded = say("old_recorded", name=who.name, pid=who.pid) if who else say("old_unmatched")
        finding = say("old_wrong", recorded=recorded, mb=evidence.recorded_max_mb, count=len(hidden),
                      peak=max(h.peak_mb for h in hidden), held=max(h.held_mb for h in hidden))
        rows = [(h.name, str(h.pid), f"{h.first_s:,.0f} – {h.last_s:,.0f} s", num(h.peak_mb), num(h.held_mb),
                 h.test_id or "–") for h in hidden]
        lines += [f"**{md(finding)}**", ""]
        lines += shortened_table(columns(say, "process", "pid", "seen", "task_peak", "held", "task"), rows, say)
        lines += sentences([say("first_sample")])
    elif evidence.recorded:
        recorded = say("old_recorded", name=evidence.recorded.name, pid=evidence.recorded.pid)
        lines += sentences([say("old_trusted", recorded=recorded)])
    else:
        lines += sentences([say("old_nothing" if judged.run.samples else "old_no_csv")])
    return lines + bullets([say("old_can"), say("old_cannot"), say("old_limits")])


def hosts_part(hosts: Sequence[Host], say: Words) -> list[str]:
    """Which roles were watched on which host, and how its clock fits that of the load."""
    if not hosts:
        return []
    rows = []
    for host in hosts:
        facts = host.readings.facts.get("host")
        known = facts if isinstance(facts, dict) else {}
        rows.append((host.name, say.join(host.readings.rss), str(known.get("cpus", "–")),
                     str(host_memory(known) or "–"), host.samples.path.name))
    clocks = [say("space").join(clock_sentences(host, say)) for host in hosts]
    without = [say("host_csv_alone", host=host.name, file=host.samples.host_file.name)
               for host in hosts if not host.readings.private]
    return [*table(columns(say, "host", "roles", "cpus", "host_memory", "file"), rows, 2), *bullets(clocks + without)]


def memory_part(judged: Judged, charts: Mapping[str, str], say: Words) -> list[str]:
    """Leak verdict of each role, the cycles, work-horses, the chart."""
    roles, tasks, lines = judged.roles, last_of_batches(judged.run.phase("leak")), []
    if roles:
        lines += role_table(roles, "loaded" if roles is judged.loaded else "leak", say)
        said = [text for v in roles.values() for text in role_lines(v, say)]
        unwatched = [role for role in ROLES if role not in roles and (role != "redis" or judged.run.schema > 1)]
        said += [say("memory_unwatched", roles=say.join(unwatched))] if unwatched else []
        whole = [role for role, v in roles.items() if v.growth.facts.get("measure") == "whole_gpu"]
        said += [say("whole_gpu", roles=say.join(whole))] if whole else []
        said += [say("gpu_limits")] if any(role.endswith(" GPU") for role in roles) else []
        lines += bullets([*said, *upload_lines(judged.run, say)])
        private = any(m.private_after_mb is not None for r in judged.run.results for m in r.memory.values())
        measured = any(v.growth.verdict != "NOT MEASURED" for v in roles.values())
        if measured:
            lines += sentences([say("measure_private" if private else "measure_rss")])
        lines += sentences([say("bands")])
    else:
        lines += sentences([memory_sentence(judged, say)])
    if judged.hourly:
        lines += sentences([say("hourly_less_sure")])
    if "memory" in charts:
        lines += picture(say("alt_memory"), charts["memory"])
    lines += horses_table(roles.get("worker"), say)
    return lines + task_table(judged.run, tasks, say)


def kinds_part(judged: Judged, say: Words) -> list[str]:
    """Which kind of memory grew, and what else processes kept; what to do next, by commands that fit them."""
    found = judged.diagnosis
    said = [*(rising_sentence(each, say) for each in found.rising), *map(say.note, found.conclusions)]
    said += [say("kinds_hidden", roles=say.join(found.hidden))] if found.hidden else []
    lines = bullets(said) if said else []
    if rows := [row for each in found.grown.values() for row in kind_rows(each, say)]:
        first, last = found.cycles
        headers = [*columns(say, "role", "pid", "kind_of"), *(say("col_after_cycle", cycle=n) for n in found.cycles)]
        lines += sentences([say("kinds_head", first=first, last=last)]) if found.read else []
        lines += table([*headers, *columns(say, "change", "per_cycle")], rows, 3)
    elif found.read:
        lines += sentences([say("kinds_same", limit=SHOWN_MB, first=found.cycles[0], last=found.cycles[1])])
    if found.commands:
        steps = [(say(each.why), each.command, installed(each.tool, each.installed, say)) for each in found.commands]
        lines += [*sentences([say("steps_head")]), *table(columns(say, "step", "command", "tool"), steps, 3)]
    return lines


def installed(tool: str | None, there: bool | None, say: Words) -> str:
    if tool is None or there is None:
        return "–"
    return say("tool_there" if there else "tool_missing", tool=tool)


def kind_rows(each: Kept, say: Words) -> Iterator[tuple[str, ...]]:
    """Kinds of memory of a process that changed, and how many threads and files it has."""
    if each.changes:
        (_, first), (_, last) = each.kinds[0], each.kinds[-1]
        for kind, change in each.changes.items():
            if abs(change) >= SHOWN_MB:
                name = say(f"kind_{kind}" if kind in PRIVATE else f"kind_{kind}_row", before=first.arenas,
                           now=last.arenas)
                yield (each.role, str(each.pid), name, num(of_kind(first, kind)), num(of_kind(last, kind)),
                       num(change, sign=True), num(change / each.span, sign=True))
    for what in COUNTS:
        before, now = each.counts(what)[0], each.counts(what)[-1]
        if before is not None and now is not None:
            per_cycle = (now - before) / (each.cycles[-1] - each.cycles[0])
            yield (each.role, str(each.pid), say(f"kind_{what}"), num(before, 0), num(now, 0),
                   num(now - before, 0, sign=True), num(per_cycle, sign=True))


def machine_part(judged: Judged, charts: Mapping[str, str], say: Words) -> list[str]:
    """The machine's memory by whose it is, containers, when a limit is reached."""
    machine = judged.machine
    if machine is None:
        return []
    named = [part for part in (*machine.parts, *machine.named) if part.what != "process" or part.tells]
    rows = [(part_name(part, say), num(part.readings[0]), num(part.readings[-1]),
             num(part.growth.mb_per_cycle, 2, sign=True), say(how_it_grows(part))) for part in named]
    lines = sentences([say("machine_head")]) + table(
        columns(say, "part", "first_cycle", "last_cycle", "rate", "grows"), rows) if rows else []
    if "machine" in charts:
        lines += picture(say("alt_machine"), charts["machine"])
    said = [killed_text(killed, say) for killed in machine.killed[:10]]
    said += [say("container_line", roles=say.join(c.roles), path=c.path, limit=c.limit_mb, most=c.most_mb,
                 working_set=c.working_set_mb, peak=c.peak_mb, kills=c.oom_kills) for c in machine.containers]
    said += [reached_text(machine.reached, say)] if machine.reached else []
    said += [say("machine_unread", what=what, why=why) for what, why in machine.missing.items()]
    return lines + (bullets(said) if said else [])


def part_name(part: Part, say: Words) -> str:
    """What the memory is of; of processes by their name, how many they are, and which is the largest."""
    if part.what != "process":
        return say(f"machine_{part.what}")
    largest = f"{part.program} ({part.pid})"
    return largest if part.count == 1 else f"{part.count} × {part.name}: {largest}"


def how_it_grows(part: Part) -> str:
    if part.in_step:
        return "grows_in_step"
    return "grows_by_itself" if part.tells and part.by_itself else "none"


def loaded_part(judged: Judged, say: Words) -> list[str]:
    """The loaded cycles: the same number of tasks together again and again, at rest in between."""
    if not judged.loaded:
        return []
    rounds = judged.run.phase("loaded")
    said = [text for v in judged.loaded.values() for text in role_lines(v, say)]
    return [*sentences([say("loaded_head", size=rounds[-1].concurrency)]), *role_table(judged.loaded, "loaded", say),
            *bullets(said), *task_table(judged.run, last_of_batches(rounds), say)]


def last_of_batches(results: Iterable[TaskResult]) -> list[TaskResult]:
    """One of the tasks that were released together, which share what is known of memory."""
    return [*{r.batch or r.test_id: r for r in results}.values()]


def role_table(roles: Mapping[str, RoleFindings], phase: str, say: Words) -> list[str]:
    rows = [(role, say("leak_" + v.growth.verdict), num(v.growth.mb_per_cycle, 2, sign=True),
             num(v.growth.upper_bound_mb_per_cycle, 2), num(v.first_use_growth_mb), num(v.peak_mb),
             str(v.growth.cycles)) for role, v in roles.items()]
    peak = "peak_gpu" if any(role.endswith(" GPU") for role in roles) else "peak"
    headers = columns(say, "role", "verdict", "rate", "bound", "first_use", "cycles")
    return table([*headers[:-1], say(f"col_{peak}", phase=Note(f"phase_{phase}")), headers[-1]], rows, 2)


def task_table(run: RecordedRun, tasks: Sequence[TaskResult], say: Words) -> list[str]:
    """Memory around each task, or each batch of tasks."""
    others = [role for role in ROLES if role != run.works and any(role in r.memory for r in tasks)]
    rows = [(str(r.cycle), clip_text(r, run.clip_names[r.clip], say), *rss_cells(run, r), num(r.rtf, 3),
             say(YES_NO[r.settled]),
             *(num(r.memory[role].after_mb) if role in r.memory else "–" for role in others)) for r in shortened(tasks)]
    headers = columns(say, "cycle", "clip", "rss_before", "rss_after", "delta", "task_peak", "rtf", "settled")
    headers += [say("col_other_after", role=role) for role in others]
    return [*table(headers, rows, 2), *left_out(tasks, say)] if tasks else []


YES_NO = {True: "yes", False: "no", None: "none"}


def rss_cells(run: RecordedRun, result: TaskResult) -> tuple[str, str, str, str]:
    rss = run.rss(result)
    return num(rss.before), num(rss.after), num(rss.delta, sign=True), num(rss.peak)


def clip_text(result: TaskResult, clip: str, say: Words) -> str:
    """The clip of a task, and what became of a task that did not succeed."""
    failed = result.status != "success"
    return f"{clip} – {say.kind(result.error_kind or result.status)}" if failed else clip


def upload_lines(run: RecordedRun, say: Words) -> Iterator[str]:
    """What the uploads could and could not show: caches, and what is kept per new recording."""
    for cached in cached_clips(run):
        yield say("caches", clip=cached.clip, again=cached.again_s, usual=cached.usual_s)
    if identical := identical_clips(run):
        yield say("identical", clips=tuple(identical))


def rate_lines(v: RoleFindings, say: Words) -> Iterator[str]:
    """A rate that is sure in every unit, whether it is the tasks' or the clock's, and whose it is."""
    if v.rates is None or v.rates.per_hour is None or v.growth.facts.get("low", 0.0) <= 0:
        return
    yield say("rates_line", role=v.role, per_cycle=v.rates.per_cycle, per_task=v.rates.per_task,
              per_hour=v.rates.per_hour)
    if (v.rates.idle_share or 0.0) >= BY_THE_CLOCK:
        yield say("grows_idle", role=v.role)
    if v.pid is not None:
        yield say("grown_pid", pid=v.pid)


def role_lines(v: RoleFindings, say: Words) -> Iterator[str]:
    """What there is to say about one role."""
    yield say("role_line", role=v.role, verdict=say("leak_" + v.growth.verdict), reason=capped(v.growth, say))
    yield from rate_lines(v, say)
    if v.follows:
        yield say("follows_both") if v.follows == "both" else say("follows_clip", clip=v.follows)
    if v.first_use_growth_mb is not None and v.first_use_growth_mb > MUCH_BIGGER_MB / 10:
        leaks = v.growth.verdict == "LEAK"
        yield say("first_use_leak" if leaks else "first_use_line", mb=v.first_use_growth_mb, role=v.role)
    if v.breaks:
        yield say("breaks_line", breaks=say.join(say(f"break_{kind}", cycle=cycle) for cycle, kind in v.breaks[:10]))


def horses_table(worker: RoleFindings | None, say: Words) -> list[str]:
    horses: Sequence[HorseFigures] = worker.horses if worker else []
    rows = [(h.clip, say("leak_" + h.growth.verdict), str(h.jobs), pair(h.peak_median_mb, h.peak_max_mb, 1),
             pair(h.held_median_mb, h.held_max_mb, 1), num(h.growth.mb_per_cycle, 2, sign=True)) for h in horses]
    if not rows:
        return []
    headers = columns(say, "clip", "verdict", "jobs", "peak_pair", "held_pair", "rate")
    return [*sentences([say("horses_head")]), *shortened_table(headers, rows, say, 2)]


def pair(median_value: float | None, highest: float | None, digits: int) -> str:
    return f"{num(median_value, digits)} / {num(highest, digits)}"


def ramp_part(judged: Judged, charts: Mapping[str, str], say: Words) -> list[str]:
    """Levels, the three answers, the chart, the first breach, failures."""
    ramp = judged.ramp
    lines = []
    if ramp.levels:
        rows = [(str(v.concurrency), state_text(v, say), f"{v.succeeded} / {v.submitted}{'' if v.complete else '?'}",
                 num(v.turnaround_median_s, 2), num(v.turnaround_max_s, 2), pair(v.rtf_median, v.rtf_max, 3),
                 num(v.audio_seconds_per_second, 2), num(v.worker_peak_mb), str(v.runs)) for v in ramp.levels]
        headers = [*columns(say, "level", "state", "ok", "median", "max", "rtf_pair", "speed"),
                   say("col_memory", role=judged.run.works), say("col_runs")]
        lines += shortened_table(headers, rows, say, 2)
        lines += bullets(ramp_lines(ramp, say))
        if "concurrency" in charts:
            lines += picture(say("alt_ramp"), charts["concurrency"])
    else:
        lines += sentences([ramp_sentence(judged, say)])
    kinds = failure_kinds(judged.run.results)
    empty = judged.run.empty_texts
    if kinds:
        lines += sentences([say("failures_head")])
        failures = [(say.kind(kind), " / ".join(filter(None, map(say.failure, most))), str(count))
                    for kind, count, most in kinds]
        lines += table(columns(say, "kind", "said", "count"), failures, 2)
    elif judged.run.results:
        lines += sentences([say("no_failures")])
    return lines + (sentences([say("empty_text", count=empty)]) if empty else [])


def state_text(level: Level, say: Words) -> str:
    """What became of a level, the most important first."""
    state = say(f"state_{state_of(level)}")
    slow = level.rtf_max is not None and level.rtf_max >= REAL_TIME
    return say("state_slow", state=state) if slow else state


def state_of(level: Level) -> str:
    if level.interrupted:
        return "interrupted"
    if not level.complete:
        return "incomplete"
    if level.client_limited:
        return "limited"
    if level.flaky:
        return "flaky"
    if level.below_reserve:
        return "reserve"
    return "stable" if level.stable else "failed"


def ramp_lines(ramp: Ramp, say: Words) -> Iterator[str]:
    proven = say("ramp_bound", tasks=ramp.tasks_at_limit, percent=math.ceil(100 * (ramp.failure_bound or 0.0)))
    yield say("ramp_stable", value=num(ramp.max_stable, 0)) + (say("semicolon") + proven if ramp.failure_bound else "")
    yield say("ramp_real_time", value=num(ramp.max_real_time, 0))
    knee = say(f"knee_{ramp.knee.reason}", least=KNEE_LEVELS) if ramp.knee.level is None else num(ramp.knee.level, 0)
    yield say("ramp_knee", value=knee)
    parallelism = ramp.effective_parallelism
    yield say("ramp_parallel", value=say("no_level_one") if parallelism is None else num(parallelism, 2))
    if ramp.slow_page_s is None and (ramp.poll_error or 0.0) > COARSE:
        yield say("coarse_polls", percent=100 * (ramp.poll_error or 0.0))
    if meaning := together(ramp, say):
        yield meaning
    yield say(f"stop_{ramp.stop_reason or 'unknown'}")
    breach = ramp.first_breach
    if breach:
        yield say("breach", level=breach.concurrency, what=say.kind(breach.what), task=breach.test_id or "–",
                  observed=say.observed(breach), limit=say.limit(breach))
    else:
        yield say("no_breach")
    yield from map(say.note, ramp.load)
    if incomplete := [str(level.concurrency) for level in ramp.levels if not level.complete]:
        yield say("incomplete_levels", levels=say.join(incomplete))


def resources_part(judged: Judged, say: Words) -> list[str]:
    """CPU and RSS per role from the CSV, and its holes."""
    run = judged.run
    if not run.samples:
        because = ("csv_missing", "not_watched", "csv_empty", "csv_other_run")
        why = sentences([say("no_resources", why=[note for note in run.notes if note.key in because])])
        return why + gpu_table(run, say)
    lines = []
    for samples, usage in judged.usage:
        rows = [(use.role, trio(use.cpu), trio(use.rss), str(len(use.processes)), f"{len(use.at):,}") for use in usage]
        lines += shortened_table(columns(say, "role", "cpu_trio", "rss_trio", "processes", "samples"), rows, say)
        interval = samples.interval or 0.0
        holes = samples.holes(interval)
        facts = {"samples": len(samples.elapsed), "interval": num(interval or None, 2), "count": len(holes),
                 "limit": hole_from(interval), "longest": max((seconds for _, seconds in holes), default=0.0)}
        lines += sentences([say("gaps_some" if holes else "gaps_none", file=samples.path.name, **facts)])
    return lines + gpu_table(run, say)


def gpu_table(run: RecordedRun, say: Words) -> list[str]:
    """Each GPU: memory in use at first, at last and at its peak, and how busy it was."""
    rows = [(number, gpu.name, num(gpu.total_mb), num(next(iter(gpu.used), None)), num(next(reversed(gpu.used), None)),
             num(max(gpu.used, default=None)), trio(gpu.busy) if gpu.busy else "–") for number, gpu in run.gpus.items()]
    headers = columns(say, "gpu", "gpu_name", "total", "used_first", "used_last", "gpu_peak", "busy")
    return table(headers, rows, 2) if rows else []


def trio(values: Sequence[float]) -> str:
    ordered = sorted(values)  # so that the median finds them in order
    return " / ".join(num(value) for value in (ordered[0], median(ordered), ordered[-1]))


def method_part(judged: Judged, chart_notes: Sequence[Note], say: Words) -> list[str]:
    keys = ["rss", "tree", "cpu", "samples"] + ([] if judged.run.legacy else ["time"]) + ["queue", "bound"]
    return bullets([*(say(f"method_{key}") for key in keys), *(say.note(note) for note in chart_notes)])


def input_part(run: RecordedRun, say: Words) -> list[str]:
    """What was read, what was skipped and why."""
    lines = [say("read_lines", file=run.path.name, lines=run.lines, results=len(run.results))] if run.lines else []
    lines += [say("read_skipped", count=n, why=why) for why, n in run.skipped.most_common(8)]
    lines += [say("read_missing", count=run.missing)] if run.missing else []
    lines += [say("read_duplicates", count=run.duplicates)] if run.duplicates else []
    return bullets([*lines, *(say.note(n) for n in run.notes)])

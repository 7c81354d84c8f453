#!/usr/bin/env python3
"""Reader of recorded stress tests: judges a run and writes its report (markdown, charts as SVG beside it).

    analyze_stress_test.py RUN.jsonl [--resources CSV…] [--baseline BEFORE.jsonl] [--lang en|zh-CN]
                                     [--output PATH] [--no-charts] [--json]

RUN.jsonl is what memory_leak_stress_test.py recorded (or an older tool of the same purpose); the CSV of the same
timestamp beside it is found by itself. RUN may also be such a CSV alone: then only resources are reported.

With --json the summary goes to standard output and nothing else does; a report is then written only where --output
says. Exit status: 0 every criterion passed · 1 a criterion failed · 2 wrong command line or unreadable input ·
3 inconclusive.

Data flows from top to bottom: reading, judging, words, charts, markdown, terminal, main. What both tools share, the
record and the growth rule, comes from the instrument.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import math
import os
import re
import shlex
import sys
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from rich.console import Console
from rich.table import Table
from rich.text import Text

from memory_leak_stress_test import (
    EXIT_FAIL,
    EXIT_INCONCLUSIVE,
    EXIT_INTERRUPTED,
    EXIT_PASS,
    EXIT_USAGE,
    ROLES,
    SETTLE_S,
    VERSION,
    HorseSeries,
    RoleVerdict,
    Settings,
    TaskResult,
    median,
)
from stress_report.comparison import Change, compare, host_memory
from stress_report.concurrency import REAL_TIME, failure_kinds
from stress_report.findings import MEMORY_CRITERIA, MOST_WORDS, Criterion, Level, Note, Ramp, plain
from stress_report.judging import Judged, judge
from stress_report.memory import MUCH_BIGGER_MB, RoleSeries
from stress_report.recording import (
    EPOCH,
    Process,
    RecordedRun,
    Samples,
    Unreadable,
    hole_from,
    read_run,
    run_span,
    task_window,
    wall_seconds,
)
from stress_report.saying import (
    Words,
    capped,
    headline,
    memory_sentence,
    num,
    ramp_sentence,
    reason,
    seen_of,
    three_sentences,
    together,
)
from stress_report.words import LANGUAGES, WORDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Time = TypeVar("Time", int, float)  # seconds, or numbers of samples
MOST_POINTS = 1500  # drawn per line: about two per pixel; peaks and lows of each stretch are kept
MOST_LINES = 6  # processes of a role with a line of their own in the key; the others share one entry
INK, PAPER, FAINT, SHADE = "#222222", "#ffffff", "#d9d9d9", "#e4e4e4"
# Okabe and Ito: colours that colour-blind eyes can tell apart, too
COLOURS = {"worker": "#0072B2", "api": "#D55E00", "backend": "#009E73"}
OTHER_COLOURS = ("#CC79A7", "#56B4E9", "#E69F00")
STYLES = ("-", "--", ":", "-.")
CHINESE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "PingFang SC", "Microsoft YaHei",
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "SimHei", "Droid Sans Fallback", "Noto Sans CJK JP", "Heiti TC",
    "Hiragino Sans GB", "STHeiti", "SimSun", "AR PL UMing CN", "Arial Unicode MS",
)


def thinned(
    times: Sequence[Time], values: Sequence[float], most: int = MOST_POINTS
) -> tuple[list[Time], list[float]]:
    """At most about `most` points of a series; the lowest and highest of every stretch stay, at their own times."""
    if len(values) <= most:
        return list(times), list(values)
    stretch = math.ceil(2 * len(values) / most)
    keep = {0, len(values) - 1}
    for start in range(0, len(values), stretch):
        part = values[start : start + stretch]
        keep |= {start + part.index(min(part)), start + part.index(max(part))}
    order = sorted(keep)
    return [times[i] for i in order], [values[i] for i in order]


@dataclass(frozen=True)
class Pen:
    """How text gets into a chart: the language its fonts can show, and the fonts."""

    say: Words
    fonts: list[str]
    glyphs: frozenset[int]

    def label(self, text: str) -> str:
        """Text of unknown origin without characters that would become boxes."""
        return "".join(c if ord(c) in self.glyphs else "?" for c in plain(text, 40))


def choose_pen(language: str) -> Pen:
    """The wanted language where a font of this machine has the characters, else English."""
    from matplotlib import font_manager, ft2font, get_data_path

    latin = frozenset(ft2font.FT2Font(str(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf"))).get_charmap())
    if language == "en":
        return Pen(Words("en"), ["DejaVu Sans"], latin)
    needed = {ord(c) for pair in WORDS.values() for c in pair[1] if ord(c) > 0x2E7F}
    known = {font.fname for font in font_manager.fontManager.ttflist}
    for file in set(font_manager.findSystemFonts()) - known:  # installed since matplotlib last looked
        with contextlib.suppress(OSError, RuntimeError):  # a font file that matplotlib cannot use
            font_manager.fontManager.addfont(file)
    files = {font.name: font.fname for font in reversed(font_manager.fontManager.ttflist)}
    for name in (n for n in CHINESE_FONTS if n in files):
        glyphs = frozenset(ft2font.FT2Font(files[name]).get_charmap())
        if needed <= glyphs:
            return Pen(Words(language), [name, "DejaVu Sans"], glyphs | latin)
    return Pen(Words("en"), ["DejaVu Sans"], latin)


def write_charts(judged: Judged, folder: Path, stem: str, say: Words) -> tuple[dict[str, str], list[Note]]:
    """Write the charts that there is something to show in; chart -> file name, and what to say about them."""
    try:
        # Only here: all but the pictures works without it, and it takes longer to load than everything else.
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        return {}, [Note("chart_no_matplotlib")]
    pen = choose_pen(say.language)
    notes = [] if pen.say.language == say.language else [Note("chart_no_font")]
    look: dict[Any, Any] = {
        "font.family": pen.fonts, "font.size": 9, "text.color": INK, "text.parse_math": False, "svg.fonttype": "path",
        "svg.hashsalt": "report", "axes.labelcolor": INK, "axes.edgecolor": INK, "axes.facecolor": PAPER,
        "axes.spines.top": False, "axes.spines.right": False, "axes.unicode_minus": False, "xtick.color": INK,
        "ytick.color": INK, "figure.facecolor": PAPER, "path.simplify": True,
    }
    charts = (("memory", draw_memory, 4.6, bool(judged.run.samples)),
              ("concurrency", draw_ramp, 5.4, bool(judged.ramp.levels)))
    files = {}
    for name, draw, height, wanted in charts:
        if wanted:
            with matplotlib.rc_context(look):
                figure = Figure(figsize=(9, height), layout="constrained")
                draw(judged, figure, pen)
                files[name] = f"{stem}.{name}.svg"
                figure.savefig(folder / files[name], metadata={"Date": None, "Creator": None})
    return files, notes


def draw_memory(judged: Judged, figure: Figure, pen: Pen) -> None:
    """RSS of every watched process over time, tasks shaded, settled readings of the worker marked."""
    axes, say, first = figure.add_subplot(), pen.say, judged.run.samples[0]
    end = max(s.elapsed[-1] + s.clock[0][0] - first.clock[0][0] for s in judged.run.samples)
    unit, scale = ("seconds", 1.0) if end < 300 else ("minutes", 60.0) if end < 3 * 3600 else ("hours", 3600.0)
    shade_tasks(axes, judged, first, end, scale, say)
    colours: dict[str, str] = dict(COLOURS)
    for samples, usage in judged.usage:
        shift = samples.clock[0][0] - first.clock[0][0]  # a second file began later, or on another machine
        times = [(t + shift) / scale for t in samples.elapsed]
        for series in usage:
            colours.setdefault(series.role, OTHER_COLOURS[len(colours) % len(OTHER_COLOURS)])
            draw_role(axes, series, times, colours[series.role], pen)
    ends = {(r.phase, r.cycle, r.concurrency, r.level_run, r.audio_file): (wall, r.worker_rss_after_mb)
            for r in judged.run.results  # tasks released together share the reading after the last of them
            if r.settled and r.worker_rss_after_mb is not None and (wall := wall_seconds(r.timestamp)) is not None}
    settled = [(first.at_wall(wall) + SETTLE_S, mb) for wall, mb in ends.values()]
    if settled:
        x, y = thinned([t / scale for t, _ in settled], [mb for _, mb in settled], 400)
        axes.plot(x, y, "o", markersize=4, markerfacecolor=PAPER, markeredgecolor=INK, zorder=5,
                  label=say("key_settled"))
    axes.set_xlabel(say(f"axis_{unit}"))
    axes.set_ylabel(say("axis_memory"))
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, max(end / scale, 1e-6))
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)


def shade_tasks(axes: Axes, judged: Judged, samples: Samples, end: float, scale: float, say: Words) -> None:
    """Grey where tasks were running; tasks that overlap, or lie closer than a pixel, become one stretch."""
    spans: list[tuple[float, float]] = []
    for begin, over in sorted(w for w in map(task_window, judged.run.results) if w):
        if spans and begin <= spans[-1][1] + end / MOST_POINTS:
            spans[-1] = (spans[-1][0], max(spans[-1][1], over))
        else:
            spans.append((begin, over))
    bars = [(samples.at_wall(begin) / scale, (over - begin) / scale) for begin, over in spans]
    if bars:
        axes.broken_barh(bars, (0, 1), transform=axes.get_xaxis_transform(), facecolors=SHADE, edgecolor="none",
                         label=say("key_task"), zorder=0)


def draw_role(axes: Axes, series: RoleSeries, times: Sequence[float], colour: str, pen: Pen) -> None:
    """A role's longest-lived processes, the others under one entry, and their sum where several run."""
    most = sorted(series.processes, key=lambda p: -len(p.at))
    named = [p for p in most[:MOST_LINES] if len(most) <= MOST_LINES or 10 * len(p.at) >= len(most[0].at)]
    for number, process in enumerate(named):
        at, rss = thinned(process.at, process.rss)
        axes.plot([times[i] for i in at], rss, STYLES[number % len(STYLES)], color=colour, linewidth=1.4, markersize=4,
                  marker="." if len(at) < 3 else None,
                  label=f"{pen.label(series.role)}: {pen.label(process.name)} ({process.pid})")
    others, nan = sorted(most[len(named) :], key=lambda p: p.at[0]), math.nan
    if others:
        x, y = joined(others, times)
        label = pen.say("key_short_lived", role=pen.label(series.role), count=len(others))
        once = [i for i, around in enumerate(zip([nan, *y], y, [*y[1:], nan], strict=False))
                if [math.isnan(mb) for mb in around] == [True, False, True]]  # seen in one sample: no line to see
        axes.plot(x, y, color=colour, linewidth=0.9, marker=".", markersize=1.5, markevery=once, label=label)
    if len(most) > 1 and series.role in ROLES:
        at, rss = thinned(series.at, series.rss)
        axes.plot([times[i] for i in at], rss, color=colour, alpha=0.35, linewidth=3, zorder=1,
                  label=pen.say("key_sum", role=series.role))


def joined(processes: Sequence[Process], times: Sequence[float]) -> tuple[list[float], list[float]]:
    """Many short-lived processes as one line, broken between them; where they are too many, the highest of each lot."""
    lot = math.ceil(len(processes) / (MOST_POINTS // 4))
    x: list[float] = []
    y: list[float] = []
    for first in range(0, len(processes), lot):
        process = max(processes[first : first + lot], key=lambda p: max(p.rss))
        at, mb = thinned([times[i] for i in process.at], process.rss, max(8, 4 * MOST_POINTS // len(processes)))
        x += [*at, math.nan]
        y += [*mb, math.nan]
    return x, y


def draw_ramp(judged: Judged, figure: Figure, pen: Pen) -> None:
    """Throughput above, turnaround below, against tasks at once; knee, limit and RTF 1 marked."""
    say, ramp = pen.say, judged.ramp
    above, below = figure.subplots(2, 1, sharex=True)
    sizes = [level.concurrency for level in ramp.levels]
    nan = math.nan
    speeds = [nan if (x := level.audio_seconds_per_second) is None or level.client_limited else x
              for level in ramp.levels]
    above.plot(sizes, speeds, "o-", color=COLOURS["worker"], label=say("key_speed"))
    for level, y in zip(ramp.levels, speeds, strict=True):
        if not (level.stable or level.interrupted or math.isnan(y)):
            above.plot([level.concurrency], [y], "X", color="#D55E00", markersize=9, zorder=4)
    lines = (("turnaround_max_s", "s--", "#D55E00"), ("turnaround_median_s", "o-", COLOURS["worker"]))
    for key, style, colour in lines:
        values = [getattr(level, key) for level in ramp.levels]
        below.plot(sizes, [nan if v is None else v for v in values], style, color=colour,
                   label=say("key_max" if "max" in key else "key_median"))
    seconds = {r.audio_seconds for r in judged.run.phase("concurrency") if r.audio_seconds}
    if len({round(s) for s in seconds}) == 1:  # turnaround as long as the recording
        below.axhline(min(seconds), color=INK, linewidth=1, linestyle=":", label=say("key_real_time"))
    for axes in (above, below):
        if ramp.knee:
            axes.axvline(ramp.knee, color="#009E73", linewidth=1.2, linestyle="-.", label=say("key_knee", n=ramp.knee))
        if ramp.max_stable:
            axes.axvline(ramp.max_stable, color="#CC79A7", linewidth=1.6, label=say("key_limit", n=ramp.max_stable))
        axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
        axes.grid(axis="y", color=FAINT, linewidth=0.6)
    if not all(level.stable or level.interrupted for level in ramp.levels):
        above.plot([], [], "X", color="#D55E00", markersize=9, label=say("key_unstable"))
    above.set_ylabel(say("axis_speed"))
    below.set_ylabel(say("axis_turnaround"))
    below.set_xlabel(say("axis_level"))
    below.set_xlim(min(sizes) - 0.5, max(sizes) + 0.5)
    below.xaxis.get_major_locator().set_params(integer=True)
    above.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    below.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


MOST_ROWS = 60  # of a table; the middle of a longer one is left out, and said so
ENTITIES = {c: f"&#{ord(c)};" for c in "\\`*[]{}|~$@^"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def md(text: str) -> str:
    """Any text as markdown that shows it as it is: one line, no markup, no HTML, no links.

    Letters that could mean something to a renderer become entities, which are always shown as text.
    """
    line = "".join(ENTITIES.get(c, c) for c in plain(text, 4 * MOST_WORDS))
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
             ("old", old_part(judged, say)), ("memory", memory_part(judged, charts, say)),
             ("ramp", ramp_part(judged, charts, say)), ("resources", resources_part(judged, say)),
             ("method", method_part(judged, chart_notes, say)), ("input", input_part(judged.run, say))]
    for key, part in parts:
        if part:
            lines += [f"## {md(say('part_' + key))}", "", *part]
    return "\n".join(lines).rstrip() + "\n"


def columns(say: Words, *names: str) -> list[str]:
    return [say(f"col_{name}") for name in names]


def criteria_rows(judged: Judged, say: Words) -> list[tuple[str, str, str, str, str]]:
    return [(say(c.id), observed_text(c), limit_text(c, say), say(f"status_{c.status}"), say.note(c.text))
            for c in judged.criteria]


def observed_text(c: Criterion) -> str:
    unit = " MB" if c.id in MEMORY_CRITERIA and c.observed is not None else ""
    digits = 0 if c.id in ("min_concurrency", "no_worker_crash") else 2 if c.id == "rtf_under_load" else 1
    return num(c.observed, digits, sign=c.id in MEMORY_CRITERIA) + unit


def limit_text(c: Criterion, say: Words) -> str:
    if c.id == "no_worker_crash":
        return say("limit_none")
    unit = " MB" if c.id in MEMORY_CRITERIA else ""
    return say("limit_least" if c.id == "min_concurrency" else "limit_below", limit=f"{c.limit:g}{unit}")


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
    clips = Counter((r.audio_file, num(r.audio_seconds), num(r.audio_size_mb, 2)) for r in run.results)
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
    span = run_span(run)
    try:
        return (EPOCH + timedelta(seconds=span[0])).isoformat(" ", "seconds") if span else None
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
        lines += shortened_table(columns(say, "process", "pid", "seen", "peak", "held", "task"), rows, say)
        lines += sentences([say("first_sample")])
    elif evidence.recorded:
        recorded = say("old_recorded", name=evidence.recorded.name, pid=evidence.recorded.pid)
        lines += sentences([say("old_trusted", recorded=recorded)])
    else:
        lines += sentences([say("old_nothing" if judged.run.samples else "old_no_csv")])
    return lines + bullets([say("old_can"), say("old_cannot"), say("old_limits")])


def memory_part(judged: Judged, charts: Mapping[str, str], say: Words) -> list[str]:
    """Leak verdict of each role, the cycles, work-horses, the chart."""
    roles, lines = judged.roles, []
    if roles:
        rows = [(role, say("leak_" + v.growth.verdict), num(v.growth.mb_per_cycle, 2, sign=True),
                 num(v.growth.upper_bound_mb_per_cycle, 2), num(v.first_use_growth_mb), num(v.peak_mb),
                 str(v.growth.cycles)) for role, v in roles.items()]
        headers = columns(say, "role", "verdict", "rate", "bound", "first_use", "peak", "cycles")
        lines += table(headers, rows, 2)
        said = [text for v in roles.values() for text in role_lines(v, say)]
        unwatched = [role for role in ROLES if role not in roles]
        lines += bullets(said + ([say("memory_unwatched", roles=say.join(unwatched))] if unwatched else []))
        private = any(m.private_after_mb is not None for r in judged.run.phase("leak") for m in r.memory.values())
        measured = any(v.growth.verdict != "NOT MEASURED" for v in roles.values())
        lines += sentences([say("measure_private" if private else "measure_rss")] if measured else [])
        lines += sentences([say("bands")])
    else:
        lines += sentences([memory_sentence(judged, say)])
    if "memory" in charts:
        lines += picture(say("alt_memory"), charts["memory"])
    lines += horses_table(roles.get("worker"), say)
    tasks = judged.run.phase("leak")
    others = [role for role in ROLES[1:] if any(role in r.memory for r in tasks)]
    rows_of_tasks = [
        (str(r.cycle), clip_text(r, say), num(r.worker_rss_before_mb), num(r.worker_rss_after_mb),
         num(r.worker_rss_delta_mb, sign=True), num(r.worker_rss_peak_mb), num(r.rtf, 3),
         say("none" if r.settled is None else "yes" if r.settled else "no"),
         *(num(r.memory[role].after_mb) if role in r.memory else "–" for role in others)) for r in shortened(tasks)]
    headers = columns(say, "cycle", "clip", "rss_before", "rss_after", "delta", "task_peak", "rtf", "settled")
    headers += [say("col_other_after", role=role) for role in others]
    return lines + ([*table(headers, rows_of_tasks, 2), *left_out(tasks, say)] if tasks else [])


def clip_text(result: TaskResult, say: Words) -> str:
    """The clip of a task, and what became of a task that did not succeed."""
    failed = result.status != "success"
    return f"{result.audio_file} – {say.kind(result.error_kind or result.status)}" if failed else result.audio_file


def role_lines(v: RoleVerdict, say: Words) -> Iterator[str]:
    """What there is to say about one role."""
    yield say("role_line", role=v.role, verdict=say("leak_" + v.growth.verdict), reason=capped(v.growth, say))
    if v.follows:
        yield say("follows_both") if v.follows == "both" else say("follows_clip", clip=v.follows)
    if v.first_use_growth_mb is not None and v.first_use_growth_mb > MUCH_BIGGER_MB / 10:
        leaks = v.growth.verdict == "LEAK"
        yield say("first_use_leak" if leaks else "first_use_line", mb=v.first_use_growth_mb, role=v.role)
    if v.breaks:
        yield say("breaks_line", breaks=say.join(say(f"break_{kind}", cycle=cycle) for cycle, kind in v.breaks[:10]))


def horses_table(worker: RoleVerdict | None, say: Words) -> list[str]:
    horses: Sequence[HorseSeries] = worker.horses if worker else []
    rows = [(h.audio_file, say("leak_" + h.growth.verdict), str(h.jobs), pair(h.peak_median_mb, h.peak_max_mb, 1),
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
        headers = columns(say, "level", "state", "ok", "median", "max", "rtf_pair", "speed", "memory", "runs")
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
        failures = [(say.kind(kind), words, str(count)) for kind, count, words in kinds]
        lines += table(columns(say, "kind", "said", "count"), failures, 2)
    elif judged.run.results:
        lines += sentences([say("no_failures")])
    return lines + (sentences([say("empty_text", count=empty)]) if empty else [])


def state_text(level: Level, say: Words) -> str:
    state = ("interrupted" if level.interrupted else "incomplete" if not level.complete
             else "limited" if level.client_limited else "flaky" if level.flaky
             else "stable" if level.stable else "failed")
    slow = level.rtf_max is not None and level.rtf_max >= REAL_TIME
    return say("state_slow", state=say(f"state_{state}")) if slow else say(f"state_{state}")


def ramp_lines(ramp: Ramp, say: Words) -> Iterator[str]:
    proven = say("ramp_bound", tasks=ramp.tasks_at_limit, percent=math.ceil(100 * (ramp.failure_bound or 0.0)))
    yield say("ramp_stable", value=num(ramp.max_stable, 0)) + (say("semicolon") + proven if ramp.failure_bound else "")
    yield say("ramp_real_time", value=num(ramp.max_real_time, 0))
    yield say("ramp_knee", value=num(ramp.knee, 0))
    parallelism = ramp.effective_parallelism
    yield say("ramp_parallel", value=say("no_level_one") if parallelism is None else num(parallelism, 2))
    if meaning := together(ramp, say):
        yield meaning
    yield say(f"stop_{ramp.stop_reason or 'unknown'}")
    breach = ramp.first_breach
    if breach:
        yield say("breach", level=breach.concurrency, what=say.kind(breach.what), task=breach.test_id or "–",
                  observed=seen_of(breach.observed), limit=seen_of(breach.limit))
    else:
        yield say("no_breach")
    if incomplete := [str(level.concurrency) for level in ramp.levels if not level.complete]:
        yield say("incomplete_levels", levels=say.join(incomplete))


def resources_part(judged: Judged, say: Words) -> list[str]:
    """CPU and RSS per role from the CSV, and its holes."""
    run = judged.run
    if not run.samples:
        because = ("csv_missing", "not_watched", "csv_empty", "csv_other_run")
        return sentences([say("no_resources", why=[note for note in run.notes if note.key in because])])
    lines = []
    for samples, usage in judged.usage:
        rows = [(use.role, trio(use.cpu), trio(use.rss), str(len(use.processes)), f"{len(use.at):,}") for use in usage]
        lines += shortened_table(columns(say, "role", "cpu_trio", "rss_trio", "processes", "samples"), rows, say)
        interval = samples.interval or 0.0
        holes = samples.holes(interval)
        facts = {"samples": f"{len(samples.elapsed):,}", "interval": num(interval or None, 2), "count": len(holes),
                 "limit": hole_from(interval), "longest": max((seconds for _, seconds in holes), default=0.0)}
        lines += sentences([say("gaps_some" if holes else "gaps_none", file=samples.path.name, **facts)])
    return lines


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


STATUS_STYLES = {"pass": "green", "fail": "bold red", "inconclusive": "yellow", "not_measured": "dim"}


def print_summary(judged: Judged, before: Judged | None, say: Words, report_path: Path) -> None:
    """One screen: verdict, criteria, three sentences, where the report is. Plain where there is no terminal."""
    console = Console(highlight=False)
    style = STATUS_STYLES[judged.verdict]
    console.print(Text.assemble((say(f"verdict_{judged.verdict}"), f"bold {style}"), " – ", headline(judged, say)))
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("what", "observed", "limit", "result"):
        grid.add_column(say(f"col_{column}"), justify="right" if column == "observed" else "left",
                        no_wrap=column in ("observed", "result"))
    for c in judged.criteria:
        grid.add_row(*(Text(plain(t)) for t in (say(c.id), observed_text(c), limit_text(c, say))),
                     Text(say(f"status_{c.status}"), style=STATUS_STYLES[c.status]))
    console.print(grid)
    for sentence in three_sentences(judged, say):
        console.print(Text(plain(sentence, 2 * MOST_WORDS)))
    if before:
        fix, _, unlike = compare(before, judged)
        console.print(Text(plain(say.note(fix), 2 * MOST_WORDS), style="bold"))
        for note in unlike:
            console.print(Text(plain(say.note(note))))
    for note in judged.run.notes:
        console.print(Text(plain(say.note(note)), style="dim"))
    if judged.run.skipped:
        skipped = say("read_skipped", count=judged.run.skipped.total(), why=tuple(judged.run.skipped))
        console.print(Text(plain(skipped), style="yellow"))
    if str(report_path) != os.devnull:  # where the report is thrown away, as by --no-report
        console.print(Text(say("report_at", file=str(report_path))), soft_wrap=True)


def summary(judged: Judged, say: Words) -> dict[str, Any]:
    """The run in figures, as printed by --json."""
    ramp, run = judged.ramp, judged.run
    leak = {role: {"verdict": v.growth.verdict, "mb_per_cycle": tidy(v.growth.mb_per_cycle),
                   "upper_bound_mb_per_cycle": tidy(v.growth.upper_bound_mb_per_cycle),
                   "first_use_growth_mb": tidy(v.first_use_growth_mb), "peak_mb": tidy(v.peak_mb),
                   "cycles": v.growth.cycles, "reason": reason(v.growth, say)} for role, v in judged.roles.items()}
    left_out = ("complete", "flaky", "interrupted", "rtf_known")
    levels = [{k: tidy(v) for k, v in vars(level).items() if k not in left_out} for level in ramp.levels]
    criteria = [{"id": c.id, "status": c.status, "observed": tidy(c.observed), "limit": tidy(c.limit),
                 "text": say.note(c.text)} for c in judged.criteria]
    return {"verdict": judged.verdict, "criteria": criteria, "leak": leak,
            "concurrency": {"max_stable": ramp.max_stable, "max_real_time": ramp.max_real_time, "knee": ramp.knee,
                            "effective_parallelism": tidy(ramp.effective_parallelism), "stop_reason": ramp.stop_reason,
                            "first_breach": vars(ramp.first_breach) if ramp.first_breach else None, "levels": levels},
            "input": {"lines": run.lines, "results": len(run.results), "skipped_lines": sum(run.skipped.values()),
                      "empty_texts": run.empty_texts, "duplicate_lines": run.duplicates,
                      "missing_lines": run.missing,
                      "csv_rows": sum(s.rows for s in run.samples),
                      "skipped_csv_rows": sum(s.skipped for s in run.samples), "old_record": run.legacy}}


def comparison(before: Judged, after: Judged, say: Words) -> dict[str, Any]:
    """Before and after, as printed by --json with --baseline."""
    fix, changes, unlike = compare(before, after)
    sides = [{"what": c.what.key, **c.what.facts, "before": tidy(c.before), "after": tidy(c.after)} for c in changes]
    return {"fix": fix.key, "text": say.note(fix), "differences": [say.note(n) for n in unlike], "changes": sides}


def tidy(value: Any) -> Any:
    if isinstance(value, Note):
        return value.key.removeprefix("leak_").removeprefix("verdict_")
    return round(value, 4) if isinstance(value, float) else value


EXIT_OF = {"pass": EXIT_PASS, "fail": EXIT_FAIL, "inconclusive": EXIT_INCONCLUSIVE}


def parse_command_line(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; a wrong one ends the program with status 2 and one sentence."""
    p = argparse.ArgumentParser(
        prog="analyze_stress_test.py", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Judges a recorded stress test and writes its report: markdown, with charts beside it.",
        epilog="examples:\n"
        "  python3 tests/analyze_stress_test.py tests/results/memory_leak_stress_test_20251209_233015.jsonl\n"
        "  python3 tests/analyze_stress_test.py AFTER.jsonl --baseline BEFORE.jsonl --lang zh-CN\n"
        "  python3 tests/analyze_stress_test.py RUN.jsonl --json | jq .verdict\n"
        "  python3 tests/analyze_stress_test.py system_resources_20251209_233015.csv      resources alone\n\n"
        "exit status: 0 all criteria passed, 1 one failed, 2 wrong command line or unreadable input, 3 inconclusive")
    p.add_argument("run", type=Path, metavar="RUN.jsonl", help="results of a run (or the CSV of its resources, alone)")
    p.add_argument("--resources", type=Path, nargs="+", metavar="CSV",
                   help="default: the CSV of the same time beside the results")
    p.add_argument("--baseline", type=Path, metavar="BEFORE.jsonl", help="an earlier run to compare with")
    p.add_argument("--lang", choices=LANGUAGES, default="en", help="language of the report (default en)")
    p.add_argument("--output", type=Path, metavar="PATH",
                   help="the report; default: the run's name ending in .md, beside it")
    p.add_argument("--no-charts", action="store_true", help="write no pictures")
    p.add_argument("--json", action="store_true",
                   help="print the summary as JSON and nothing else; a report only with --output")
    p.add_argument("--version", action="version", version=VERSION)
    return p.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = parse_command_line(argv)
    gc.disable()  # the largest run is read once and holds no cycles: looking for them takes a fifth of the time
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show must not end the program
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        judged = judge(read_run(args.run, args.resources))
        before = judge(read_run(args.baseline, None)) if args.baseline else None
        return write_out(args, judged, before, Words(args.lang))
    except Unreadable as error:
        print(plain(Words(args.lang).note(error.why), 3 * MOST_WORDS), file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has left; nothing is wrong with the run
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OF[judged.verdict]
    except Exception:  # Python's own status for it, 1, would say that the service failed a criterion
        traceback.print_exc()
        print("This is a fault of this tool and says nothing of the service: please report the lines above.",
              file=sys.stderr)
        return EXIT_INCONCLUSIVE


def write_out(args: argparse.Namespace, judged: Judged, before: Judged | None, say: Words) -> int:
    """Report, charts, summary; returns the exit status."""
    path: Path = args.output or args.run.with_suffix(".md")
    if args.output or not args.json:
        try:
            charts, notes = ({}, [Note("chart_off")]) if args.no_charts else write_charts(
                judged, path.parent, path.stem, say)
            path.write_text(report(judged, before, charts, notes, say), encoding="utf-8")
        except OSError as error:
            raise Unreadable("cannot_write", file=path, why=str(error.strerror or error)) from None
    if args.json:
        content = summary(judged, say) | ({"comparison": comparison(before, judged, say)} if before else {})
        print(json.dumps(content, ensure_ascii=True, indent=2, allow_nan=False))
    else:
        print_summary(judged, before, say, path)
    sys.stdout.flush()
    return EXIT_OF[judged.verdict]


if __name__ == "__main__":
    status = main()
    gc.freeze()  # else Python looks through a million objects for cycles before it ends
    sys.exit(status)

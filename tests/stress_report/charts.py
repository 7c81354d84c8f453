"""Charts of a run as SVG. The only user of matplotlib, without which a report has no pictures and says so."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from memory_leak_stress_test import ROLES, SETTLE_S, replace
from stress_report.findings import Note, plain
from stress_report.judging import Judged
from stress_report.memory import RoleSeries
from stress_report.recording import Process, Samples, task_window, wall_seconds
from stress_report.saying import Words
from stress_report.words import WORDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Time = TypeVar("Time", int, float)  # seconds, or numbers of samples
MOST_POINTS = 1500  # drawn per line: about two per pixel; peaks and lows of each stretch are kept
MOST_LINES = 6  # processes of a role with a line of their own in the key; the others share one entry
INK, PAPER, FAINT, SHADE = "#222222", "#ffffff", "#d9d9d9", "#e4e4e4"
# Okabe and Ito: colours that colour-blind eyes can distinguish, too
COLOURS = {"worker": "#0072B2", "api": "#D55E00", "backend": "#009E73", "redis": "#CC79A7"}
OTHER_COLOURS = ("#56B4E9", "#E69F00", "#999999")
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
              ("machine", draw_machine, 4.0, len(ledger_of(judged)) > 1),
              ("concurrency", draw_ramp, 5.4, bool(judged.ramp.levels)))
    files = {}
    for name, draw, height, wanted in charts:
        if wanted:
            with matplotlib.rc_context(look):
                figure = Figure(figsize=(9, height), layout="constrained")
                draw(judged, figure, pen)
                files[name] = f"{stem}.{name}.svg"
                picture = io.BytesIO()
                figure.savefig(picture, format="svg", metadata={"Date": None, "Creator": None})
                replace(folder / files[name], picture.getvalue())
    return files, notes


def draw_memory(judged: Judged, figure: Figure, pen: Pen) -> None:
    """RSS of every watched process over time, tasks shaded, settled readings of the worker marked."""
    axes, say, first = figure.add_subplot(), pen.say, min(judged.run.samples, key=lambda s: s.clock[0][0])
    end = max(s.elapsed[-1] + s.clock[0][0] - first.clock[0][0] for s in judged.run.samples)
    unit, scale = time_unit(end)
    shade_tasks(axes, judged, first, end, scale, say)
    colours: dict[str, str] = dict(COLOURS)
    for samples, usage in judged.usage:
        shift = samples.clock[0][0] - first.clock[0][0]  # a second file began later, or on another machine
        times = [(t + shift) / scale for t in samples.elapsed]
        for series in usage:
            role, _, host = series.role.partition("@")
            free = COLOURS.get(role) if host else None  # the first host's has the colour of the role
            colours.setdefault(series.role, free if free and free not in [*colours.values()][len(COLOURS) :] else
                               OTHER_COLOURS[len(colours) % len(OTHER_COLOURS)])
            draw_role(axes, series, times, colours[series.role], pen)
    ends = {(r.phase, r.cycle, r.concurrency, r.level_run, r.clip): (wall, after)
            for r in judged.run.results  # tasks released together share the reading after the last of them
            if r.settled and (after := judged.run.rss(r).after) is not None
            and (wall := wall_seconds(r.timestamp)) is not None}
    settled = [(first.at_wall(wall) + SETTLE_S, mb) for wall, mb in ends.values()]
    if settled and len(judged.hosts) < 2:  # of several hosts they are sums, which no line shows
        x, y = thinned([t / scale for t, _ in settled], [mb for _, mb in settled], 400)
        axes.plot(x, y, "o", markersize=4, markerfacecolor=PAPER, markeredgecolor=INK, zorder=5,
                  label=say("key_settled", role=judged.run.works))
    axes.set_xlabel(say(f"axis_{unit}"))
    axes.set_ylabel(say("axis_memory"))
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, max(end / scale, 1e-6))
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)


PARTS = {"watched": COLOURS["worker"], "others": "#E69F00", "shared": COLOURS["redis"], "kernel": "#999999",
         "rest": FAINT}


def ledger_of(judged: Judged) -> list[tuple[float, dict[str, float]]]:
    """(wall seconds, MiB by whose it is) of each batch of which all parts are known; what they do not add up to: rest.
    """
    found = []
    for result in {(r.phase, r.batch): r for r in judged.run.results if r.machine}.values():
        machine, wall = result.machine, wall_seconds(result.timestamp)
        parts = {what: getattr(machine, f"{what}_mb") for what in PARTS if what != "rest"}
        if machine and wall is not None and None not in parts.values():
            found.append((wall, parts | {"rest": max(0.0, machine.used_mb - sum(parts.values()))}))
    return sorted(found, key=lambda each: each[0])


def draw_machine(judged: Judged, figure: Figure, pen: Pen) -> None:
    """The whole machine's memory at rest, stacked by whose it is."""
    axes, ledger = figure.add_subplot(), ledger_of(judged)
    unit, scale = time_unit(ledger[-1][0] - ledger[0][0])
    times = [(wall - ledger[0][0]) / scale for wall, _ in ledger]
    axes.stackplot(times, *([parts[what] for _, parts in ledger] for what in PARTS), colors=list(PARTS.values()),
                   labels=[pen.say(f"machine_{what}") for what in PARTS], linewidth=0)
    axes.set_xlabel(pen.say(f"axis_{unit}"))
    axes.set_ylabel(pen.say("axis_machine"))
    axes.set_xlim(0, max(times[-1], 1e-6))
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)


def time_unit(seconds: float) -> tuple[str, float]:
    """The unit of an axis so long, and its seconds."""
    if seconds < 300:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)


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
    if len(most) > 1 and series.role.partition("@")[0] in ROLES:
        at, rss = thinned(series.at, series.rss)
        axes.plot([times[i] for i in at], rss, color=colour, alpha=0.35, linewidth=3, zorder=1,
                  label=pen.say("key_sum", role=pen.label(series.role)))


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
    """Throughput above, turnaround below, against concurrent tasks; knee, limit and RTF 1 marked."""
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
        if knee := ramp.knee.level:
            axes.axvline(knee, color="#009E73", linewidth=1.2, linestyle="-.", label=say("key_knee", n=knee))
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

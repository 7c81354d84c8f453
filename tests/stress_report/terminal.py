"""One screen of a run for the terminal. The only user of rich, without which its lines are plain."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from stress_report.comparison import compare
from stress_report.findings import MOST_WORDS, plain
from stress_report.judging import Judged
from stress_report.saying import (
    Words,
    clock_sentences,
    headline,
    limit_text,
    observed_text,
    shown_criteria,
    three_sentences,
)

STATUS_STYLES = {"pass": "green", "fail": "bold red", "inconclusive": "yellow", "not_measured": "dim"}
Line = tuple[str, str]  # text and style
Row = tuple[str, str, str, str]  # criterion, observed, limit, result


def print_summary(judged: Judged, before: Judged | None, say: Words, report_path: Path) -> None:
    """Verdict, criteria, three sentences, where the report is."""
    verdict = say(f"verdict_{judged.verdict}"), headline(judged, say)
    header, *rows = criteria_rows(judged, say)
    below = lines_below(judged, before, say)
    at = None if str(report_path) == os.devnull else say("report_at", file=str(report_path))  # thrown away: --no-report
    try:
        # Only here, and only if it is there: the instrument starts the reader where it may not be installed.
        import rich  # noqa: F401
    except ImportError:
        print_plain(verdict, [header, *rows], below, at)
        return
    print_rich(judged, verdict, header, rows, below, at)


def criteria_rows(judged: Judged, say: Words) -> list[Row]:
    """The head of the table and one row per criterion."""
    head = (say("col_what"), say("col_observed"), say("col_limit"), say("col_result"))
    return [head, *((plain(say(c.id)), plain(observed_text(c)), plain(limit_text(c, say)), say(f"status_{c.status}"))
                    for c in shown_criteria(judged))]


def lines_below(judged: Judged, before: Judged | None, say: Words) -> list[Line]:
    """What is below the table: conclusions, the comparison, what is wrong with the input."""
    lines = [(plain(sentence, 2 * MOST_WORDS), "") for sentence in three_sentences(judged, say)]
    if before:
        fix, _, unlike = compare(before, judged)
        lines.append((plain(say.note(fix), 2 * MOST_WORDS), "bold"))
        lines += [(plain(say.note(note)), "") for note in unlike]
    lines += [(plain(say("space").join(clock_sentences(host, say))), "dim") for host in judged.hosts]
    lines += [(plain(say.note(note)), "dim") for note in judged.run.notes]
    if judged.run.skipped:
        skipped = say("read_skipped", count=judged.run.skipped.total(), why=tuple(judged.run.skipped))
        lines.append((plain(skipped), "yellow"))
    return lines


def print_rich(judged: Judged, verdict: tuple[str, str], header: Row, rows: Sequence[Row], below: Sequence[Line],
               at: str | None) -> None:
    """With colours on a terminal, wrapped to its width."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Text.assemble((verdict[0], f"bold {STATUS_STYLES[judged.verdict]}"), " – ", verdict[1]))
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, title in enumerate(header):
        grid.add_column(title, justify="right" if place == 1 else "left", no_wrap=place in (1, 3))
    for criterion, row in zip(shown_criteria(judged), rows, strict=True):
        grid.add_row(*map(Text, row[:3]), Text(row[3], style=STATUS_STYLES[criterion.status]))
    console.print(grid)
    for text, style in below:
        console.print(Text(text, style=style))
    if at:
        console.print(Text(at), soft_wrap=True)


def print_plain(verdict: tuple[str, str], rows: Sequence[Row], below: Sequence[Line], at: str | None) -> None:
    """One line each, the table in columns."""
    print(" – ".join(verdict))
    widths = [max(cells(row[place]) for row in rows) for place in range(3)]
    for what, observed, limit, result in rows:
        gaps = [" " * (width - cells(cell)) for width, cell in zip(widths, (what, observed, limit), strict=True)]
        print(f"{what}{gaps[0]}  {gaps[1]}{observed}  {limit}{gaps[2]}  {result}")
    for text, _ in below:
        print(text)
    if at:
        print(at)


def cells(text: str) -> int:
    """Columns that a text takes on a terminal; a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)

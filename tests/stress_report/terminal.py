"""One screen of a run for the terminal. The only user of rich."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stress_report.comparison import compare
from stress_report.findings import MOST_WORDS, plain
from stress_report.judging import Judged
from stress_report.saying import Words, headline, limit_text, observed_text, three_sentences

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

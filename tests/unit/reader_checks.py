"""What several of the reader's tests need: recorded and nasty input, the command, a look at rendered markdown."""

from __future__ import annotations

import builtins
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

import analyze_stress_test as reader
from memory_leak_stress_test import TaskResult
from stress_report import markdown, recording
from stress_report.judging import Judged, judge
from stress_report.saying import Words
from stress_report.summary import summary
from unit.reader_runs import CSV_HEAD, record, sample_rows

GOLDEN = Path(__file__).parent / "golden"
CHARTS = ("memory", "machine", "concurrency")
RUNS = {"healthy": "20261125_014911", "leaking": "20261125_015358"}
ROWS = CSV_HEAD + sample_rows(range(2200), ("rq", 100, 700.0))
NASTY = ("a | b", "| --- | ---: |", "line\nbreak\r\nand\ttab", "<script>alert(1)</script>", "<img src=x onerror=y>",
         "`code` ``` fence", "**bold** _it_ ~~no~~ # head", "[a](http://evil) ![b](http://evil/x.png)",
         "http://evil.example www.evil.example a@evil.example", "\x1b[31mred\x07\x00", "\u202etxt\u2028\u2029\x85end",
         "&lt;b&gt; &amp;", "$x^2$ $$y$$", "\\| \\\\", "中文｜文字", "- item", "1. item", "> quote",
         "{not} {a.format} {0}", "x" * 100_000)
TABLE_ROW = re.compile(r"(?<!\\)\|")


def recorded(name: str) -> Judged:
    return judge(recording.read_run(GOLDEN / f"memory_leak_stress_test_{RUNS[name]}.jsonl", None))


def run(folder: Path, results: Sequence[TaskResult], *options: str, csv: str | None = ROWS) -> int:
    return reader.main([str(record(folder, results, csv=csv)), *options])


def without(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where it is not installed."""
    real = builtins.__import__

    def refuse(name: str, *args: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", refuse)


def check_markdown(report: str) -> None:
    """Every table is whole, and rendered as GitHub would, nothing comes out but the tags a report is made of."""
    lines = report.split("\n")
    assert not any(ord(c) < 32 for line in lines for c in line)
    for number, text in enumerate(lines):
        if text.startswith("| ---"):
            width = len(TABLE_ROW.findall(lines[number - 1]))
            for row in [text, *iter_rows(lines, number + 1)]:
                assert len(TABLE_ROW.findall(row)) == width, row
    rendered = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(report)
    marks = [text for text in lines if re.fullmatch(r"\|( -+:? \|)+", text)]
    assert rendered.count("<table>") == len(marks) > 0
    assert not re.search(r"<p>\s*\|", rendered), "a row that is not in its table"
    tags = set(re.findall(r"</?([a-zA-Z!?][\w-]*)", rendered))
    allowed = {"h1", "h2", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "pre", "code", "img"}
    assert tags <= allowed, tags - allowed
    assert set(re.findall(r'<img src="([^"]*)"', rendered)) <= {f"run.{name}.svg" for name in CHARTS}
    assert len(re.findall("<h1>", rendered)) == 1
    assert len(re.findall("<pre>", rendered)) <= 1
    cells = [html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", rendered, re.S)]
    assert all(len(cell) < 5000 for cell in cells)


def iter_rows(lines: list[str], start: int) -> list[str]:
    end = next(n for n in range(start, len(lines) + 1) if n == len(lines) or not lines[n].startswith("|"))
    return lines[start:end]


def report_of(path: Path, language: str = "en") -> str:
    run = judge(recording.read_run(path, None))
    json.dumps(summary(run, Words(language)), allow_nan=False)
    charts = {name: f"run.{name}.svg" for name in CHARTS}
    report = markdown.report(run, run, charts, [], Words(language))
    check_markdown(report)
    return report

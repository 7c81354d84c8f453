"""Reports of two recorded runs of the embedded service, one healthy and one that keeps 60 MB per task, whole.

After a change that is meant to show in reports, write them anew, and read the difference before it is committed:

    WRITE_GOLDEN=1 .venv/bin/python -m pytest tests/unit/test_reader_golden.py
"""

from __future__ import annotations

import os
import re
import string
from pathlib import Path
from xml.etree import ElementTree

import pytest

import analyze_stress_test as reader
from stress_report import markdown, recording
from stress_report.charts import choose_pen, write_charts
from stress_report.judging import Judged, judge
from stress_report.saying import Words
from stress_report.words import LANGUAGES, WORDS

GOLDEN = Path(__file__).parent / "golden"
RUNS = {"healthy": "20261125_014911", "leaking": "20261125_015358"}


def recorded(name: str) -> Judged:
    return judge(recording.read_run(GOLDEN / f"memory_leak_stress_test_{RUNS[name]}.jsonl", None))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("name", "baseline"), [("healthy", "leaking"), ("leaking", None)])
def test_report_of_a_recorded_run_is_as_it_was(name: str, baseline: str | None, language: str) -> None:
    before = recorded(baseline) if baseline else None
    charts = {chart: f"{name}.{chart}.svg" for chart in ("memory", "concurrency")}
    report = markdown.report(recorded(name), before, charts, [], Words(language))
    golden = GOLDEN / f"{name}.{language}.md"
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(report, encoding="utf-8")
        pytest.skip(f"{golden.name} was written, not compared")
    assert report == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "verdict", "worker"), [("healthy", "pass", "NO LEAK"), ("leaking", "fail", "LEAK")])
def test_verdict_of_a_recorded_run(name: str, verdict: str, worker: str) -> None:
    run = recorded(name)
    assert (run.verdict, run.roles["worker"].growth.verdict) == (verdict, worker)


def fields(text: str) -> set[str]:
    """The facts a text shows."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_language_has_every_word_with_the_same_facts() -> None:
    for key, texts in WORDS.items():
        assert len(texts) == len(LANGUAGES), key
        assert all(texts) or key == "space", key
        assert len({frozenset(fields(text)) for text in texts}) == 1, key


def test_every_word_that_the_code_says_is_in_the_table_and_no_other() -> None:
    files = [Path(reader.__file__), *Path(reader.__file__).with_name("stress_report").glob("*.py")]
    code = "".join(file.read_text(encoding="utf-8") for file in files if file.stem != "words")
    said = set(re.findall(r'(?:say|self|Note|Unreadable)\(\s*"([\w ]+)"', code))
    assert {word for word in said if not word.endswith("_")} <= set(WORDS)
    quoted = set(re.findall(r"""['"]([\w ]+)['"]""", code))
    begun = set(re.findall(r"""['"]([a-z_]+_)(?:\{|['"] \+)""", code))  # f"stop_{reason}", 'part_' + key
    assert {key for key in WORDS if key not in quoted and not key.startswith(tuple(begun))} == set()


def test_chinese_words_are_chinese() -> None:
    same = {key for key, (english, chinese) in WORDS.items() if english == chinese}
    assert same == {"none", "growth_text", "stable_failed", "python", "api", "col_rtf",
                    "key_real_time", "fact_problem"} & set(WORDS)
    half_width = {key for key, (_, text) in WORDS.items()
                  if any(a > "\u3000" and b in ",;:()" for a, b in zip(text, text[1:], strict=False))}
    assert not half_width, "Chinese text takes full-width punctuation"
    unpaired = {key for key, (_, text) in WORDS.items() if text.count("（") != text.count("）")}
    assert not unpaired, "a bracket that is opened is closed by one of its width"


@pytest.mark.parametrize("language", LANGUAGES)
def test_charts_are_svg_without_anything_that_runs_or_loads(language: str, tmp_path: Path) -> None:
    files, notes = write_charts(recorded("leaking"), tmp_path, "run", Words(language))
    assert files == {"memory": "run.memory.svg", "concurrency": "run.concurrency.svg"}
    assert {note.key for note in notes} <= {"chart_no_font"}
    for file in files.values():
        elements = list(ElementTree.parse(tmp_path / file).iter())
        assert not {"script", "image", "foreignObject"} & {element.tag.rpartition("}")[2] for element in elements}
        assert len(elements) > 50


def test_a_chart_without_a_chinese_font_is_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stress_report.charts.CHINESE_FONTS", ())
    pen = choose_pen("zh-CN")
    assert (pen.say.language, pen.label("进程 a")) == ("en", "?? a")

"""Charts: SVG that neither runs nor loads anything, whatever the names, the fonts and the number of points."""

from __future__ import annotations

import math
import random
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from stress_report import recording
from stress_report.charts import MOST_POINTS, choose_pen, draw_memory, joined, thinned, write_charts
from stress_report.judging import judge
from stress_report.saying import Words
from stress_report.words import LANGUAGES
from unit.reader_checks import NASTY, recorded, run, without
from unit.reader_runs import (
    CSV_HEAD,
    healthy,
    judged,
    sample_rows,
)


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


def test_charts_survive_nasty_names(tmp_path: Path) -> None:
    rows = "".join(sample_rows(range(9), (f'"{name[:60]}"', number, 50.0)) for number, name in enumerate(NASTY)
                   if not re.search(r"[\r\n\"]", name))
    run = judged(tmp_path, healthy(), csv=CSV_HEAD + "".join(sorted(rows.splitlines(keepends=True))))
    files, _ = write_charts(run, tmp_path, "run", Words("zh-CN"))
    assert "<script" not in (tmp_path / files["memory"]).read_text()


@given(st.integers(1, 3000), st.integers(0, 10**6), st.integers(20, 200))
@settings(deadline=None, max_examples=40)
def test_thinning_keeps_the_highest_the_lowest_and_both_ends(length: int, seed: int, most: int) -> None:
    values = [random.Random(seed + number).uniform(0, 1e6) for number in range(length)]
    x, y = thinned(list(range(len(values))), values, most)
    assert len(y) <= max(most + 4, 1)
    assert (max(y), min(y), y[0], y[-1]) == (max(values), min(values), values[0], values[-1])
    assert all(values[int(at)] == value for at, value in zip(x, y, strict=True))


def test_short_lived_processes_become_one_line_that_keeps_the_highest_peak() -> None:
    processes = [recording.Process("rq", pid) for pid in range(5000)]
    for number, process in enumerate(processes):
        process.at.extend([number, number + 1])
        process.rss.extend([10.0, 9000.0 if number == 777 else 20.0])
    x, y = joined(processes, list(range(5001)))
    assert max(value for value in y if not math.isnan(value)) == 9000.0
    assert len(x) == len(y) < 3 * MOST_POINTS


def test_without_matplotlib_the_report_says_why_it_has_no_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without("matplotlib", monkeypatch)
    assert run(tmp_path, healthy()) == 0
    assert "pip install matplotlib" in (tmp_path / "memory_leak_stress_test_20260302_090000.md").read_text()


def test_a_chart_begins_with_the_recording_that_began_first(tmp_path: Path) -> None:
    for name, begin in (("a", 3600), ("b", 0)):
        rows = sample_rows(range(begin, begin + 7200, 10), ("rq", 100, 500.0))
        (tmp_path / f"{name}.csv").write_text(CSV_HEAD + rows)
    run = judge(recording.read_run(tmp_path / "a.csv", [tmp_path / "b.csv"]))
    draw_memory(run, figure := Figure(), choose_pen("en"))
    assert min(min(line.get_xdata()) for line in figure.axes[0].lines) == 0

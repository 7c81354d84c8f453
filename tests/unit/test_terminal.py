"""What stands on the terminal, with rich and without."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.cells import cell_len

from stress_report.words import LANGUAGES
from unit.reader_checks import run, without
from unit.reader_runs import (
    healthy,
)


@pytest.mark.parametrize("language", LANGUAGES)
def test_without_rich_the_terminal_shows_the_same_in_plain_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    assert run(tmp_path, healthy(), "--no-charts", "--lang", language) == 0
    pretty = capsys.readouterr().out
    without("rich", monkeypatch)
    assert run(tmp_path, healthy(), "--no-charts", "--lang", language) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [line.split() for line in pretty.splitlines()]
    results = [cell_len(line[: line.rindex("  ")]) for line in lines[1:8]]
    assert len(set(results)) == 1, "the columns stand below each other"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_terminal_shows_one_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, language: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    run(tmp_path, healthy(), "--no-charts", "--lang", language)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= (24 if width >= 80 else 48)
    assert max(cell_len(line.rstrip()) for line in lines[:-1]) <= width
    assert lines[-1].endswith(".md"), "the path of the report is never broken"

"""The charts of the example reports: fewer bytes and lines, the same picture."""

from __future__ import annotations

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.figure import Figure

from support.make_examples import EXAMPLES
from support.slim_svg import slim

PLACED = ("d", "x", "y", "width", "height", "transform")


@pytest.fixture(scope="module")
def drawn() -> str:
    """A chart of everything that the reader's charts are made of."""
    figure, written = Figure(layout="constrained"), io.StringIO()
    axes = figure.add_subplot()
    axes.plot([0.1, 1.234567, 2.5], [-0.04, 7.654321, 3.3], "o--", label="worker: rq (12)")
    axes.broken_barh([(0.3, 0.2), (1.7, 0.4)], (0, 1), transform=axes.get_xaxis_transform())
    axes.set_ylabel("RSS (MB)", family="DejaVu Sans Mono")  # letters of two fonts have the same codes
    axes.set_xlim(0, 3)
    axes.legend()
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "test"}):
        figure.savefig(written, format="svg")
    return written.getvalue()


def elements(svg: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(svg.encode())
    for metadata in root.findall("{*}metadata"):
        root.remove(metadata)
    return list(root.iter())


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", text)]


def test_every_element_stays_at_its_place_and_keeps_its_style(drawn: str) -> None:
    before, after = elements(drawn), elements(slim(drawn))
    assert [element.tag for element in after] == [element.tag for element in before]
    assert len(before) > 100
    for old, new in zip(before, after, strict=True):
        assert new.keys() == old.keys()
        for key, value in old.items():
            if key in PLACED:
                assert numbers(new.attrib[key]) == pytest.approx(numbers(value), abs=0.0501)
                assert re.findall("[a-zA-Z]+", new.attrib[key]) == re.findall("[a-zA-Z]+", value)
            elif key != "id" and not key.endswith("href"):
                assert new.attrib[key] == value


def test_what_is_drawn_by_name_is_still_found_and_no_name_is_given_twice(drawn: str) -> None:
    used = [[element.get("{http://www.w3.org/1999/xlink}href", "")[1:] for element in elements(svg)
             if element.tag.endswith("use")] for svg in (drawn, slim(drawn))]
    names = [element.attrib["id"] for element in elements(slim(drawn)) if "id" in element.attrib]
    assert set(used[1]) <= set(names)
    assert len(names) == len(set(names))
    assert len(set(zip(*used, strict=True))) == len(set(used[0])), "each old name has one new name"


def test_bytes_and_lines_are_saved(drawn: str) -> None:
    assert len(slim(drawn)) < 0.85 * len(drawn)
    assert slim(drawn).count("\n") < 0.1 * drawn.count("\n")
    assert slim(slim(drawn)) == slim(drawn)


@pytest.mark.parametrize("chart", sorted(EXAMPLES.glob("*.svg")), ids=lambda path: path.name)
def test_the_charts_of_the_examples_are_slim(chart: Path) -> None:
    text = chart.read_text(encoding="utf-8")
    assert slim(text) == text
    assert text.count("\n") < 200

"""How findings are put in words: figures, counts, sentences, and what to do next."""

from __future__ import annotations

import re

import pytest

from stress_report.saying import FIGURES, Words
from stress_report.words import WORDS


@pytest.mark.parametrize(("template", "value", "text"), [
    ("{x:.1f} MB", None, "– MB"), ("{x:,.1f} MB", -0.04, "0.0 MB"), ("{x:,.1f} MB", -1234.56, "-1,234.6 MB"),
    ("{x} {x:|line|lines}", 0, "0 lines"), ("{x} {x:|line|lines}", 1, "1 line"), ("{x} {x:|line|lines}", 2, "2 lines"),
    ("{x:,} {x:|row|rows}", 1234, "1,234 rows")])
def test_figures_and_counts_in_words(template: str, value: float | None, text: str) -> None:
    assert FIGURES.format(template, x=value) == text


@pytest.mark.parametrize(("key", "facts", "one", "two"), [
    ("read_missing", {}, "1 result is missing: its running number stands in no line",
     "2 results are missing: their running numbers stand in no line"),
    ("crash_unread", {}, "none seen, but 1 result is missing or does not say which processes were alive",
     "none seen, but 2 results are missing or do not say which processes were alive"),
    ("rows_left_out", {}, "1 row in the middle is left out here; all stand in the JSONL.",
     "2 rows in the middle are left out here; all stand in the JSONL.")])
def test_words_bend_to_their_count(key: str, facts: dict[str, object], one: str, two: str) -> None:
    say = Words("en")
    assert (say(key, count=1, **facts), say(key, count=2, **facts)) == (one, two)


def test_no_english_sentence_has_a_count_that_may_be_one_before_a_fixed_plural() -> None:
    nouns = "results|lines|rows|readings|cycles|tasks|processes|samples|holes|jobs|times"
    fixed = re.compile(r"(?<!of )\{(?!window|stable|knee|needed|enough|parallelism|rarest)\w+(?::,)?\} (?:\w+ )?"
                       rf"(?:{nouns})\b")  # never below 2: a window, levels, what the rule asks for; no counts: ratios
    assert {key: found.group(0) for key, (english, _) in WORDS.items() if (found := fixed.search(english))} == {}

"""The word table: every language whole, every word said somewhere, Chinese that is Chinese."""

from __future__ import annotations

import re
import string
from pathlib import Path

import analyze_stress_test as reader
from stress_report.words import LANGUAGES, WORDS


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

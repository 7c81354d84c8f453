"""What the README and the guides say, in a form that tests can compare: sections, tables, code, commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README, ENGLISH, CHINESE = (ROOT / n for n in ("README.md", "STRESS_TEST_GUIDE.md", "STRESS_TEST_GUIDE.zh-CN.md"))
GUIDES = (ENGLISH, CHINESE)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
SPAN = re.compile(r"`([^`\n]+)`")
RECORDED = re.compile(r"tests/results/(?:memory_leak_stress_test|system_resources)_\d{8}_\d{6}")


@dataclass(frozen=True)
class Section:
    """One heading and what is below it up to the next one of any level."""

    level: int
    title: str
    text: str

    @property
    def spans(self) -> list[str]:
        """Everything in code type outside of blocks."""
        return SPAN.findall(FENCED.sub("", self.text))

    @property
    def blocks(self) -> list[tuple[str, str]]:
        """Its fenced blocks, kind and text, without comments, which are in the guide's language."""
        return [(kind, "\n".join(without_comments(body))) for kind, body in FENCED.findall(self.text)]

    @property
    def rows(self) -> list[list[str]]:
        """The cells of its tables, without heads."""
        lines = [line for line in self.text.splitlines() if line.startswith("|")]
        ruled = [i for i, line in enumerate(lines) if set(line) <= set("|- :")]
        heads = {n for i in ruled for n in (i - 1, i)}
        return [[c.strip() for c in line.strip()[1:-1].split("|")] for i, line in enumerate(lines) if i not in heads]

    @property
    def keys(self) -> list[str]:
        """First cells of its tables, without code marks."""
        return [SPAN.findall(row[0])[0] if "`" in row[0] else row[0] for row in self.rows]

    @property
    def names(self) -> list[str]:
        """Everything in code type in the first cells of its tables: a row may be about several names."""
        return [name for row in self.rows for name in SPAN.findall(row[0])]


def sections(path: Path) -> list[Section]:
    """The document's sections in order; headings inside fenced blocks are none."""
    text = path.read_text(encoding="utf-8")
    blocks = [(m.start(), m.end()) for m in FENCED.finditer(text)]
    heads = [m for m in re.finditer(r"^(#+) (.+)$", text, re.M) if not any(a <= m.start() < b for a, b in blocks)]
    ends = [m.start() for m in heads[1:]] + [len(text)]
    return [Section(len(m[1]), m[2], text[m.end() : end]) for m, end in zip(heads, ends, strict=True)]


def without_comments(block: str) -> list[str]:
    """The lines of a block that are more than a comment; one that goes on is one line."""
    lines = (re.sub(r"(^|\s+)#.*", "", line).rstrip() for line in block.replace("\\\n", " ").splitlines())
    return [line for line in lines if line]


def commands(path: Path) -> list[str]:
    """Every command line in the document's `sh` blocks, without comments."""
    blocks = [body for kind, body in FENCED.findall(path.read_text(encoding="utf-8")) if kind == "sh"]
    return [line.strip() for body in blocks for line in without_comments(body)]


def all_commands() -> list[str]:
    """Those of all three documents, each once."""
    return list(dict.fromkeys(line for path in (README, *GUIDES) for line in commands(path)))


def steps(line: str) -> Iterator[list[str]]:
    """The simple commands of a line: split at && || | ; and without redirections and tests."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    skip = False
    for word in [*lexer, ";"]:
        if skip:
            skip = False
        elif set(word) <= set("<>&") and ("<" in word or ">" in word):
            skip = True
            words = words[:-1] if words and words[-1].isdigit() else words
        elif set(word) <= set("|&;"):
            if words and words[0] != "[":
                yield words
            words = []
        else:
            words.append(word)


def arguments_of(script: str, text: str) -> Iterator[list[str]]:
    """The arguments of every call of one of the two commands in a line, however it is started."""
    for words in steps(text):
        for place, word in enumerate(words):
            if word == f"tests/{script}":
                yield words[place + 1 :]
                break


def every_call(script: str) -> list[list[str]]:
    """Arguments of every call in any fenced block of the three documents: shell, workflow, crontab."""
    calls = []
    for path in (README, *GUIDES):
        for _, body in FENCED.findall(path.read_text(encoding="utf-8")):
            for line in body.splitlines():
                if script in line and not line.startswith("2"):  # not the sample of printed lines
                    calls += list(arguments_of(script, re.sub(r"^\s*- run:|\s#\s.*", "", line)))
    return calls

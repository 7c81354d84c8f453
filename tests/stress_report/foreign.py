"""Recordings of other tools turned into rows of the CSV, text to text: nothing below this room knows where they began.

psrecord PID --log FILE: a head, then elapsed seconds, CPU percent, RSS and virtual memory in MiB. It has no dates.
docker stats, asked again and again as the guide shows: time,container,CPU %,memory used / limit.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

UNDATED = datetime(1970, 1, 1)  # where a recording has no dates
PSRECORD = re.compile(r"#\s*Elapsed time\s+CPU \(%\)\s+Real \(MB\)")
SIZES = {"B": 1 / 1048576, "KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0, "TiB": 1048576.0,
         "kB": 1e3 / 1048576, "MB": 1e6 / 1048576, "GB": 1e9 / 1048576, "TB": 1e12 / 1048576}
DOCKER = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?),(?P<name>[\w./-]{1,128}),"
    rf"(?P<cpu>\d+(?:\.\d+)?)%,(?P<used>\d+(?:\.\d+)?) ?(?P<unit>{'|'.join(SIZES)})\s*(?:/[^,\n]*)?$")


def is_foreign(line: str) -> bool:
    """Whether a file whose first line is this one is a recording of another tool."""
    return bool(PSRECORD.match(line) or DOCKER.match(line))


def as_rows(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a recording as rows of the CSV; those of the CSV itself as they are."""
    every = iter(lines)
    first = next(every, "")
    if PSRECORD.match(first):
        return map(row_of_psrecord, every)
    if DOCKER.match(first):
        return rows_of_docker(itertools.chain([first], every))
    return itertools.chain([first] if first else [], every)


def row_of_psrecord(line: str) -> str:
    """One sample; what cannot be read stays as it is, and is counted where rows are."""
    try:
        elapsed, cpu, rss = (float(word) for word in line.split()[:3])
        return row(UNDATED + timedelta(seconds=elapsed), elapsed, "psrecord", 1, cpu, rss, line)
    except (ValueError, OverflowError):
        return line


def rows_of_docker(lines: Iterable[str]) -> Iterator[str]:
    """Samples of containers, each of which gets a number in place of a pid."""
    begin: datetime | None = None
    numbers: dict[str, int] = {}
    for line in lines:
        found = DOCKER.match(line)
        try:
            at = datetime.fromisoformat(found["time"][:23]) if found else None
        except ValueError:
            at = None
        if found is None or at is None:
            yield line
            continue
        begin = begin or at
        number = numbers.setdefault(found["name"], len(numbers) + 1)
        yield row(at, (at - begin).total_seconds(), found["name"], number, float(found["cpu"]),
                  float(found["used"]) * SIZES[found["unit"]], line)


def row(at: datetime, elapsed: float, name: str, pid: int, cpu: float, mb: float, line: str) -> str:
    """A row of the CSV, without its end where the line was cut off."""
    end = "\n" if line.endswith("\n") else ""
    return f"{at.isoformat(timespec='milliseconds')},{elapsed:.3f},{name},{pid},{cpu},{mb:.3f},{end}"

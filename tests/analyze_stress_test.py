#!/usr/bin/env python3
"""Reader of recorded stress tests: judges a run and writes its report (markdown, charts as SVG beside it).

    analyze_stress_test.py RUN.jsonl [--resources CSV…] [--baseline BEFORE.jsonl] [--lang en|zh-CN]
                                     [--output PATH] [--no-charts] [--json]

RUN.jsonl is what memory_leak_stress_test.py recorded (or an older tool of the same purpose); the CSV of the same
timestamp beside it is found by itself. Where the load came from elsewhere, --resources are the CSVs of the service's
hosts, each with what --phase monitor wrote beside it. RUN may also be such a CSV alone, a log of psrecord or of
docker stats: then growth per hour is judged.

With --json the summary goes to standard output and nothing else does; a report is then written only where --output
says. Exit status: 0 every criterion passed · 1 a criterion failed · 2 wrong command line or unreadable input ·
3 inconclusive.

What it is made of is in stress_report/; what both tools share, the record and its rules, is the instrument's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

try:
    from memory_leak_stress_test import (
        EXIT_FAIL,
        EXIT_INCONCLUSIVE,
        EXIT_INTERRUPTED,
        EXIT_PASS,
        EXIT_USAGE,
        VERSION,
        replace,
        usable_streams,
    )
    from stress_report.charts import write_charts
    from stress_report.findings import MOST_WORDS, Note, plain
    from stress_report.judging import Judged, judge
    from stress_report.markdown import report
    from stress_report.recording import Unreadable, read_run
    from stress_report.saying import Words
    from stress_report.summary import comparison, summary
    from stress_report.terminal import print_summary
    from stress_report.words import LANGUAGES
except ImportError as missing:
    if __name__ != "__main__":
        raise
    # Python's own status for it, 1, would say that the service failed a criterion.
    print(f"The report cannot be made: {missing}. It takes memory_leak_stress_test.py and the folder stress_report "
          "beside this script, and: pip install requests psutil", file=sys.stderr)
    sys.exit(3)

EXIT_OF = {"pass": EXIT_PASS, "fail": EXIT_FAIL, "inconclusive": EXIT_INCONCLUSIVE}


def parse_command_line(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; a wrong one ends the program with status 2 and one sentence."""
    p = argparse.ArgumentParser(
        prog="analyze_stress_test.py", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Judges a recorded stress test and writes its report: markdown, with charts beside it.",
        epilog="examples:\n"
        "  python3 tests/analyze_stress_test.py tests/results/memory_leak_stress_test_20251209_233015.jsonl\n"
        "  python3 tests/analyze_stress_test.py AFTER.jsonl --baseline BEFORE.jsonl --lang zh-CN\n"
        "  python3 tests/analyze_stress_test.py RUN.jsonl --json | jq .verdict\n"
        "  python3 tests/analyze_stress_test.py system_resources_20251209_233015.csv      a recording alone\n\n"
        "exit status: 0 all criteria passed, 1 one failed, 2 wrong command line or unreadable input, 3 inconclusive")
    p.add_argument("run", type=Path, metavar="RUN.jsonl", help="results of a run (or a CSV alone)")
    p.add_argument("--resources", type=Path, nargs="+", metavar="CSV",
                   help="default: the CSV of the same time beside the results")
    p.add_argument("--baseline", type=Path, metavar="BEFORE.jsonl", help="an earlier run to compare with")
    p.add_argument("--lang", choices=LANGUAGES, default="en", help="language of the report (default en)")
    p.add_argument("--output", type=Path, metavar="PATH",
                   help="the report; default: the run's name ending in .md, beside it")
    p.add_argument("--no-charts", action="store_true", help="write no pictures")
    p.add_argument("--json", action="store_true",
                   help="print the summary as JSON and nothing else; a report only with --output")
    p.add_argument("--version", action="version", version=VERSION)
    return p.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    usable_streams()
    args = parse_command_line(argv)
    try:
        judged = judge(read_run(args.run, args.resources))
        before = judge(read_run(args.baseline, None)) if args.baseline else None
        return write_out(args, judged, before, Words(args.lang))
    except Unreadable as error:
        print(plain(Words(args.lang).note(error.why), 3 * MOST_WORDS), file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except OSError:  # the terminal or the reader of our output has left; nothing is wrong with the run
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OF[judged.verdict]
    except Exception:  # Python's own status for it, 1, would say that the service failed a criterion
        traceback.print_exc()
        print("This is a fault of this tool and says nothing about the service: please report the lines above.",
              file=sys.stderr)
        return EXIT_INCONCLUSIVE


def put(path: Path, content: bytes) -> None:
    """Write a report whole, in place of an earlier one; to a device or a pipe as it is. Raises OSError."""
    if path.parent == Path("/dev") or (path.exists() and not path.is_file()):
        path.write_bytes(content)
    else:
        replace(path, content)


def write_out(args: argparse.Namespace, judged: Judged, before: Judged | None, say: Words) -> int:
    """Report, charts, summary; returns the exit status."""
    path: Path = args.output or args.run.with_suffix(".md")
    unwritten: Note | None = None
    if args.output or not args.json:
        try:
            charts, notes = ({}, [Note("chart_off")]) if args.no_charts else write_charts(
                judged, path.parent, path.stem, say)
            put(path, report(judged, before, charts, notes, say).encode())
        except OSError as error:
            why = str(error.strerror or error)
            if args.output:  # what was typed is wrong
                raise Unreadable("cannot_write", file=path, why=why) from None
            unwritten = Note("cannot_write", {"file": path, "why": why})
    if args.json:
        content = summary(judged, say) | ({"comparison": comparison(before, judged, say)} if before else {})
        print(json.dumps(content, ensure_ascii=True, indent=2, allow_nan=False))
    else:
        print_summary(judged, before, say, Path(os.devnull) if unwritten else path)
    sys.stdout.flush()
    if unwritten:
        print(plain(say.note(unwritten), 3 * MOST_WORDS), file=sys.stderr)
    return EXIT_INCONCLUSIVE if unwritten and judged.verdict == "pass" else EXIT_OF[judged.verdict]


if __name__ == "__main__":
    sys.exit(main())

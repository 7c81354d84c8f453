"""`make examples`: record the demo twice, on a healthy and on a leaking service, and write the example reports.

They are in tests/examples, each in every language of the reader, and the first screen of the leaking service's report
is in README.md. Only the names of host and kernel are replaced in what was recorded. About six minutes, in which
nothing else should work on this machine, least of all another service with RQ workers on asr-queue, since they would be
watched too. Nothing in the repository changes unless both runs show what they should.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

if not __package__:  # started by path: the folder of this package is not importable yet
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from support.slim_svg import slim

TESTS = Path(__file__).resolve().parents[1]
DEMO = Path(__file__).with_name("demo.py")
EXAMPLES = TESTS / "examples"
README = TESTS.parent / "README.md"
LEAK_MB = {"healthy": 0, "leaking": 60}  # per task
NOT_MET = {"healthy": (), "leaking": ("return_to_baseline", "no_cumulative_growth")}  # criteria; all others pass
LANGUAGES = {"en": ".md", "zh-CN": ".zh-CN.md"}
MAX_CONCURRENCY = 6  # enough for "good", and half the time of the demo's ramp
EXCERPT_OF = "leaking.md"
BEGIN, END = f"<!-- first screen of tests/examples/{EXCERPT_OF}, put here by: make examples -->", "<!-- end of it -->"


class NoExample(Exception):
    """A run did not show what it should; the message says which."""


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="examples_") as folder:
        made = Path(folder) / "examples"
        made.mkdir()
        try:
            for name, leak_mb in LEAK_MB.items():
                write_reports(record(Path(folder) / name, leak_mb), made, name)
            for chart in made.glob("*.svg"):
                chart.write_text(slim(chart.read_text(encoding="utf-8")), encoding="utf-8")
        except NoExample as error:
            print(f"make examples: {error}; nothing was changed", file=sys.stderr)
            return 1
        shutil.rmtree(EXAMPLES, ignore_errors=True)
        shutil.copytree(made, EXAMPLES)
    readme = README.read_text(encoding="utf-8")
    README.write_text(with_excerpt(readme, (EXAMPLES / EXCERPT_OF).read_text(encoding="utf-8")), encoding="utf-8")
    print(f"\nwritten: {', '.join(sorted(f.name for f in EXAMPLES.iterdir()))} in {os.path.relpath(EXAMPLES)}")
    return 0


def record(folder: Path, leak_mb: int) -> Path:
    """Run the demo into this folder; its JSONL, without the names of this machine. Raises NoExample."""
    demo = [sys.executable, os.path.relpath(DEMO), "--leak-mb", str(leak_mb), "--results-dir", str(folder)]
    status = subprocess.run([*demo, "--max-concurrency", str(MAX_CONCURRENCY), "--no-report"], check=False).returncode
    if status != 0:
        raise NoExample(f"the demo with {leak_mb} MB of leak per task ended with status {status}")
    run = next(folder.glob("memory_leak_stress_test_*.jsonl"))
    results = [json.loads(line) for line in run.read_text(encoding="utf-8").splitlines()]
    for result in (r for r in results if r["host"]):
        result["host"] |= {"name": "example", "system": result["host"]["system"].partition(" ")[0]}
    run.write_text("".join(json.dumps(result, ensure_ascii=False) + "\n" for result in results), encoding="utf-8")
    return run


def write_reports(run: Path, folder: Path, name: str) -> None:
    """The run's report in every language. Raises NoExample."""
    reader = [sys.executable, os.path.relpath(TESTS / "analyze_stress_test.py"), str(run)]
    for language, ending in LANGUAGES.items():
        command = [*reader, "--json", "--lang", language, "--output", str(folder / f"{name}{ending}")]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if not done.stdout:
            raise NoExample(f"the reader ended with status {done.returncode}")
        criteria = {c["id"]: c["status"] for c in json.loads(done.stdout)["criteria"]}
        expected = {c: "fail" if c in NOT_MET[name] else "pass" for c in criteria}
        if criteria != expected:
            raise NoExample(f"the {name} service's run is no example: {criteria}")


def first_screen(report: str) -> str:
    """Verdict, criteria and conclusions of a report, without its title."""
    return report.partition("\n## ")[0].partition("\n")[2].strip()


def with_excerpt(readme: str, report: str) -> str:
    """The README with the report's first screen between its two marks, as a quotation."""
    before, _, rest = readme.partition(BEGIN)
    quoted = "\n".join(f"> {line}".rstrip() for line in first_screen(report).splitlines())
    return f"{before}{BEGIN}\n{quoted}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    sys.exit(main())

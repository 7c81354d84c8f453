"""--json: the agreed fields."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stress_report import findings
from unit.reader_checks import run
from unit.reader_runs import (
    leak_phase,
    level,
    ramp,
)

LEAK_KEYS = {"verdict", "mb_per_cycle", "upper_bound_mb_per_cycle", "first_use_growth_mb", "peak_mb", "cycles",
             "reason", "mb_per_hour", "pid"}
LEVEL_KEYS = {"concurrency", "runs", "submitted", "succeeded", "rtf_median", "rtf_max", "turnaround_median_s",
              "turnaround_max_s", "audio_seconds_per_second", "worker_peak_mb", "client_limited", "stable"}


def test_json_is_the_agreed_summary_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, leak_phase() + ramp(level(1), level(2, failed=1), stop="failure"), "--json") == 1
    seen = capsys.readouterr()
    content = json.loads(seen.out)
    assert seen.err == ""
    assert {"verdict", "criteria", "leak", "concurrency"} <= set(content)
    assert [c["id"] for c in content["criteria"]] == list(findings.CRITERIA)
    assert all(set(c) == {"id", "status", "observed", "limit", "text"} for c in content["criteria"])
    assert set(content["leak"]["worker"]) == LEAK_KEYS
    assert content["leak_under_load"] == {}
    ramp_content = content["concurrency"]
    assert set(ramp_content) == {"max_stable", "max_real_time", "knee", "knee_reason", "effective_parallelism",
                                 "stop_reason", "first_breach", "levels"}
    assert all(set(each) == LEVEL_KEYS for each in ramp_content["levels"])
    assert set(ramp_content["first_breach"]) == {"concurrency", "test_id", "what", "observed", "limit"}
    assert (content["leak"]["worker"]["verdict"], ramp_content["max_stable"]) == ("NO LEAK", 1)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".csv", ".jsonl"], "no report unless --output asks for it"

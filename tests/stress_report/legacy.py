"""Lines of older formats turned into the present one, JSON to JSON: nothing below this room knows what came before."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from memory_leak_stress_test import TaskResult

OLD_RAMP_ID = re.compile(r"_c\d+_t(\d+)_\d+$")  # an older tool's ramp; its other lines are its leak phase
MIB_PER_MB = 1.048576  # the older tool recorded clip sizes in MiB


def is_old(content: Mapping[str, Any]) -> bool:
    """Whether a line was written by the older tool, which knew neither phases nor schemas."""
    return "test_id" in content and "phase" not in content and "schema" not in content


def from_old_tool(content: Mapping[str, Any], old_ids: Counter[tuple[str, ...]]) -> dict[str, Any]:
    """A line of the older tool: no phase, no peaks, RSS of one process only.

    Its ramp has ids like clip_c3_t0_<time>; a clip's first task counts as first use, cycle 0. The length of a clip
    comes from time and RTF. `old_ids` counts the tasks of each clip and place, over the whole file.
    """
    test_id = str(content["test_id"])
    task = OLD_RAMP_ID.search(test_id)
    clip = str(content.get("audio_file"))
    place = (clip, str(content.get("concurrency")), task.group(1)) if task else (clip,)
    taken, rtf, size = (content.get(key) for key in ("processing_time", "rtf", "audio_size_mb"))
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) and v > 0 for v in (taken, rtf))
    known = {f.name for f in dataclasses.fields(TaskResult)} - {"memory", "level", "settings", "host"}
    line = {k: v for k, v in content.items() if k in known} | {
        "phase": "concurrency" if task else "leak",
        "schema": 0,
        "status": content["status"] if content.get("status") in ("success", "timeout") else "failed",
        "cycle": None if task else old_ids[place],
        "level_run": old_ids[place] + 1 if task else None,
        "audio_seconds": taken / rtf if numbers and taken is not None and rtf is not None else None,
        "audio_size_mb": size * MIB_PER_MB if isinstance(size, float) else None,
        "memory": {"worker": dict.fromkeys(("private_before_mb", "private_after_mb", "peak_mb")) | {
            "before_mb": content.get("worker_rss_before_mb"), "after_mb": content.get("worker_rss_after_mb")}},
    }
    old_ids[place] += 1
    return line

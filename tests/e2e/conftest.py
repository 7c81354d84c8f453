"""What end-to-end tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.service import RunningService, running_service


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    """The embedded service with one worker, for the tests of one file."""
    with running_service() as running:
        yield running

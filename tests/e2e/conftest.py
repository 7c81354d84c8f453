"""What end-to-end tests share."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from e2e.service import RunningService, running_service

# Some tests end a command with Ctrl-C. Where the tests themselves were put into the background (`make test &` in a
# script), the shell has them ignore it, and every command that they start would do so too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    """The embedded service with one worker, for the tests of one file."""
    with running_service() as running:
        yield running

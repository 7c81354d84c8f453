"""Run a command that ends when its parent does, even when that is killed: with_parent.py COMMAND ARGUMENT…

On Linux the kernel does it, and this program becomes the command: nothing of it stays in the process table. Elsewhere
it stays as the command's parent and watches.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time

SUPERVISOR_VARIABLE = "ASR_SERVICE_SUPERVISOR"
PR_SET_PDEATHSIG = 1  # linux/prctl.h; survives exec, not fork
WATCH_PERIOD_S = 0.5


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends. Does nothing where the kernel cannot (not Linux)."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def supervisor_is_gone() -> bool:
    """Whether the supervisor ended before die_with_parent() could take effect."""
    pid = os.environ.get(SUPERVISOR_VARIABLE)
    if pid is None:
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    return False


def run_and_watch(command: list[str]) -> int:
    """Run the command and kill it when the parent of this process ends. Returns its exit status."""
    parent = os.getppid()
    child = subprocess.Popen(command)
    while child.poll() is None:
        if os.getppid() != parent:
            child.kill()
        time.sleep(WATCH_PERIOD_S)
    return child.returncode


def main(command: list[str]) -> int:
    die_with_parent()
    if supervisor_is_gone():
        return 1
    if sys.platform.startswith("linux"):
        os.execvp(command[0], command)
    return run_and_watch(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

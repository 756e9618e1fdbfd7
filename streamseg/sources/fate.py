"""How a decode worker ended, in words."""

from __future__ import annotations

import re
import signal
from pathlib import Path

_VMSTAT = Path("/proc/vmstat")
_OOM_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


def oom_kills(source: Path = _VMSTAT) -> int:
    """How many processes the kernel has killed since it started, for want of memory; 0 if it does not say."""
    try:
        found = _OOM_KILLS.search(source.read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0


def describe(status: int | None, *, by_us: str | None, oom_before: int, oom_now: int) -> str:
    """For example "was killed by SIGSEGV".

    Args:
        status: As of ``subprocess``: minus the signal's number, or the exit status; None if it hangs.
        by_us: Why we killed it, None if we did not.
        oom_before: :func:`oom_kills` when it started.
        oom_now: The same at its end.
    """
    if by_us is not None:
        return f"{by_us} and was killed"
    if status is None:
        return "hangs in the system"
    if status >= 0:
        return f"exited with status {status}"
    if status == -signal.SIGKILL and oom_now > oom_before:
        return "was killed by SIGKILL: the system ran out of memory"
    return f"was killed by {signal.Signals(-status).name}"

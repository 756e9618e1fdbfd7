"""How much of a busy machine the processes of a Ray cluster get."""

from __future__ import annotations

import logging
import os
from contextlib import suppress

logger = logging.getLogger(__name__)


def as_its_parent() -> None:
    """Let this process, and those that it starts, run with the niceness of the parent, where that is allowed.

    Ray gives its workers a niceness of 15 (``RAY_worker_niceness``): they are meant for work that can wait.
    A camera cannot. With any other program on the machine decoding would get 3 % of a core that is shared,
    see the table of weights in ``sched(7)`` and ``kernel/sched/core.c``: 36 of 1024.
    """
    wanted = os.getpriority(os.PRIO_PROCESS, os.getppid())
    try:
        for thread in os.listdir("/proc/self/task"):
            with suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, int(thread), wanted)
    except OSError:
        niceness = os.getpriority(os.PRIO_PROCESS, 0)
        logger.warning(
            "this process has a niceness of %d and may not change it: on a busy machine frames are late; "
            "start Ray with RAY_worker_niceness=%d",
            niceness,
            wanted,
        )

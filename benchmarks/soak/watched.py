"""The program under test, which tells from inside what it holds.

    python -m benchmarks.soak.watched FILE run …

Resident memory alone cannot tell a leak from holes between what is in use. FILE has the newest figures as
JSON; see :func:`held`.
"""

from __future__ import annotations

import ctypes
import json
import runpy
import sys
import threading
from pathlib import Path

SECONDS = 1.0


_NAMES = (
    "arena",
    "ordblks",
    "smblks",
    "hblks",
    "hblkhd",
    "usmblks",
    "fsmblks",
    "uordblks",
    "fordblks",
    "keepcost",
)


class _Mallinfo2(ctypes.Structure):
    """See mallinfo(3); glibc 2.33 and later."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _NAMES)


def held() -> dict[str, float]:
    """What the allocators have given out: Python's blocks of up to 512 bytes, and MiB of the C library's.

    Of the C library ``malloc_free_mib`` are holes, which are resident but of no use to anybody at the moment.
    """
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = _Mallinfo2
    info = library.mallinfo2()
    return {
        "python_blocks": float(sys.getallocatedblocks()),
        "malloc_used_mib": round((info.uordblks + info.hblkhd) / 2**20, 3),
        "malloc_free_mib": round(info.fordblks / 2**20, 3),
    }


def _tell(file: Path) -> None:
    new = file.with_suffix(".new")
    while True:
        new.write_text(json.dumps(held()))
        new.replace(file)
        threading.Event().wait(SECONDS)


if __name__ == "__main__":
    threading.Thread(target=_tell, args=(Path(sys.argv.pop(1)),), daemon=True).start()
    runpy.run_module("tests.support.fake_program", run_name="__main__", alter_sys=True)

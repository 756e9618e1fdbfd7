"""``streamseg run --ray`` with recordings: a cluster works them off, and this process tells how it goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tqdm import tqdm

from streamseg.cli.say import say
from streamseg.cli.stopping import StopOnSignal
from streamseg.config import RunConfig
from streamseg.errors import RunError, UsageError

if TYPE_CHECKING:
    from streamseg.scale.ray_files import Status
    from streamseg.sources import Source

_LONG_WAIT = 20.0
"""Seconds without a worker after which the user is told what is waited for."""


def work_off(config: RunConfig, sources: Sequence[Source], address: str, *, progress: bool) -> int:
    """Hand them over and wait for the end; returns the exit code. Raises UsageError or RunError."""
    from streamseg.scale.file_work import file_work_of
    from streamseg.scale.ray_files import FilesOnRay

    run = FilesOnRay(address, file_work_of(config, sources))
    stop = StopOnSignal()
    stop.work = run
    with FileProgress(show=progress) as bar:
        status = run.watch(bar.take)
    return report(status, stop.signal)


class FileProgress:
    """Files done against all that are left, and what keeps workers from it."""

    def __init__(self, *, show: bool) -> None:
        self._bar = tqdm(total=0, unit="file", disable=not show, smoothing=0.05, dynamic_ncols=True)
        self._said: set[str] = set()

    def __enter__(self) -> FileProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def take(self, status: Status) -> None:
        """Hear how it goes."""
        if not status:
            return
        self._bar.total = status["files"] - status["finished_before"]
        self._bar.set_postfix(_postfix(status), refresh=False)
        self._bar.update(status["done"] + status["set_aside"] - self._bar.n)
        self._bar.refresh()
        if status["state"] == "working":
            self._tell_troubles(status)

    def _tell_troubles(self, status: Status) -> None:
        lines = {f"{w['place']}: {w['trouble']}" for w in status["workers"] if w["trouble"]}
        if not status["workers"] and status["seconds"] > _LONG_WAIT:
            lines.add("no worker has begun yet: every device of the cluster may be taken by other work")
        for line in sorted(lines - self._said):
            with tqdm.external_write_mode():
                say(line)
        self._said |= lines


def _postfix(status: Status) -> dict[str, int]:
    return {"frames": status["frames"] + status["under_way"], "workers": len(status["workers"])}


def report(status: Status, signal: int | None) -> int:
    """Say what was done and what failed; returns the exit code. Raises UsageError or RunError."""
    if not status:
        raise RunError("the cluster has no files any more: somebody has ended the work")
    if status["state"] == "failed":
        raise UsageError(status["error"]) if status["exit_code"] == 2 else RunError(status["error"])
    for line in _lines(status):
        say(line)
    if signal is not None:
        return 128 + signal
    if status["state"] == "stopped":
        say("error: the work was ended before its end; the same command goes on")
        return 1
    return 1 if status["set_aside"] or status["refused"] or status["damaged_files"] else 0


def _lines(status: Status) -> Iterator[str]:
    counts = sorted(status["labels"].items(), key=lambda item: -item[1])
    labels = ", ".join(f"{count} {label}" for label, count in counts) or "none"
    rate = status["frames"] / status["seconds"] if status["seconds"] else 0.0
    yield f"{status['frames']} frames of {status['done']} files, {rate:.1f} frames/s, instances: {labels}"
    if status["finished_before"]:
        yield f"{status['finished_before']} files were finished before"
    yield from (f"error: {error}" for error in status["refused"])
    for stream, lost in status["damaged"].items():
        yield f"error: {stream} is damaged: {lost} frames could not be decoded"
    if (more := status["damaged_files"] - len(status["damaged"])) > 0:
        yield f"error: {more} more files are damaged"
    for one in status["reasons"]:
        yield f"error: {one['stream']} was set aside: {one['reason']}"
    if status["set_aside"]:
        yield f"error: {status['set_aside']} files were set aside, all of them are in {status['list']}"

"""``streamseg cluster``: what a Ray cluster does, and its end."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

import click

from streamseg.config import RunConfig
from streamseg.errors import UsageError

_ADDRESS = click.option(
    "--address", default="auto", show_default=True, metavar="HOST:PORT", help="Of the Ray cluster."
)


@click.group("cluster", epilog="Example: streamseg cluster status --address 10.0.0.1:6379")
def cluster() -> None:
    """See and end what was handed to a Ray cluster with streamseg run --ray."""


@cluster.command("status", epilog="Example: streamseg cluster status --address 10.0.0.1:6379")
@_ADDRESS
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(*, address: str, as_json: bool) -> int:
    """Tell which worker has which camera, and how far files are."""
    found = _status(address)
    text = json.dumps(found, indent=2) if as_json else status_table(found)
    sys.stdout.write(f"{text}\n")
    return 0


@cluster.command("stop", epilog="Example: streamseg cluster stop --address 10.0.0.1:6379")
@_ADDRESS
def stop(*, address: str) -> int:
    """End all cameras and files, finish what is written, and remove the workers; the Ray cluster stays."""
    from streamseg.scale.ray_actors import connect
    from streamseg.scale.ray_cluster import stop_cluster
    from streamseg.scale.ray_files import stop_files

    count = stop_files(connect(address)) + stop_cluster(address)
    sys.stderr.write(f"{count} workers have ended\n")
    return 0


def _status(address: str) -> dict[str, Any]:
    """Raises UsageError or RunError."""
    from streamseg.scale.ray_actors import connect
    from streamseg.scale.ray_cluster import cluster_status
    from streamseg.scale.ray_files import files_status

    files = files_status(connect(address))
    try:
        found = cluster_status(address)
    except UsageError:
        if not files:
            raise
        found = {"workers": [], "lost_workers": [], "cameras": []}
    return found | ({"files": files} if files else {})


def run_on_cluster(config: RunConfig, address: str, *, resume: bool, progress: bool) -> int:
    """``run --ray``: recordings are waited for, cameras are not. Raises UsageError or RunError."""
    from streamseg.cli.files import work_off
    from streamseg.runtime.build import build_streams
    from streamseg.scale.file_work import check_recorded

    sources = [source for source, _ in build_streams(config, refuse=lambda _: None)]
    if check_recorded(sources):
        return work_off(config, sources, address, progress=progress)
    return _hand_over_cameras(config, address, resume=resume)


def _hand_over_cameras(config: RunConfig, address: str, *, resume: bool) -> int:
    """Returns as soon as the cluster has the work. Raises UsageError or RunError."""
    if resume:
        raise UsageError("--resume is for recorded files, and these are cameras: leave it out")
    from streamseg.scale.ray_cluster import hand_over
    from streamseg.scale.work import work_of

    work = work_of(config)
    hand_over(address, work)
    sys.stderr.write(
        f"{len(work.streams)} cameras are with the Ray cluster ({address}) now, which reads them "
        "also when this command has ended; streamseg cluster status shows which worker reads which camera\n"
    )
    return 0


def status_table(status: dict[str, Any]) -> str:
    """What ``cluster status`` says of what :func:`_status` finds."""
    parts = []
    if status["workers"] or status["cameras"] or "files" not in status:
        parts.append(_of_cameras(status))
    if "files" in status:
        parts.append(_of_files(status["files"]))
    return "\n\n".join("\n".join(lines) for lines in parts)


def _of_cameras(status: dict[str, Any]) -> list[str]:
    workers = [_worker_row(worker) for worker in status["workers"]]
    lost = [
        (worker["worker"], worker["place"], "-", "-", _ago(worker), "lost")
        for worker in status["lost_workers"]
    ]
    metrics = [worker["metrics"] for worker in status["workers"] if worker["metrics"]]
    return [
        _summary(status),
        "",
        *_aligned([("WORKER", "WHERE", "FRAMES/S", "CAMERAS", "HEARD OF", "TROUBLE"), *workers, *lost]),
        "",
        *_aligned([("CAMERA", "STATE", "EPOCH", "WORKER"), *map(_camera_row, status["cameras"])]),
        *(["", "Metrics:", *(f"  {url}metrics" for url in metrics)] if metrics else []),
    ]


def _of_files(files: dict[str, Any]) -> list[str]:
    workers = [
        (worker["worker"], worker["place"], ", ".join(worker["files"]), _ago(worker), worker["trouble"])
        for worker in files["workers"]
    ]
    return [
        f"{files['files']} files, {files['state']}: {files['finished_before']} were finished before, "
        f"{files['done']} are done, {files['set_aside']} set aside",
        "",
        *_aligned([("WORKER", "WHERE", "FILES", "HEARD OF", "TROUBLE"), *workers]),
    ]


def _summary(status: dict[str, Any]) -> str:
    """What somebody wants to know first: whether all cameras are read."""
    states = Counter(camera["state"] for camera in status["cameras"])
    count = len(status["cameras"])
    ready = sum(worker["capacity"] is not None for worker in status["workers"])
    said = ", ".join(f"{number} {state}" for state, number in sorted(states.items(), key=_most_first))
    line = f"{count} cameras: {said or 'none'}; {ready} of {len(status['workers'])} workers ready"
    if status["lost_workers"]:
        line += f", {len(status['lost_workers'])} lost"
    if count and not ready:
        line += "; no camera can be read before one is"
    return line


def _most_first(counted: tuple[str, int]) -> tuple[int, str]:
    state, count = counted
    return -count, state


def _worker_row(worker: dict[str, Any]) -> tuple[str, ...]:
    ready = worker["capacity"] is not None
    return (
        worker["worker"],
        worker["place"],
        f"{worker['capacity']:g}" if ready else "-" if worker["trouble"] else "loading",
        str(worker["cameras"]),
        _ago(worker),
        worker["trouble"],
    )


def _camera_row(camera: dict[str, Any]) -> tuple[str, ...]:
    return (
        camera["stream"],
        camera["state"],
        "-" if camera["epoch"] is None else str(camera["epoch"]),
        camera["worker"] or "no worker",
    )


def _ago(worker: dict[str, Any]) -> str:
    return f"{worker['heard_seconds_ago']:.0f} s ago"


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]

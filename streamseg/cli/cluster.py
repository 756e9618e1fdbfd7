"""``streamseg cluster``: what a Ray cluster does, and its end."""

from __future__ import annotations

import json
import sys
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
    """Tell which worker has which camera."""
    from streamseg.scale.ray_cluster import cluster_status

    found = cluster_status(address)
    text = json.dumps(found, indent=2) if as_json else _table(found)
    sys.stdout.write(f"{text}\n")
    return 0


@cluster.command("stop", epilog="Example: streamseg cluster stop --address 10.0.0.1:6379")
@_ADDRESS
def stop(*, address: str) -> int:
    """End all cameras, finish what is written, and remove the workers; the Ray cluster stays."""
    from streamseg.scale.ray_cluster import stop_cluster

    count = stop_cluster(address)
    sys.stderr.write(f"{count} workers have ended\n")
    return 0


def hand_over_cameras(config: RunConfig, address: str, *, resume: bool) -> int:
    """``run --ray``: returns as soon as the cluster has the work. Raises UsageError or RunError."""
    if resume:
        raise UsageError("--resume is for recorded files, --ray for cameras: leave out one of them")
    from streamseg.scale.ray_cluster import hand_over
    from streamseg.scale.work import work_of

    work = work_of(config)
    hand_over(address, work)
    sys.stderr.write(
        f"{len(work.streams)} cameras are with the Ray cluster ({address}) now, which reads them "
        "also when this command has ended; streamseg cluster status shows which worker reads which camera\n"
    )
    return 0


def _table(status: dict[str, Any]) -> str:
    workers = [
        (
            worker["worker"],
            worker["place"],
            "loading" if worker["capacity"] is None else f"{worker['capacity']:g}",
            str(worker["cameras"]),
            f"{worker['heard_seconds_ago']:g} s ago",
            worker["trouble"],
        )
        for worker in status["workers"]
    ]
    cameras = [
        (
            camera["stream"],
            camera["state"],
            "" if camera["epoch"] is None else str(camera["epoch"]),
            camera["worker"] or "no worker",
        )
        for camera in status["cameras"]
    ]
    return "\n".join(
        [
            *_aligned([("WORKER", "WHERE", "FRAMES/S", "CAMERAS", "HEARD OF", "TROUBLE"), *workers]),
            "",
            *_aligned([("CAMERA", "STATE", "EPOCH", "WORKER"), *cameras]),
        ]
    )


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]

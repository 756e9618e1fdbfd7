"""What happens to cameras."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.soak.house import House
from benchmarks.soak.witness import Witness, wait
from tests.support.web_cameras import Served

Heal = Callable[[], object]
Cause = Callable[[House, Witness], Heal]
_JUMP = 600.0
"""Seconds."""


def killed(house: House, _: Witness) -> Heal:
    house.gate.kill()
    return house.gate.start


def silent(house: House, _: Witness) -> Heal:
    house.yard.freeze()
    return house.yard.thaw


def cut(house: House, _: Witness) -> Heal:
    return _broken(house.door)


def hls_hiccup(house: House, _: Witness) -> Heal:
    """Shorter than its ``stalled_after``: it may be bridged, or be a loss."""
    heal = _broken(house.roof)
    seen = len(house.roof.requests)
    wait(lambda: len(house.roof.requests) > seen + 2, "requests that fail")
    return heal


def packet_loss(house: House, witness: Witness) -> Heal:
    house.lane.lose_every = 20
    before = witness.metric("streamseg_damaged_frames_total", "lane")
    wait(
        lambda: witness.metric("streamseg_damaged_frames_total", "lane") >= before + 5,
        "damaged frames are counted",
    )

    def heal() -> None:
        house.lane.lose_every = 0

    return heal


def loss_told(witness: Witness) -> None:
    wait(lambda: witness.logged(r"^lane: \d+ damaged frames .* packets lost"), "log: packets lost")
    wait(lambda: int(witness.status("lane").get("lost_packets", 0)) > 0, "status: lost_packets")


def jump(house: House, _: Witness) -> Heal:
    house.lane.ahead += _JUMP
    return lambda: None


def jump_told(witness: Witness) -> None:
    """Said once by each decode worker."""
    wait(lambda: any("lane: its time stamps jump" in line for line in witness.program.log()), "log: jump")


def _broken(server: Served) -> Heal:
    server.broken = True

    def heal() -> None:
        server.broken = False

    return heal


LOSSES: tuple[tuple[str, Cause, str, str], ...] = (
    ("RTSP camera is killed", killed, "gate", "lost .*|Connection refused"),
    ("RTSP camera is silent", silent, "yard", "no frame for 5 s"),
    ("MJPEG camera is cut", cut, "door", "lost .*|503"),
)

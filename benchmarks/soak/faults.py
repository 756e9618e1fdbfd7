"""Everything that goes wrong: how it is brought about, what must be told of it, how it is put right."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.soak import brokers, cameras
from benchmarks.soak.house import House
from benchmarks.soak.witness import Witness, wait
from tests.support.disks import Filler

Heal = Callable[[], object]


@dataclass(frozen=True)
class Fault:
    """One kind of fault."""

    name: str
    cause: Callable[[House, Witness], Heal]
    """Brings it about; returns what puts it right again."""
    told: Callable[[Witness], None]
    """Waits until all tell the same of it. Raises TimeoutError or AssertionError."""


def _nothing() -> None:
    """It heals by itself."""


def _sacrificed(witness: Witness) -> str:
    """A stream of its own to come and go: an id whose file is finished is not used again."""
    return f"spare{sum('streams of the configuration: added' in line for line in witness.program.log())}"


def full_disk(house: House, _: Witness) -> Heal:
    return Filler(house.disk).remove


def folder_taken_away(house: House, witness: Witness) -> Heal:
    """While a file in it is written, which is then to be finished."""
    name, away = _sacrificed(witness), house.out.with_name("away")
    house.configure({"id": name, "url": house.gate.url("clip.mp4")})
    wait(lambda: witness.metric("streamseg_frames_total", name) > 5, f"results of {name}")
    house.out.rename(away)
    house.configure()
    return lambda: away.rename(house.out)


def folder_told(witness: Witness) -> None:
    before = len([line for line in witness.program.log() if "cannot write" in line])
    wait(lambda: witness.logged(r"cannot write .*/out/spare\d+\.ndjson: No such file"), "log: cannot write")
    errors = len([line for line in witness.program.log() if re.search(r"cannot write .*/out/", line)])
    assert before <= errors
    wait(lambda: witness.metric("streamseg_output_errors_total", "NdjsonOutput") >= errors, "errors counted")


def edited(house: House, witness: Witness) -> Heal:
    """A stream comes, a rule changes, somebody saves half of a file."""
    name = _sacrificed(witness)
    house.configure({"id": name, "url": house.yard.url("clip.mp4")}, gate={"score": 0.45})
    wait(lambda: witness.metric("streamseg_frames_total", name) > 5, f"results of {name}")
    house.replace_config("streams: [{url: 'rtsp://")
    return house.configure


def edits_told(witness: Witness) -> None:
    wait(lambda: witness.logged("added spare.*; changed gate"), "log: added")
    wait(lambda: witness.logged("nothing is changed: .*not valid YAML"), "log: nothing is changed")


def hook_away(house: House, _: Witness) -> Heal:
    house.hook.stop()
    return house.hook.start


def mqtt_away(house: House, _: Witness) -> Heal:
    house.mqtt.stop()
    return house.mqtt.start


def to_a_worker(number: signal.Signals, draw: Callable[[list[int]], int]) -> Callable[[House, Witness], Heal]:
    """A decode worker gets a signal."""

    def cause(_: House, witness: Witness) -> Heal:
        os.kill(draw(witness.program.workers()), number)
        return _nothing

    return cause


def worker_told(why: str) -> Callable[[Witness], None]:
    """Whose worker it was, the log has to say."""

    def told(witness: Witness) -> None:
        wait(lambda: witness.logged(why), f"log: {why}")
        camera = str(witness.logged(why)).partition(":")[0]
        witness.camera_lost(camera, why)

    return told


def all_faults(draw: Callable[[list[int]], int], *, own_disk: bool) -> Iterator[Fault]:
    """Every kind; ``draw`` chooses a worker. A disk can be filled that is our ``own_disk``."""

    def down(output: str, why: str) -> Callable[[Witness], None]:
        return lambda witness: witness.output_down(output, why)

    def lost(camera: str, why: str) -> Callable[[Witness], None]:
        return lambda witness: witness.camera_lost(camera, why)

    for name, cause, why in brokers.TROUBLES:
        yield Fault(f"broker {name}", cause, down("RedisOutput-2", why))
    yield Fault("broker fails over", brokers.failed_over, brokers.fail_over_told)
    for name, cause, camera, why in cameras.LOSSES:
        yield Fault(name, cause, lost(camera, why))
    yield Fault("RTP packets are lost", cameras.packet_loss, cameras.loss_told)
    yield Fault("time stamps jump", cameras.jump, cameras.jump_told)
    yield Fault("HLS has a hiccup", cameras.hls_hiccup, lambda _: None)
    for number, why in (
        (signal.SIGKILL, "worker was killed by SIGKILL"),
        (signal.SIGSEGV, "worker was killed by SIGSEGV"),
        (signal.SIGSTOP, "no frame for"),
    ):
        yield Fault(f"worker gets {number.name}", to_a_worker(number, draw), worker_told(why))
    if own_disk:
        yield Fault("disk is full", full_disk, down("NdjsonOutput", "No space left"))
    yield Fault("folder is taken away", folder_taken_away, folder_told)
    yield Fault("configuration is edited", edited, edits_told)
    yield Fault("webhook is away", hook_away, down("WebhookOutput", "webhook .* cannot be reached"))
    yield Fault("MQTT broker is away", mqtt_away, down("MqttOutput", "MQTT broker .* cannot be reached"))

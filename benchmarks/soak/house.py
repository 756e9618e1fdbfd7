"""All that a run depends on, each as a real server of its own: cameras, brokers, receivers of events."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.broker import RunningBroker, running_broker
from tests.support.disks import small_disk
from tests.support.media import write_clip
from tests.support.mqtt_process import MqttProcess
from tests.support.receiver import Receiver
from tests.support.rtp_camera import RtpCamera, rtp_camera
from tests.support.runs import WATCHED
from tests.support.servers import RtspServer, free_port, rtsp_server
from tests.support.tls import forwarding
from tests.support.web_cameras import Served, web_cameras, write_segments

CAMERAS = ("gate", "yard", "lane", "door", "roof")
"""Two over RTSP and TCP, one over RTSP and UDP, one that sends JPEGs, one behind HLS."""
USER = "cam"
_HLS_SECONDS = 2.0
SECONDS_A_PICTURE = 0.03
"""Of the stand-in for the model: too slow for all cameras together, so that frames are dropped."""


class Twins:
    """A primary and its replica behind one address, which leads to whichever is the primary."""

    def __init__(self, first: RunningBroker, second: RunningBroker, password_file: Path) -> None:
        self.primary, self.replica = first, second
        self.password_file = password_file
        self.port = 0
        self.set_password("first")
        password_file.write_text("first")
        with second.client() as client:
            client.replicaof("127.0.0.1", first.port)

    @property
    def url(self) -> str:
        """For everybody but the operator; the password stands in the file."""
        return f"redis://{USER}@127.0.0.1:{self.port}/0"

    def set_password(self, password: str) -> None:
        """Of now on; connections that there are go on."""
        for broker in (self.primary, self.replica):
            with broker.client() as client:
                client.acl_setuser(
                    USER,
                    enabled=True,
                    reset_passwords=True,
                    passwords=[f"+{password}"],
                    keys=["*"],
                    channels=["*"],
                    commands=["+@all"],
                )
                client.acl_save()

    def in_step(self) -> bool:
        """Whether the replica follows the primary."""
        with self.replica.client() as client:
            found: Any = client.info("replication")
            return bool(found["role"] == "slave" and found["master_link_status"] == "up")

    def swap(self) -> None:
        """The replica is the primary from now on, under the same address; nobody has told the old one yet."""
        with self.replica.client() as client:
            client.replicaof("NO", "ONE")
        self.primary, self.replica = self.replica, self.primary

    def demote(self) -> None:
        """Tell the old primary, which refuses to write from then on."""
        with self.replica.client() as client:
            client.replicaof("127.0.0.1", self.primary.port)


@contextlib.contextmanager
def running_twins(folder: Path) -> Iterator[Twins]:
    """Two brokers that keep data and users over restarts."""
    with contextlib.ExitStack() as stack:
        brokers = []
        for name in ("first", "second"):
            users = folder / f"{name}.acl"
            users.write_text("user default on nopass ~* &* +@all\n")
            options = ("--aclfile", str(users), "--repl-diskless-sync-delay", "0")
            brokers.append(stack.enter_context(running_broker(folder / name, options=options)))
        twins = Twins(*brokers, password_file=folder / "password")
        twins.port = stack.enter_context(forwarding(lambda: twins.primary.port))
        yield twins


class Hook:
    """A receiver of webhooks that may be away; it keeps its address and what it has accepted."""

    def __init__(self) -> None:
        self._receiver: Receiver | None = Receiver()
        self.url = self._receiver.url
        self._accepted: list[dict[str, Any]] = []

    @property
    def accepted(self) -> list[dict[str, Any]]:
        """All events so far."""
        return self._accepted + (self._receiver.accepted if self._receiver else [])

    def stop(self) -> None:
        if self._receiver is not None:
            receiver, self._receiver = self._receiver, None
            receiver.close()
            self._accepted += receiver.accepted

    def start(self) -> None:
        self._receiver = Receiver(int(self.url.split(":")[2].split("/")[0]))


@dataclass
class House:
    """Everything beside the program, and the configuration that the program reads."""

    folder: Path
    gate: RtspServer
    yard: RtspServer
    lane: RtpCamera
    door: Served
    roof: Served
    steady: RunningBroker
    """Never disturbed: what the program says of itself can be read there at any time."""
    twins: Twins
    hook: Hook
    mqtt: MqttProcess
    own_disk: bool
    """Whether results lie on a disk of their own, which may be filled."""
    view: int = field(default_factory=free_port)
    metrics: int = field(default_factory=free_port)

    @property
    def out(self) -> Path:
        """Results as files."""
        return self.disk / "out"

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    @property
    def config(self) -> Path:
        return self.folder / "run.yaml"

    def configure(self, *more: dict[str, Any], **changes: dict[str, Any]) -> None:
        """Write the configuration: all cameras, with ``changes`` of their keys, and ``more`` streams."""
        urls = {
            "gate": self.gate.url("clip.mp4"),
            "yard": self.yard.url("clip.mp4"),
            "lane": self.lane.url,
            "door": f"{self.door.url}/mjpeg",
            "roof": f"{self.roof.url}/live/hls/index.m3u8",
        }
        keys = {"lane": {"transport": "udp"}, "roof": {"stalled_after": 10}}
        streams = [
            {"id": name, "url": urls[name], **keys.get(name, WATCHED), **changes.get(name, {})}
            for name in CAMERAS
        ]
        twins = {"url": self.twins.url, "password_file": str(self.twins.password_file)}
        outputs = [
            {"type": "redis", "url": self.steady.url},
            {"type": "redis", **twins, "maxlen": 500},
            {"type": "ndjson", "path": f"{self.out}/{{stream}}.ndjson"},
            {"type": "video", "path": f"{self.folder}/video/{{stream}}.mp4", "part_minutes": 2},
            {"type": "webhook", "url": self.hook.url},
            {"type": "mqtt", "url": self.mqtt.url},
        ]
        content = {
            "streams": [*streams, *more],
            "model": {"weights": str(SECONDS_A_PICTURE)},
            "outputs": outputs,
            "view": {"enabled": True, "port": self.view},
            "metrics": {"enabled": True, "port": self.metrics},
        }
        self.replace_config(yaml.safe_dump(content))

    def replace_config(self, text: str) -> None:
        """In one step, as editors do."""
        new = self.config.with_suffix(".new")
        new.write_text(text)
        new.replace(self.config)


@contextlib.contextmanager
def furnished(folder: Path, *, minutes: float) -> Iterator[House]:
    """Everything runs; the HLS camera has enough to send for ``minutes`` and some more."""
    media = folder / "media"
    media.mkdir()
    write_clip(media / "clip.mp4", frames=300, width=160, height=120, fps=10, bframes=0, gop=10)
    count = round((minutes + 30) * 60 / _HLS_SECONDS)
    write_segments(media / "hls", count=count, seconds=_HLS_SECONDS, fps=5)
    with contextlib.ExitStack() as stack:
        mqtt = MqttProcess(free_port(), folder / "mqtt.ndjson")
        stack.callback(mqtt.stop)
        mqtt.start()
        hook = Hook()
        stack.callback(hook.stop)
        house = House(
            folder=folder,
            gate=stack.enter_context(rtsp_server(media)),
            yard=stack.enter_context(rtsp_server(media)),
            lane=stack.enter_context(rtp_camera()),
            door=stack.enter_context(web_cameras()),
            roof=stack.enter_context(web_cameras(media)),
            steady=stack.enter_context(running_broker(folder / "steady")),
            twins=stack.enter_context(running_twins(folder)),
            hook=hook,
            mqtt=mqtt,
            own_disk=stack.enter_context(small_disk(folder / "disk", "500m")),
        )
        house.configure()
        yield house

"""Events over MQTT (extra ``mqtt``: paho-mqtt)."""

from __future__ import annotations

import importlib.util
import threading
import uuid
from typing import TYPE_CHECKING

import msgspec

from streamseg.errors import UsageError
from streamseg.outputs.address import parse_address
from streamseg.outputs.patience import Patience, PeerAwayError
from streamseg.types import Frame, FrameResult, Instances, Output, StreamInfo, StreamWriter
from streamseg.types.zones import ZoneEvent

if TYPE_CHECKING:
    from paho.mqtt.client import Client

ANSWER_SECONDS = 5.0
"""For the broker to accept a connection or to acknowledge an event."""
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_FORM = "mqtt://[USER:PASSWORD@]HOST[:PORT] or mqtts://"


class MqttOutput(Output):
    """Publishes events, those of a stream in their order; a broker that is down is waited for.

    It is connected with the first event.
    """

    events_only = True

    def __init__(self, url: str, *, topic: str, qos: int = 1) -> None:
        """Prepare; nothing is connected yet.

        Args:
            url: ``mqtt://user:password@host:port`` or ``mqtts://``.
            topic: With ``{stream}`` and ``{event}`` in it where they are to stand.
            qos: 0: sent once, perhaps lost. 1 and 2: sent again until it is acknowledged, so that an outage
                perhaps doubles it, with 2 as well: each connection is a new one to the broker.

        Raises:
            UsageError: The URL is none, or paho-mqtt is not installed.
        """
        self._address = parse_address(url, _PORTS, _FORM)
        if any(sign in topic for sign in "#+\0") or not topic:
            raise UsageError(f"mqtt topic {topic!r}: must not be empty nor hold # or +")
        if importlib.util.find_spec("paho") is None:
            raise UsageError("outputs of type mqtt need the extra mqtt: pip install 'streamseg[mqtt]'")
        self._topic, self._qos = topic, qos
        self._patience = Patience(f"MQTT broker {self._address.host}")
        self._client: Client | None = None

    def open(self, info: StreamInfo) -> StreamWriter:  # noqa: ARG002
        """A writer of the one connection that all share."""
        return _MqttWriter(self)

    @property
    def trouble(self) -> str | None:
        """Why the broker takes nothing now."""
        return self._patience.trouble

    def hurry(self, patience: float | None = None) -> None:
        """Wait no longer than that for the broker."""
        self._patience.hurry(patience)

    def shutdown(self) -> None:
        """Close the connection."""
        self._drop()

    def send(self, event: ZoneEvent) -> None:
        """Publish one event. Raises OutputGoneError if the broker is away for too long at the end."""
        self._patience.retry(lambda: self._publish(event))

    def _publish(self, event: ZoneEvent) -> None:
        client = self._client or self._connect()
        topic = self._topic.replace("{stream}", event.stream).replace("{event}", event.event)
        message = client.publish(topic, msgspec.json.encode(event), qos=self._qos)
        try:
            message.wait_for_publish(ANSWER_SECONDS)
        except (RuntimeError, ValueError) as error:
            self._drop()
            raise PeerAwayError(str(error)) from None
        if not message.is_published():
            # A connection of its own for each attempt: the library would send again by itself, out of turn.
            self._drop()
            raise PeerAwayError(f"no acknowledgement within {ANSWER_SECONDS:g} s")

    def _connect(self) -> Client:
        from paho.mqtt.client import Client  # noqa: PLC0415  an extra
        from paho.mqtt.enums import CallbackAPIVersion  # noqa: PLC0415

        address = self._address
        client = Client(CallbackAPIVersion.VERSION2, client_id=f"streamseg-{uuid.uuid4().hex[:12]}")
        if address.user:
            client.username_pw_set(address.user, address.password)
        if address.scheme == "mqtts":
            client.tls_set()
        answers: list[str] = []
        answered = threading.Event()

        def connected(_client: object, _data: object, _flags: object, code: object, _more: object) -> None:
            answers.append("" if str(code) == "Success" else str(code))
            answered.set()

        client.on_connect = connected
        try:
            client.connect(address.host, address.port, keepalive=30)
        except OSError as error:
            raise PeerAwayError(error.strerror or str(error)) from None
        client.loop_start()
        if not answered.wait(ANSWER_SECONDS) or answers[0]:
            client.loop_stop()
            raise PeerAwayError(answers[0] if answers else "no answer")
        self._client = client
        return client

    def _drop(self) -> None:
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None


class _MqttWriter(StreamWriter):
    def __init__(self, output: MqttOutput) -> None:
        self._output = output

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:  # noqa: ARG002
        for event in result.events or ():
            self._output.send(event)

"""A real MQTT broker in this process, which can be stopped and started again."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from amqtt.broker import Broker, BrokerContext
from amqtt.plugins.base import BasePlugin
from amqtt.session import ApplicationMessage
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.broker import wait_for

_take: dict[int, Callable[[dict[str, Any]], None]] = {}
"""By the broker's port, what is called with all that it takes."""


class Recorder(BasePlugin[BrokerContext]):
    """Keeps what a broker takes: a subscriber would miss what comes before it is back."""

    @dataclass
    class Config:
        port: int = 0

    async def on_broker_message_received(self, *, client_id: str, message: ApplicationMessage) -> None:
        _take[self.config.port](json.loads(message.data or b"null"))


class MqttBroker:
    """Listens on a port of this machine from :meth:`start` to :meth:`stop`."""

    def __init__(self, port: int, *, take: Callable[[dict[str, Any]], None] | None = None) -> None:
        self.port = port
        self.taken: list[dict[str, Any]] = []
        """All that was published, also before it was stopped and started again; empty if ``take`` has it."""
        _take[port] = take or self.taken.append
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._broker: Broker | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._do(self._start())

    async def _start(self) -> None:
        self._broker = Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}},
                "plugins": {
                    "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True},
                    "tests.support.mqtt.Recorder": {"port": self.port},
                },
            }
        )
        await self._broker.start()

    def stop(self) -> None:
        if self._broker is not None:
            self._do(self._broker.shutdown())
            self._broker = None

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)


class Listener:
    """Collects everything below one topic."""

    def __init__(self, broker: MqttBroker, topic: str) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []
        subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = lambda _c, _d, m: self.messages.append((m.topic, json.loads(m.payload)))
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        wait_for(subscribed.is_set)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

"""A real MQTT broker for hours, in a process of its own."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.support.broker import wait_for
from tests.support.mqtt import MqttBroker
from tests.support.servers import listens


class MqttProcess:
    """It is killed if it does not end: the library's shutdown hung once in 45 times."""

    def __init__(self, port: int, file: Path) -> None:
        """``file`` keeps what is published, a line each."""
        self.port, self._file = port, file
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.support.mqtt_process", str(self.port), str(self._file)]
        self._process = subprocess.Popen(command)
        wait_for(lambda: listens(self.port))

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def taken(self) -> list[dict[str, Any]]:
        """All that was published, also before it was stopped and started again."""
        return [json.loads(line) for line in self._file.open()] if self._file.exists() else []


def main() -> None:
    """A broker on the port of the first argument, which adds what it takes to the file of the second."""
    port, file = int(sys.argv[1]), Path(sys.argv[2])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with file.open("a", buffering=1) as kept:
        broker = MqttBroker(port, take=lambda event: print(json.dumps(event), file=kept))
        try:
            broker.start()
            threading.Event().wait()
        except KeyboardInterrupt:
            broker.close()


if __name__ == "__main__":
    main()

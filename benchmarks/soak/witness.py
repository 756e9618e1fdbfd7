"""What the program tells of itself: its log, /metrics, /readyz, the status in Redis and the page."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from benchmarks.soak.house import CAMERAS, House
from benchmarks.soak.program import Program
from tests.support.story import shown
from tests.support.web import get
from tests.web.test_metrics import scrape

Metrics = dict[tuple[str, ...], float]
PATIENCE = 90.0
"""Seconds for anything that must happen: the longest delay between two attempts is 36 s."""
_EVERY = 0.25
"""Seconds between two looks: the program has other things to do than to answer us."""
_TROUBLE = re.compile(
    r"^(?P<who>.+?) (cannot be (reached|logged in|written)|refuses us|cannot do its work|does not grant us)"
)
_LOST = re.compile(rf"^(?P<who>{'|'.join(CAMERAS)}): .*next attempt in")
_BACK = re.compile(r"^(?P<who>.+?)(?: is back after|: live again|: connected)")


def wait(condition: Callable[[], object], what: str, *, seconds: float = PATIENCE) -> None:
    """Look at a condition now and then until it holds. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(_EVERY)


class Witness:
    """Asks all of them, and compares."""

    def __init__(self, house: House, program: Program) -> None:
        self._house, self.program = house, program
        self._log_from = 0
        self._reconnects: dict[str, float] = {}

    def begin(self) -> None:
        """Something is about to go wrong: only what is logged from now on counts for it."""
        self._log_from = len(self.program.log())
        self._reconnects = {name: self.metric("streamseg_reconnects_total", name) for name in CAMERAS}

    # One by one.

    def metrics(self) -> Metrics:
        return scrape(f"http://127.0.0.1:{self._house.metrics}/")

    def metric(self, name: str, *labels: str) -> float:
        return self.metrics().get((name, *labels), 0.0)

    def ready(self) -> tuple[int, str]:
        code, text = get(f"http://127.0.0.1:{self._house.metrics}/readyz")
        return code, text.decode()

    def status(self, stream: str) -> dict[str, str]:
        with self._house.steady.client(decode_responses=True) as client:
            found: Any = client.hgetall(f"streamseg:{{{stream}}}:status")
            return dict(found)

    def page(self) -> dict[str, Any]:
        return shown(f"http://127.0.0.1:{self._house.view}/")

    def logged(self, why: str) -> str | None:
        """The first message since :meth:`begin` with these words."""
        return next((line for line in self.program.log()[self._log_from :] if re.search(why, line)), None)

    # Of trouble.

    def output_down(self, output: str, why: str) -> None:
        """All of them say that an output is down, and why; no camera's state suffers."""
        wait(lambda: self.metric("streamseg_output_up", output) == 0, f"{output} down")
        wait(lambda: re.search(f"{output}: .*({why})", self.ready()[1]), f"/readyz: {output} {why}")
        assert self.ready()[0] == 503
        wait(lambda: re.search(f"{output}: .*({why})", self.status("gate").get("outputs", "")), "status")
        told = {o["name"]: o["trouble"] or "" for o in self.page()["outputs"]}
        assert re.search(why, told[output]), f"page: {told[output]}, not {why}"
        wait(lambda: self.logged(why), f"log: {why}")
        assert self.status("gate")["state"] == "live"

    def camera_lost(self, camera: str, why: str) -> None:
        """All of them say that a camera is lost, and why, if it does not come back before we look."""
        metrics = self.metrics
        wait(
            lambda: (
                metrics()["streamseg_stream_up", camera] == 0
                or self.metric("streamseg_reconnects_total", camera) > self._reconnects[camera]
            ),
            f"{camera} lost",
        )
        wait(lambda: self.logged(f"^{camera}: .*({why})"), f"log: {camera} {why}")
        wait(lambda: re.search(why, self.status(camera).get("error", "")), f"status: {camera} {why}")
        wait(lambda: re.search(why, self.on_page(camera).get("error", "")), f"page: {camera} {why}")

    def on_page(self, camera: str) -> dict[str, Any]:
        return next((dict(s) for s in self.page()["streams"] if s["id"] == camera), {})

    # Of peace.

    def wait_until_begun(self) -> None:
        """Until the program is up and all is well."""

        def answers() -> bool:
            try:
                return bool(self.metrics())
            except OSError:
                assert self.program.process.poll() is None, "\n".join(self.program.log())
                return False

        wait(answers, "the first answer")
        self.wait_until_well()

    def wait_until_well(self) -> None:
        """Until all of them agree that all is well. Raises TimeoutError that names what does not."""
        last: list[str] = []

        def well() -> bool:
            last[:] = self.disagreements()
            return not last

        try:
            wait(well, "all well")
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {'; '.join(last)}") from None

    def disagreements(self) -> list[str]:
        """What keeps us from saying that all is well, and where two of them contradict each other."""
        metrics, page = self.metrics(), self.page()
        found = [f"/readyz: {self.ready()}"] if self.ready()[0] != 200 else []
        on_page = {stream["id"]: stream for stream in page["streams"]}
        for name in CAMERAS:
            found += self._of_camera(name, metrics, on_page.get(name, {}))
        for output in page["outputs"]:
            up = metrics.get(("streamseg_output_up", output["name"]))
            if output["trouble"] or up != 1:
                found.append(f"{output['name']}: up {up}, on the page {output['trouble']}")
        return found + [f"log: {who} in trouble" for who in self._in_trouble()]

    def _of_camera(self, name: str, metrics: Metrics, shown: dict[str, Any]) -> list[str]:
        status = self.status(name)
        found = []
        if status.get("outputs"):
            found.append(f"status of {name}: {status['outputs']}")
        told = (metrics.get(("streamseg_stream_up", name)), status.get("state"), shown.get("state"))
        if told != (1, "live", "live"):
            found.append(f"{name}: up {told[0]}, status {told[1]}, page {told[2]}")
        for key, metric in (("reconnects", "reconnects"), ("damaged", "damaged_frames")):
            counts = (
                metrics.get((f"streamseg_{metric}_total", name), 0),
                int(status.get(key, 0)),
                int(shown.get(key, 0)),
            )
            if len(set(counts)) > 1:
                found.append(f"{name}: {key} {counts} (metrics, status, page)")
        again = sum(line == f"{name}: live again" for line in self.program.log())
        if again != metrics.get(("streamseg_reconnects_total", name), 0):
            found.append(f"{name}: {again} times live again in the log")
        return found

    def _in_trouble(self) -> list[str]:
        """Whom the log has last called away, lost or refused."""
        troubled: set[str] = set()
        for line in self.program.log():
            if bad := _TROUBLE.match(line) or _LOST.match(line):
                troubled.add(bad["who"])
            elif good := _BACK.match(line):
                troubled.discard(good["who"])
        return sorted(troubled)

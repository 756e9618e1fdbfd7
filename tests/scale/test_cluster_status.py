"""What people are told of a cluster: all is well, a node is lost, nobody is there."""

from __future__ import annotations

from streamseg.cli.cluster import status_table
from streamseg.config import parse_config
from streamseg.scale.controller import Controller
from streamseg.scale.roster import Report
from streamseg.scale.work import work_of


class Told:
    """A controller of two cameras; time is the test's own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.controller = Controller(saved=None, save=lambda _: None, clock=lambda: self.now)
        streams = [{"id": name, "url": f"rtsp://host/{name}"} for name in ("door", "gate")]
        self.controller.hand_over(work_of(parse_config({"streams": streams}, where="test")))

    def report(self, worker: str, *, held: dict[str, int] | None = None, **more: object) -> None:
        held = held or {}
        told = {"capacity": 20.0, "states": dict.fromkeys(held, "live")} | more
        self.controller.renew(Report(worker, "here, cpu", held=held, **told), -1)  # type: ignore[arg-type]

    def lines(self) -> list[str]:
        return status_table(self.controller.status()).splitlines()


def test_all_is_well() -> None:
    told = Told()
    told.report("a", held={"door": 0}, metrics="http://10.0.0.1:4711/")
    told.report("b", held={"gate": 3})
    assert told.lines() == [
        "2 cameras: 2 live; 2 of 2 workers ready",
        "",
        "WORKER  WHERE      FRAMES/S  CAMERAS  HEARD OF  TROUBLE",
        "a       here, cpu  20        1        0 s ago",
        "b       here, cpu  20        1        0 s ago",
        "",
        "CAMERA  STATE  EPOCH  WORKER",
        "door    live   0      a",
        "gate    live   3      b",
        "",
        "Metrics:",
        "  http://10.0.0.1:4711/metrics",
    ]


def test_a_lost_worker_is_named_and_what_it_had_waits() -> None:
    told = Told()
    told.report("a", held={"door": 0})
    told.report("b", held={"gate": 3})
    for _ in range(4):
        told.now += 2.0
        told.report("b", held={"gate": 3})
    lines = told.lines()
    assert lines[0] == "2 cameras: 1 live, 1 waiting; 1 of 1 workers ready, 1 lost"
    assert "a       here, cpu  -         -        8 s ago   lost" in lines
    assert "door    waiting  -      b" in lines


def test_nobody_is_there() -> None:
    told = Told()
    assert told.lines()[0] == (
        "2 cameras: 2 waiting; 0 of 0 workers ready; no camera can be read before one is"
    )
    assert "door    waiting  -      no worker" in told.lines()
    told.report("a", capacity=None, trouble="weights: no such file")
    assert "a       here, cpu  -         0        0 s ago   weights: no such file" in told.lines()
    told.report("a", held={"door": 0, "gate": 0})
    told.now += 60.0
    assert told.lines()[0] == (
        "2 cameras: 2 waiting; 0 of 0 workers ready, 1 lost; no camera can be read before one is"
    )

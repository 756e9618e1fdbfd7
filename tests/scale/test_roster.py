"""Cameras and workers of a cluster; time is the test's own."""

from collections import Counter

from streamseg.scale.roster import ANSWER_SECONDS, LEASE_SECONDS, LOST_SECONDS, RENEW_SECONDS, Report, Roster

CAMERAS = [f"camera-{k}" for k in range(12)]


class Cluster:
    """Workers that do as they are told, once a second."""

    def __init__(self, *workers: str, guarded: bool = False) -> None:
        self.now, self.guarded = 1000.0, guarded
        self.held: dict[str, dict[str, int]] = {worker: {} for worker in workers}
        self.silent: set[str] = set()
        self.roster = self.controller()

    def controller(self, *expected: str) -> Roster:
        self.roster = Roster(expected, clock=lambda: self.now)
        self.roster.want(CAMERAS, guarded=self.guarded)
        return self.roster

    def renew(self, worker: str) -> None:
        had = self.held[worker]
        orders = self.roster.renew(Report(worker, capacity=10.0, held=dict(had)))
        self.held[worker] = {
            stream: had[stream] if stream in had else -1 if known is None else known + 1
            for stream, known in orders.items()
        }

    def seconds(self, count: int) -> None:
        for _ in range(count):
            self.now += 1.0
            for worker in self.held:
                if worker not in self.silent:
                    self.renew(worker)

    def owners(self) -> dict[str, str]:
        live = {w: held for w, held in self.held.items() if w not in self.silent}
        all_held = [stream for held in live.values() for stream in held]
        assert len(all_held) == len(set(all_held)), "no camera is with two at once"
        return {stream: worker for worker, held in live.items() for stream in held}


def test_cameras_are_given_out_evenly() -> None:
    cluster = Cluster("a", "b", "c")
    cluster.seconds(5)
    assert sorted(cluster.owners()) == sorted(CAMERAS)
    assert all(3 <= count <= 5 for count in Counter(cluster.owners().values()).values())


def test_a_worker_that_falls_silent_loses_its_cameras_after_its_lease_and_no_other_moves() -> None:
    cluster = Cluster("a", "b", "c")
    cluster.seconds(5)
    before = cluster.owners()
    cluster.silent.add("a")
    cluster.seconds(int(LEASE_SECONDS) + 1)
    assert {s for s, w in before.items() if w != "a"} == set(cluster.owners())
    cluster.seconds(int(LOST_SECONDS - LEASE_SECONDS) + 2)
    after = cluster.owners()
    assert sorted(after) == sorted(CAMERAS)
    assert all(after[stream] == worker for stream, worker in before.items() if worker != "a")


def test_a_new_owner_is_told_the_newest_epoch_of_the_former() -> None:
    cluster = Cluster("a", "b")
    cluster.seconds(3)
    stream = next(iter(cluster.held["a"]))
    cluster.held["a"][stream] = 41
    cluster.seconds(1)
    cluster.silent.add("a")
    cluster.seconds(int(LOST_SECONDS) + 3)
    assert cluster.held["b"][stream] == 42


def test_a_worker_that_was_silent_gives_back_what_others_have() -> None:
    cluster = Cluster("a", "b", "c")
    cluster.seconds(5)
    cluster.silent.add("a")
    cluster.seconds(int(LOST_SECONDS) + 3)
    cluster.silent.clear()
    cluster.renew("a")
    assert len(cluster.owners()) == len(CAMERAS)
    cluster.seconds(5)
    assert sorted(cluster.owners()) == sorted(CAMERAS)
    assert cluster.held["a"], "it takes its share again"


def test_a_camera_is_given_on_when_its_former_owner_has_let_go_of_it() -> None:
    cluster = Cluster("a")
    cluster.seconds(3)
    assert len(cluster.held["a"]) == 12
    cluster.held["b"] = {}
    for _ in range(6):
        cluster.now += 1.0
        cluster.renew("b")
        cluster.owners()
        cluster.renew("a")
    assert len(cluster.held["b"]) == 6
    assert len(cluster.owners()) == 12


def test_a_controller_that_begins_anew_moves_nothing() -> None:
    cluster = Cluster("a", "b", "c")
    cluster.seconds(5)
    before = cluster.owners()
    cluster.controller("a", "b", "c")
    cluster.seconds(20)
    assert cluster.owners() == before


def test_a_controller_that_begins_anew_waits_for_those_who_may_have_cameras() -> None:
    cluster = Cluster("a", "b", "c")
    cluster.seconds(5)
    before = cluster.owners()
    cluster.controller("a", "b", "c")
    cluster.silent.add("c")
    cluster.seconds(int(LOST_SECONDS) - 1)
    assert cluster.owners() == {s: w for s, w in before.items() if w != "c"}
    cluster.seconds(3)
    assert sorted(cluster.owners()) == sorted(CAMERAS)


def test_a_worker_whose_engine_is_not_ready_gets_nothing() -> None:
    cluster = Cluster("a")
    assert cluster.roster.renew(Report("b")) == {}
    cluster.seconds(3)
    assert len(cluster.owners()) == 12
    assert cluster.roster.renew(Report("b")) == {}


def test_cameras_that_are_wanted_no_more_end() -> None:
    cluster = Cluster("a", "b")
    cluster.seconds(3)
    cluster.roster.want(CAMERAS[:4])
    cluster.seconds(2)
    assert sorted(cluster.owners()) == sorted(CAMERAS[:4])


def test_a_worker_whose_connection_breaks_and_that_is_silent_loses_its_cameras_sooner() -> None:
    cluster = Cluster("a", "b", "c", guarded=True)
    cluster.seconds(5)
    before = cluster.owners()
    cluster.silent.add("a")
    cluster.roster.broken("a")
    cluster.seconds(4)
    after = cluster.owners()
    assert sorted(after) == sorted(CAMERAS)
    assert all(after[stream] == worker for stream, worker in before.items() if worker != "a")


def test_a_broken_connection_alone_moves_nothing() -> None:
    cluster = Cluster("a", "b", "c", guarded=True)
    cluster.seconds(5)
    before = cluster.owners()
    cluster.roster.broken("a")
    cluster.seconds(10)
    assert cluster.owners() == before


def test_without_redis_nobody_begins_before_the_lease_of_the_former_is_over() -> None:
    cluster = Cluster("a", "b", "c")
    cluster.seconds(5)
    cluster.silent.add("a")
    cluster.roster.broken("a")  # it may be cut off, and write on until its own clock ends it
    cluster.seconds(int(LEASE_SECONDS) + 1)
    assert len(cluster.owners()) < len(CAMERAS)
    cluster.seconds(3)
    assert sorted(cluster.owners()) == sorted(CAMERAS)


def test_a_lease_bears_one_lost_answer_and_ends_before_others_begin() -> None:
    assert LEASE_SECONDS > 2 * RENEW_SECONDS + ANSWER_SECONDS - 1e-9
    assert LOST_SECONDS >= 1.25 * LEASE_SECONDS + 0.5


def test_a_controller_that_was_stopped_moves_nothing() -> None:
    cluster = Cluster("a", "b", "c")
    cluster.seconds(5)
    before = cluster.owners()
    cluster.now += 60.0
    cluster.renew("b")
    assert {s for s, w in before.items() if w == "b"} == set(cluster.held["b"])
    cluster.seconds(10)
    assert cluster.owners() == before


def test_a_worker_is_lost_although_others_report_slowly() -> None:
    cluster = Cluster("a", "b")
    cluster.seconds(5)
    cluster.silent.add("a")
    for _ in range(10):
        cluster.now += 3.5
        cluster.renew("b")
    assert sorted(cluster.held["b"]) == sorted(CAMERAS)


def test_what_is_known_of_all() -> None:
    cluster = Cluster("a", "b")
    cluster.seconds(3)
    assert [report.worker for report, _ in cluster.roster.workers()] == ["a", "b"]
    assert set(cluster.roster.owners().values()) == {"a", "b"}
    cluster.silent = {"a", "b"}
    cluster.now += 60.0
    assert cluster.roster.workers() == []
    assert set(cluster.roster.owners().values()) == {None}
    assert [(report.worker, age) for report, age in cluster.roster.lost()] == [("a", 60.0), ("b", 60.0)]
    cluster.renew("b")
    cluster.seconds(10)
    cluster.silent.clear()
    cluster.renew("a")
    assert cluster.roster.lost() == []

"""Which recordings are handed to whom: claims, leases, and files that are given up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from streamseg.scale.file_queue import LEASE_SECONDS, MOST_FAILURES, Claim, FileQueue, FileReport, Outcome


class Office:
    """A queue of files a, b, c…, and workers with a clock of their own."""

    def __init__(self, names: str, **options: Any) -> None:
        self.now = 0.0
        self.given_up: list[tuple[str, str]] = []
        self.queue = FileQueue(
            names,
            config_of=lambda stream: {"id": stream, "url": f"/in/{stream}.mp4"},
            set_aside=lambda stream, why: self.given_up.append((stream, why)),
            clock=lambda: self.now,
            **options,
        )
        self.reports: dict[str, FileReport] = {}

    def ask(self, worker: str, room: int = 1, **changes: Any) -> tuple[dict[str, Claim], list[str]]:
        """What a worker gets that goes on with all that it has."""
        before = self.reports.get(worker, FileReport(worker, "first", engine=f"{worker}-1"))
        report = replace(before, **{"room": room, "outcomes": (), **changes})
        claims, dropped = self.queue.renew(report)
        mine = {s: held for s, held in report.held.items() if s not in dropped}
        held = mine | {claim.stream: (claim.number, 0) for claim in claims}
        self.reports[worker] = replace(report, held=held, outcomes=())
        return {claim.stream: claim for claim in claims}, dropped

    def end(self, worker: str, stream: str, error: str | None = None, **more: Any) -> dict[str, Claim]:
        """An attempt has ended; what the worker gets next."""
        report = self.reports[worker]
        number = report.held[stream][0]
        held = {s: one for s, one in report.held.items() if s != stream}
        self.reports[worker] = replace(report, held=held)
        return self.ask(worker, outcomes=(Outcome(number, stream, error, **more),))[0]


def test_work_is_pulled_and_counted() -> None:
    office = Office("abc")
    claims, _ = office.ask("w1", room=2)
    assert list(claims) == ["a", "b"]
    assert list(office.ask("w2")[0]) == ["c"]
    assert office.ask("w1")[0] == {}, "nothing is left to give"
    office.end("w1", "a", results=4, labels={"car": 3})
    office.end("w1", "b", results=5, labels={"car": 1}, lost=2)
    assert office.queue.left == 1
    office.end("w2", "c")
    assert (office.queue.left, office.queue.done, office.queue.frames) == (0, 3, 9)
    assert office.queue.labels == {"car": 4}
    assert office.queue.damaged == {"b": 2}


def test_an_answer_that_was_lost_costs_nothing() -> None:
    office = Office("ab")
    report = FileReport("w", "s", room=1)
    first, _ = office.queue.renew(report)
    second, _ = office.queue.renew(report)  # it never heard of the first
    assert first[0].stream == second[0].stream == "a"
    assert second[0].number > first[0].number
    done = replace(report, outcomes=(Outcome(second[0].number, "a"),))
    office.queue.renew(done)
    office.queue.renew(done)  # nor that this was heard
    assert office.queue.done == 1
    assert office.given_up == []


def test_who_is_not_heard_of_loses_what_he_had() -> None:
    office = Office("a")
    old = office.ask("w1")[0]["a"]
    office.now += LEASE_SECONDS - 1
    assert office.ask("w2")[0] == {}
    office.now += 2
    new = office.ask("w2")[0]["a"]
    assert new.number > old.number
    assert new.former == "w1-1", "what the other has written is gone on with"
    # It was only stopped, goes on, and fails with a claim that is not its own any more.
    _, dropped = office.ask("w1", room=0, held={"a": (old.number, 3)})
    assert dropped == ["a"]
    office.ask("w1", room=0, held={}, outcomes=(Outcome(old.number, "a", "bad"),))
    assert office.ask("w2") == ({}, [])
    # But results that have their name are done, whoever made them.
    office.ask("w1", room=0, outcomes=(Outcome(old.number, "a", results=5),))
    assert (office.queue.left, office.queue.frames) == (0, 5)
    assert office.ask("w2")[1] == ["a"]


def test_a_worker_that_begins_anew_has_nothing() -> None:
    office = Office("a")
    office.ask("w1")
    claims, _ = office.ask("w1", session="second", held={})
    assert list(claims) == ["a"], "at once: nobody waits for a lease"


def test_a_file_that_fails_is_tried_again_behind_the_others_and_set_aside() -> None:
    office = Office("ab")
    office.ask("w")
    assert list(office.end("w", "a", "bad")) == ["b"]
    again = office.end("w", "b")["a"]
    assert again.former is None, "it is begun anew: what is there may be the cause"
    assert list(office.end("w", "a", "bad")) == ["a"]
    assert office.end("w", "a", "very bad") == {}
    assert office.given_up == [("a", "very bad")]
    assert office.queue.left == 0


def test_over_whom_an_engine_died_is_read_alone() -> None:
    office = Office("abcd")
    office.ask("w1", room=2)
    office.ask(
        "w1",
        room=0,
        held={},
        outcomes=(Outcome(1, "a", "died", died=True), Outcome(2, "b", "died", died=True)),
    )
    claims = office.ask("w1", room=2)[0]
    assert list(claims) == ["a"], "nothing else is to be lost with it"
    assert claims["a"].former == "w1-1"
    assert office.ask("w1", room=2)[0] == {}
    assert list(office.ask("w2", room=2)[0]) == ["b"]
    assert list(office.end("w2", "b")) == ["c"]
    for _ in range(MOST_FAILURES - 1):
        claims = office.end("w1", "a", "its engine was killed by SIGSEGV", died=True)
    assert list(claims) == ["d"]
    assert office.given_up == [("a", "its engine was killed by SIGSEGV")]


def test_who_gets_further_each_time_is_not_to_blame() -> None:
    office = Office("a")
    for results in range(10, 100, 10):
        office.ask("w")
        office.ask("w", held={"a": (office.reports["w"].held["a"][0], results)})
        office.end("w", "a", "the machine was taken away", died=True, results=results)
    assert office.given_up == []
    for _ in range(MOST_FAILURES - 1):
        office.ask("w")
        office.end("w", "a", "and again", died=True, results=90)
    assert office.given_up == [("a", "and again")]


def test_a_queue_that_begins_anew_leaves_workers_what_they_have() -> None:
    office = Office("ab", first_claim=100)
    claims, dropped = office.ask("w1", held={"a": (7, 3)})
    assert (claims, dropped) == ({}, []), "nothing is handed out before all were heard"
    office.now += LEASE_SECONDS
    claims, dropped = office.ask("w1", room=2)
    assert dropped == []
    assert [claim.number for claim in claims.values()] == [101]
    assert list(claims) == ["b"]
    office.end("w1", "a", results=3)
    assert office.queue.done == 1
    # Somebody whom nobody has heard of in time.
    assert office.ask("w2", held={"b": (8, 3)})[1] == ["b"]


def test_nothing_is_handed_out_once_it_is_stopped() -> None:
    office = Office("ab")
    office.ask("w")
    office.queue.stop()
    assert office.end("w", "a") == {}
    assert office.queue.left == 1

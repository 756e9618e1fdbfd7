"""The label of an object is what the frames of its track agree on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamseg.runtime.votes import LabelVotes
from streamseg.types import Instances
from tests.support.media import write_clip
from tests.support.moving import Moving
from tests.support.program import read_results
from tests.support.runs import run_here, without_clock
from tests.zones.boxes import standing

CLASSES = ("car", "bus", "truck")


def sighting(label: str, *, score: float = 0.8, id_: int = 1) -> Instances:
    found = standing({id_: (100, 300)}, label=label)
    return replace(found, class_ids=np.array([CLASSES.index(label)]), scores=np.array([score], np.float32))


def voted(labels: Sequence[str], *, fps: float = 10.0, votes: LabelVotes | None = None) -> list[str]:
    votes = votes or LabelVotes()
    seen = [votes.update(sighting(label), time=k / fps) for k, label in enumerate(labels)]
    assert all(CLASSES[one.class_ids[0]] == one.labels[0] for one in seen)
    return [one.labels[0] for one in seen]


def test_an_object_that_is_read_in_three_ways_keeps_one_label() -> None:
    assert voted(["car", "bus", "car", "truck", "car", "car", "bus"] * 20) == ["car"] * 140


def test_a_wrong_beginning_is_put_right_after_a_few_frames() -> None:
    assert set(voted(["truck", "bus"] + ["car"] * 20)[5:]) == {"car"}


def test_a_lasting_change_is_accepted_after_seconds() -> None:
    labels = voted(["car"] * 600 + ["bus"] * 100)
    assert labels.index("bus") - 600 < 100
    assert set(labels[labels.index("bus") :]) == {"bus"}


@given(st.lists(st.sampled_from(CLASSES), min_size=1, max_size=60))
def test_a_label_is_one_that_was_seen_and_changes_only_to_what_is_seen_now(labels: list[str]) -> None:
    seen = voted(labels)
    assert seen[0] == labels[0]
    for k in range(1, len(labels)):
        assert seen[k] in {seen[k - 1], labels[k]}


@given(st.lists(st.sampled_from(CLASSES), min_size=1, max_size=40), st.integers(1, 39))
def test_what_comes_later_changes_nothing(labels: list[str], part: int) -> None:
    assert voted(labels)[:part] == voted(labels[:part])


def test_a_better_score_weighs_more() -> None:
    votes = LabelVotes()
    votes.update(sighting("bus", score=0.3), time=0.0)
    assert votes.update(sighting("car", score=0.9), time=0.1).labels == ("car",)
    assert votes.update(sighting("bus", score=0.3), time=0.2).labels == ("car",)


def test_objects_without_an_id_keep_their_own_label_and_all_keep_their_score() -> None:
    votes = LabelVotes()
    votes.update(sighting("car"), time=0.0)
    nameless = replace(sighting("bus"), ids=(None,))
    assert votes.update(nameless, time=0.1).labels == ("bus",)
    assert votes.update(sighting("bus", score=0.5), time=0.1).scores.tolist() == [0.5]
    assert votes.update(replace(sighting("bus"), ids=()), time=0.2).labels == ("bus",)


def test_each_object_has_its_own_votes() -> None:
    votes = LabelVotes()
    for k in range(5):
        assert votes.update(sighting("car", id_=1), time=k / 10).labels == ("car",)
        assert votes.update(sighting("bus", id_=2), time=k / 10).labels == ("bus",)


class Fickle(Moving):
    """Calls what it sees by its other name in one picture of three."""

    def finish(self, ticket: list[NDArray[np.uint8]], k: int) -> Instances:
        found = super().finish(ticket, k)
        # By what the picture shows, so that each picture has its names in every run.
        odd = np.array([(int(x) + int(y)) % 3 == 0 for x, y in found.boxes[:, :2]], bool)
        class_ids = np.where(odd, 1 - found.class_ids, found.class_ids)
        return replace(found, class_ids=class_ids, labels=tuple(self.classes[c] for c in class_ids))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "a.mp4", frames=60, width=96, height=64)


def test_results_have_one_label_an_id_and_say_what_was_outvoted(clip: Path, tmp_path: Path) -> None:
    run_here(clip, results=tmp_path / "a.ndjson", model=Fickle)
    labels: dict[int, list[str]] = {}
    outvoted = 0
    for result in read_results(tmp_path / "a.ndjson"):
        for found in result["instances"]:
            other = found.get("outvoted")
            outvoted += other is not None
            assert other is None or other["label"] != found["label"]
            assert other is None or Fickle.classes[other["class_id"]] == other["label"]
            if found["id"] is not None:
                labels.setdefault(found["id"], []).append(found["label"])
    assert outvoted > 20
    changes = [sum(a != b for a, b in pairwise(seen)) for seen in labels.values()]
    assert max(changes) <= 1


@pytest.mark.parametrize("after", [1, 8, 25, 59])
def test_a_resumed_run_goes_on_with_the_votes(clip: Path, tmp_path: Path, after: int) -> None:
    """What was outvoted stands in the results: of the labels alone the votes could not be known."""
    results = tmp_path / "a.ndjson"
    run_here(clip, results=results, model=Fickle)
    expected, lines = without_clock(results), results.read_bytes().splitlines(keepends=True)
    results.unlink()
    results.with_name("a.ndjson.partial").write_bytes(b"".join(lines[:after]))
    stream = run_here(clip, results=results, model=Fickle, resume=True).stats.streams["a"]
    assert stream.kept == after
    assert without_clock(results) == expected

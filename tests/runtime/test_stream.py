"""A stream of a run, from its first frame to what stays of it when it is over."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest

from streamseg.runtime import stream as stream_module
from streamseg.runtime.delivery import Outputs
from streamseg.runtime.stats import StreamStats
from streamseg.runtime.stream import Stream
from streamseg.runtime.tracking import Tracker
from streamseg.zones import StreamRules
from streamseg.zones import filter as filter_module
from tests.support.clips import frame, instances
from tests.support.media import write_clip
from tests.support.runs import LEFT_HALF, run_here

BOXES = ((2, 2, 12, 12), (40, 20, 60, 40))
RULES = StreamRules(region=(LEFT_HALF,), ignore=(((0, 0), (0.1, 0), (0.1, 0.1)),))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[object]]:
    """The masks that are drawn and the trackers that are made."""
    made: list[weakref.ref[object]] = []

    def noted(make):
        def note(*arguments, **options):
            one = make(*arguments, **options)
            made.append(weakref.ref(one))
            return one

        return note

    monkeypatch.setattr(filter_module, "covered", noted(filter_module.covered))
    monkeypatch.setattr(stream_module, "Tracker", noted(Tracker))
    return made


def test_a_stream_that_is_over_holds_neither_masks_nor_tracks(held: list[weakref.ref[object]]) -> None:
    stream = Stream("cam", StreamStats(), Outputs([], on_error=print), track=True, rules=RULES)
    followed = stream.follow(frame(0), instances(boxes=BOXES))
    gc.collect()
    assert len(followed.instances) == 1
    assert [one() is not None for one in held] == [True] * 3
    stream.close()
    gc.collect()
    assert [one() is not None for one in held] == [False] * 3
    assert len(stream.follow(frame(1), instances(boxes=BOXES)).instances) == 1, "one that was given up"


def test_nor_does_a_run_whose_files_are_read(tmp_path: Path, held: list[weakref.ref[object]]) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=20)
    pipeline = run_here(clip, region=LEFT_HALF)
    assert pipeline.stats.frames == 20
    assert len(held) == 2
    gc.collect()
    assert not any(one() for one in held)

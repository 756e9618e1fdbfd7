"""What a user wants to hear of a stream: classes, score, region, ignored places, zones and lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamseg.errors import ConfigError, StreamsegError
from tests.support.media import write_clip
from tests.support.runs import LEFT_HALF, WATCHED, events_of, run_watched


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("media") / "clip.mp4", frames=60)


def objects(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [found for result in results for found in result["instances"]]


def called(found: dict[str, Any]) -> str:
    """What the network called it."""
    return found.get("outvoted", found)["label"]  # type: ignore[no-any-return]


def middle(found: dict[str, Any], *, width: int) -> float:
    x1, _, x2, _ = found["box"]
    return (x1 + x2) / 2 / width


def test_classes_and_score_of_a_stream(clip: Path) -> None:
    """Of classes counts what the network calls an object in the frame, not what its track is called."""
    everything = objects(run_watched(clip, rules={}))
    cars = objects(run_watched(clip, rules={"classes": ["car"], "score": 0.45}))
    wanted = [f for f in everything if called(f) == "car" and f["score"] >= 0.45]
    assert [f["box"] for f in cars] == [f["box"] for f in wanted]
    assert 0 < len(cars) < len(everything)


@pytest.mark.parametrize("polygons", [LEFT_HALF, [LEFT_HALF]])
def test_one_polygon_or_a_list_of_them(clip: Path, polygons: list[Any]) -> None:
    width = run_watched(clip, rules={})[0]["width"]
    inside = objects(run_watched(clip, rules={"region": polygons}))
    outside = objects(run_watched(clip, rules={"ignore": polygons}))
    assert all(middle(found, width=width) < 0.52 for found in inside)
    assert all(middle(found, width=width) > 0.48 for found in outside)
    assert inside
    assert outside


def test_without_zones_and_lines_a_result_has_no_such_keys(clip: Path) -> None:
    result = run_watched(clip, rules={"classes": ["car"]})[-1]
    assert not result.keys() & {"counts", "events"}
    assert not any("zones" in found for found in result["instances"])


def test_what_is_ignored_gets_no_id_and_does_not_count(clip: Path) -> None:
    whole = [[0, 0], [1, 0], [1, 1], [0, 1]]
    results = run_watched(clip, rules=WATCHED | {"ignore": whole})
    assert not objects(results)
    assert not events_of(results)
    assert results[-1]["counts"] == {"left": 0, "middle": {"in": 0, "out": 0}}


@pytest.mark.parametrize(
    ("rules", "more", "named"),
    [
        ({"classes": ["bike"]}, {}, "streams.0.classes: 'bike' is not looked for; allowed: person, car"),
        (
            {"zones": {"a": {"polygon": LEFT_HALF, "classes": ["bike"]}}},
            {},
            "streams.0.zones.a.classes: 'bike' is not looked for",
        ),
        (
            {"lines": {"a": {"points": [[0, 0], [1, 1]], "classes": ["bike"]}}},
            {},
            "streams.0.lines.a.classes: 'bike' is not looked for",
        ),
        ({"score": 0.2}, {}, "streams.0.score 0.2: below model.score 0.3"),
        (WATCHED, {"tracking": {"enabled": False}}, "zones and lines need tracking.enabled: true"),
        ({"zones": {"a": {"polygon": [[0, 0], [1, 1]]}}}, {}, "streams.0.zones.a.polygon"),
        ({"zones": {"a b": {"polygon": LEFT_HALF}}}, {}, "streams.0.zones.a b"),
        ({"lines": {"a": {"points": [[0, 0], [1, 1], [1, 0]]}}}, {}, "streams.0.lines.a.points"),
        ({"lines": {"a": {"points": [[0, 0], [-1, 1]]}}}, {}, "greater than or equal to 0"),
        ({"lines": {"a": {"points": [[0.5, 0.5], [0.5, 0.5]]}}}, {}, "two different points"),
        (
            {"zones": {"a": {"polygon": LEFT_HALF}}, "lines": {"a": {"points": [[0, 0], [1, 1]]}}},
            {},
            "zones and lines need different names",
        ),
        ({"region": []}, {"tracking": {"on": True}}, "tracking.on"),
    ],
)
def test_rules_that_cannot_be_met_are_named(
    clip: Path, rules: dict[str, Any], more: dict[str, Any], named: str
) -> None:
    with pytest.raises((ConfigError, StreamsegError)) as caught:
        run_watched(clip, rules=rules, **more)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)

"""The JSON Schema of a result says what results are."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from streamseg.cli import main
from streamseg.results.schema import frame_result_schema, schema_text, stored_schema
from tests.support.clips import frame, instances, result_of
from tests.support.program import STREET, read_results

VALIDATOR = jsonschema.Draft202012Validator(json.loads(stored_schema()))


def result() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(
        msgspec.json.encode(result_of(frame(3), instances(boxes=[(5, 6, 20, 30)])))
    )
    return value


def test_the_file_is_what_the_types_say() -> None:
    assert stored_schema() == schema_text(), (
        "python -m streamseg.results.schema > streamseg/results/schema/frame_result.json"
    )
    jsonschema.Draft202012Validator.check_schema(frame_result_schema())


def test_every_key_of_an_instance_is_described_or_plain() -> None:
    keys = frame_result_schema()["$defs"]["InstanceResult"]["properties"]
    assert "x1, y1, x2, y2" in keys["box"]["description"]
    assert keys.keys() == result()["instances"][0].keys() | {"zones", "outvoted"}  # where there are any


def test_results_of_a_run_are_valid(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    part = ["--end", "0.5", "--device", "cpu", "--no-progress"]
    assert main(["run", str(STREET), "--results", str(path), *part]) == 0
    results = read_results(path)
    assert sum(len(r["instances"]) for r in results) > 5
    for one in results:
        VALIDATOR.validate(one)


def test_streams_of_any_script_are_valid_and_a_source_may_be_missing() -> None:
    for stream in ("видео", "公園", "हिन्दी", "a.b_c-1"):
        VALIDATOR.validate(result() | {"stream": stream})
    assert "source" not in result()
    VALIDATOR.validate(result() | {"source": "/clips/a.mp4"})
    for bad in ("", "a b", "a/b", "{a}", "x" * 65):
        with pytest.raises(jsonschema.ValidationError):
            VALIDATOR.validate(result() | {"stream": bad})


def test_empty_and_untracked_results_are_valid() -> None:
    value = result()
    value["instances"][0]["id"] = None
    VALIDATOR.validate(value)
    VALIDATOR.validate(value | {"instances": []})
    VALIDATOR.validate(value | {"a_later_key": 1})


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        ("v", 2),
        ("stream", "a/b"),
        ("stream", ""),
        ("frame", -1),
        ("frame", 1.5),
        ("pts", "4.92"),
        ("width", 0),
        ("instances", None),
        ("instances.score", 1.2),
        ("instances.box", [1, 2, 3]),
        ("instances.id", "7"),
        ("instances.area", 0),
        ("instances.mask", {"size": [48, 64]}),
        ("instances.mask", {"size": [48], "counts": ""}),
    ],
)
def test_wrong_values_are_not(key: str, bad: object) -> None:
    value = deepcopy(result())
    place = value["instances"][0] if key.startswith("instances.") else value
    place[key.removeprefix("instances.")] = bad
    assert not VALIDATOR.is_valid(value)


@pytest.mark.parametrize("key", [*result(), *(f"instances.{key}" for key in result()["instances"][0])])
def test_every_key_is_needed(key: str) -> None:
    value = result()
    place = value["instances"][0] if key.startswith("instances.") else value
    del place[key.removeprefix("instances.")]
    assert not VALIDATOR.is_valid(value)

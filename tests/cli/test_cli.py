"""The other commands, run in this process."""

import json
import sys
from pathlib import Path

import pytest

from streamseg.cli import main
from tests.support.drawn import draw_data, make_config


@pytest.mark.parametrize(
    "command",
    [
        *("run", "render", "results", "subscribe", "view", "broker", "health"),
        *("train", "eval", "convert", "export", "bench", "models", "cluster"),
    ],
)
def test_help_is_complete_and_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Usage: streamseg" in text
    assert "Example: streamseg" in text


def test_no_command_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "subscribe" in capsys.readouterr().err


def test_models_lists_the_bundled_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    assert "demo: solov2" in text
    assert "person" in text


def test_eval_prints_a_table_and_writes_predictions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations = draw_data(tmp_path, images=1)
    content = json.loads(annotations.read_text())
    content["categories"] = [{"id": 7, "name": "person"}, {"id": 9, "name": "car"}]
    annotations.write_text(json.dumps(content))
    predictions = tmp_path / "predictions.json"
    files = ["--images", str(tmp_path), "--annotations", str(annotations), "--predictions", str(predictions)]
    assert main(["eval", *files, "--device", "cpu"]) == 0
    table = capsys.readouterr().out
    assert "| person | 1 | 1 |" in table
    assert "| mean |" in table
    assert {row["category_id"] for row in json.loads(predictions.read_text())} <= {7, 9}


def test_eval_names_a_file_without_known_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations = draw_data(tmp_path, images=1)
    assert main(["eval", "--images", str(tmp_path), "--annotations", str(annotations)]) == 2
    assert "holds none of the classes person" in capsys.readouterr().err


def test_eval_refuses_a_folder_that_is_not_there_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations = draw_data(tmp_path, images=1)
    files = ["--images", str(tmp_path), "--annotations", str(annotations)]
    assert main(["eval", *files, "--predictions", f"{tmp_path}/no/p.json"]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_train_leaves_weights_that_can_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_config(tmp_path, steps=2)
    assert main(["train", str(tmp_path / "train.yaml")]) == 0
    *table, weights = capsys.readouterr().out.splitlines()
    assert "| disc | 4 | 4 |" in "\n".join(table)
    assert (
        main(
            [
                "eval",
                "--weights",
                weights,
                "--images",
                str(tmp_path),
                "--annotations",
                f"{tmp_path}/annotations.json",
            ]
        )
        == 0
    )
    assert "| disc | 4 | 4 |" in capsys.readouterr().out


def test_train_without_its_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_config(tmp_path)
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    monkeypatch.delitem(sys.modules, "streamseg.training.loop", raising=False)
    monkeypatch.delattr("streamseg.training.loop", raising=False)
    assert main(["train", str(tmp_path / "train.yaml")]) == 2
    assert (
        "train needs the package lightning_fabric: pip install 'streamseg[train]'" in capsys.readouterr().err
    )

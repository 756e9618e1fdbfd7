"""The page on stored results: its examples run as they stand there."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from streamseg.cli import main, program
from streamseg.config import parse_config
from streamseg.training.config import read_train_config
from tests.support.media import write_clip
from tests.support.program import ROOT
from tests.support.runs import run_here

_TEXT = (ROOT / "docs/howto/results.md").read_text()
_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for _, kind, text in _BLOCK.findall(_TEXT) if kind == language]


@pytest.fixture
def _street(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with ``street.mp4`` and its results."""
    monkeypatch.chdir(tmp_path)
    clip = write_clip(tmp_path / "street.mp4", frames=12, width=96, height=64)
    run_here(clip, results=tmp_path / "street.ndjson")
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_street")
def test_commands_do_what_the_page_says(tmp_path: Path) -> None:
    lines = [shlex.split(line)[1:] for block in blocks("bash") for line in block.splitlines()]
    assert len(lines) >= 10
    for line in lines:
        if line[0] in {"render", "results"}:
            # The page names a place twice, as a user would who begins anew.
            for place in ("labels", "dataset"):
                if place + "/" in line and Path(place).exists():
                    Path(place).rename(tmp_path / f"earlier-{place}")
            assert main(line) == 0, line
        elif line[0] == "train":
            changes = [value for option, value in pairwise(line) if option == "--set"]
            assert read_train_config(ROOT / line[1], changes).model.classes == ("person", "car")
        else:
            command = program.commands[line[0]]
            command.make_context(line[0], line[1:])
    assert {"street.masks.mp4", "street.xml", "street.txt", "street.csv"} <= {
        p.name for p in tmp_path.iterdir()
    }


@pytest.mark.usefixtures("_street")
def test_programs_run(capsys: pytest.CaptureFixture[str]) -> None:
    for text in blocks("python"):
        exec(compile(text, "results.md", "exec"), {})
    assert "person" in capsys.readouterr().out


def test_the_configuration_is_one() -> None:
    (text,) = blocks("yaml")
    assert parse_config(yaml.safe_load(text), where="results.md").streams[0].lines


@pytest.mark.parametrize("name", ["render", "results"])
def test_every_option_is_on_the_page(name: str) -> None:
    options = {option for parameter in program.commands[name].params for option in parameter.opts}
    missing = {option for option in options if option.startswith("--") and option not in _TEXT}
    assert not missing

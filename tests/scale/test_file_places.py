"""How files get their names: once, complete, and whoever comes second changes nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from streamseg.config import RunConfig, parse_config
from streamseg.errors import OutputError
from streamseg.files import commit_once
from streamseg.runtime.build import build_sources
from streamseg.scale.file_places import BEFORE, FOLDER, NAMED, FilePlaces, staged
from streamseg.scale.file_plan import finder_of_remains, go_on_with_list, plan_files, put_away
from streamseg.scale.file_work import FileWork, file_work_of
from tests.support.runs import run_here, write_clips

RESULTS = {"type": "ndjson", "path": "{}/out/"}
VIDEO = {"type": "video", "path": "{}/out/"}


def config_of(folder: Path, *outputs: dict[str, str]) -> RunConfig:
    content: dict[str, Any] = {
        "streams": [{"url": str(folder / "in")}],
        "outputs": [o | {"path": o["path"].format(folder)} for o in outputs or (RESULTS,)],
        "model": {"weights": "0"},
    }
    return parse_config(content, where="test")


def work_of(folder: Path, *outputs: dict[str, str]) -> FileWork:
    config = config_of(folder, *outputs)
    return file_work_of(config, build_sources(config))


def places(folder: Path, engine: str, *outputs: dict[str, str]) -> FilePlaces:
    return FilePlaces(config_of(folder, *outputs), engine, several=True)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / "out" / FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_an_engine_writes_into_a_folder_of_its_own() -> None:
    templates = {
        "/out/": "/out/.streamseg/E/",
        "/out/{stream}.ndjson": "/out/.streamseg/E/{stream}.ndjson",
        "/out/{stream}/results.ndjson": "/out/.streamseg/E/{stream}/results.ndjson",
        "/out/of-{stream}/": "/out/.streamseg/E/of-{stream}/",
        "/out/one.ndjson": "/out/.streamseg/E/one.ndjson",
    }
    for template, expected in templates.items():
        config = parse_config({"outputs": [{"type": "ndjson", "path": template}]}, where="test")
        assert [getattr(output, "path", "") for output in staged(config, "E").outputs] == [expected]


def test_the_first_holds(tmp_path: Path) -> None:
    first = write(tmp_path, "E1/a.ndjson", "first\n")
    second = write(tmp_path, "E2/a.ndjson", "second\n")
    assert places(tmp_path, "E1").commit("a", results=1)
    assert not places(tmp_path, "E2").commit("a", results=1)
    assert (tmp_path / "out" / "a.ndjson").read_text() == "first\n"
    assert not first.exists()
    assert not second.exists()


def test_who_was_stopped_between_looking_and_naming_does_not_win(tmp_path: Path) -> None:
    """The file system itself refuses the second name."""
    stopped = write(tmp_path, "E1/a.ndjson", "second\n")
    (tmp_path / "out" / "a.ndjson").write_text("first\n")
    assert not commit_once(stopped, tmp_path / "out" / "a.ndjson")
    assert (tmp_path / "out" / "a.ndjson").read_text() == "first\n"


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    for number, expected in enumerate((True, False)):
        path = write(tmp_path, f"E{number}/a.ndjson", str(number))
        assert commit_once(path, tmp_path / "a.ndjson") is expected
        assert not path.exists()
    assert (tmp_path / "a.ndjson").read_text() == "0"


def test_a_video_of_an_engine_that_died_is_replaced_before_results_have_their_name(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.mp4").write_text("of the one that died")
    write(tmp_path, "E/a.mp4", "new")
    write(tmp_path, "E/a.part2.mp4", "part 2")
    write(tmp_path, "E/a.ndjson", "results\n")
    assert places(tmp_path, "E", RESULTS, VIDEO).commit("a", results=1)
    assert (tmp_path / "out" / "a.mp4").read_text() == "new"
    assert (tmp_path / "out" / "a.part2.mp4").exists()


@pytest.mark.parametrize("missing", ["a.ndjson", "a.mp4"])
def test_nothing_is_named_that_is_not_complete(tmp_path: Path, missing: str) -> None:
    for name in {"a.ndjson", "a.mp4"} - {missing}:
        write(tmp_path, f"E/{name}", "x")
    write(tmp_path, f"E/{missing}.partial", "x")
    with pytest.raises(OutputError, match=missing):
        places(tmp_path, "E", RESULTS, VIDEO).commit("a", results=1)
    assert not (tmp_path / "out" / "a.ndjson").exists()


def test_what_a_run_on_one_machine_has_left_is_gone_on_with(tmp_path: Path) -> None:
    """Finished, killed and stopped files, and one that was not begun."""
    clips = write_clips(tmp_path / "in", 4, 4, 4, 4)
    out = tmp_path / "out"
    out.mkdir()
    run_here(clips, results=out)
    (out / "c1.ndjson").rename(out / "c1.ndjson.partial")
    (out / "c2.ndjson.unfinished").touch()
    (out / "c3.ndjson").unlink()
    work = work_of(tmp_path)
    plan = plan_files(work)
    assert (list(plan.left), plan.finished) == (["c1", "c2", "c3"], 1)
    assert sorted(path.name for path in out.glob("c*")) == ["c0.ndjson"]
    left_by = finder_of_remains(work)
    assert [left_by(name) for name in plan.left] == [BEFORE, BEFORE, None]

    url = str(clips / "c1.mp4")
    mine = places(tmp_path, "E")
    assert not mine.keep("c1", BEFORE, str(clips / "c0.mp4")), "that was another source"
    assert mine.keep("c1", BEFORE, url)
    assert len((out / FOLDER / "E" / "c1.ndjson.partial").read_text().splitlines()) == 4
    assert not mine.keep("c3", "nobody", url)

    again = go_on_with_list(work)
    assert (list(again.left), again.finished) == (list(plan.left), 0)
    assert again.config_of("c2")["url"] == str(clips / "c2.mp4")
    put_away(work)
    assert not (out / FOLDER).exists()


def test_results_that_are_there_make_the_video_that_is_missing(tmp_path: Path) -> None:
    clips = write_clips(tmp_path / "in", 4, 4)
    out = tmp_path / "out"
    out.mkdir()
    run_here(clips, results=out)
    before = (out / "c0.ndjson").read_bytes()
    work = work_of(tmp_path, RESULTS, VIDEO)
    plan = plan_files(work)
    assert list(plan.left) == ["c0", "c1"]
    assert finder_of_remains(work)("c0") == NAMED
    mine = places(tmp_path, "E", RESULTS, VIDEO)
    assert mine.keep("c0", NAMED, str(clips / "c0.mp4"))
    (out / FOLDER / "E" / "c0.ndjson.partial").rename(out / FOLDER / "E" / "c0.ndjson")
    write(tmp_path, "E/c0.mp4", "video")
    assert not mine.commit("c0", results=4), "the results keep their name"
    assert (out / "c0.mp4").exists()
    assert (out / "c0.ndjson").read_bytes() == before
    assert list(plan_files(work).left) == ["c1"]

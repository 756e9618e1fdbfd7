"""The configuration file is edited while the program runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from streamseg.cli.watch import ConfigWatcher
from streamseg.config import RunConfig, parse_config, read_config
from streamseg.errors import UsageError
from streamseg.runtime.build import build_sources
from streamseg.runtime.build_outputs import build_output
from streamseg.runtime.reload import Reloader
from streamseg.types import StreamState
from tests.support.broker import wait_for
from tests.support.media import write_clip
from tests.support.program import read_results
from tests.support.runs import Run
from tests.support.servers import RtspServer, rtsp_server
from tests.support.synthetic import SyntheticModel

LIVE = StreamState.LIVE


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    write_clip(folder / "clip.mp4", frames=100, width=160, height=120, bframes=0, gop=10)
    return folder


@pytest.fixture(scope="module")
def server(media: Path) -> Iterator[RtspServer]:
    with rtsp_server(media) as running:
        yield running


class Edited:
    """A configuration file with cameras, watched for a running pipeline."""

    def __init__(self, folder: Path, server: RtspServer, run: Run, path: Path) -> None:
        self.folder, self.server, self.run, self.path = folder, server, run, path

    def stream(self, id_: str, **more: object) -> dict[str, object]:
        return {"id": id_, "url": self.server.url("clip.mp4"), **more}

    def write(self, *streams: dict[str, object], **more: object) -> None:
        content = yaml.safe_load(self.path.read_text()) | {"streams": list(streams)} | more
        self.replace(yaml.safe_dump(content))

    def replace(self, text: str) -> None:
        """In one step, as editors do."""
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.path)

    def results(self, id_: str) -> Path:
        return self.folder / f"{id_}.ndjson"


@pytest.fixture
def edited(tmp_path: Path, server: RtspServer) -> Iterator[Edited]:
    """Cameras a and b, each with a file of results, run by a file that is looked at often."""
    out, path = tmp_path / "out", tmp_path / "run.yaml"
    cameras = [{"id": name, "url": server.url("clip.mp4")} for name in "ab"]
    outputs = [{"type": "ndjson", "path": f"{out}/{{stream}}.ndjson"}]
    path.write_text(yaml.safe_dump({"streams": cameras, "outputs": outputs}))

    def load() -> RunConfig:
        return parse_config(read_config(path), where=path.name)

    config = load()
    watcher = ConfigWatcher(path, load, every=0.05)
    several = [build_output(output, several=True) for output in config.outputs]
    with Run(build_sources(config), outputs=several) as run:
        watcher.start(Reloader(config, run.pipeline))
        try:
            run.wait_for_results("a", 3)
            run.wait_for_results("b", 3)
            yield Edited(out, server, run, path)
        finally:
            watcher.stop()


def untouched(edited: Edited, *names: str) -> None:
    """These streams went on through it all."""
    for name in names:
        edited.run.wait_for_results(name, 3)
        assert edited.run.stream(name).reconnects == 0


def test_streams_come_and_go(edited: Edited, caplog: pytest.LogCaptureFixture) -> None:
    run = edited.run
    edited.write(edited.stream("a"), edited.stream("c"))
    run.wait_for_results("c", 3)
    wait_for(edited.results("b").exists, what="the finished file of the removed stream")
    assert run.stream("b").state is StreamState.ENDED
    assert [r["frame"] for r in read_results(edited.results("b"))] == [r.frame for r in run.results["b"]]
    assert not edited.results("a").exists(), "a goes on"
    untouched(edited, "a")
    assert "added c; removed b" in caplog.text


def test_a_recorded_file_may_be_added(edited: Edited, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "monday.mp4", frames=20)
    edited.write(edited.stream("a"), edited.stream("b"), {"url": str(clip)})
    wait_for(edited.results("monday").exists, what="the results of the file")
    assert [r["frame"] for r in read_results(edited.results("monday"))] == list(range(20))
    untouched(edited, "a", "b")


BAD = {
    "streams: [{url: a.mp4": "not valid YAML",
    "streams: []": "no source",
    "streams: [{id: a, url: 'rtsp://h/1'}, {id: a, url: 'rtsp://h/2'}]": "two streams have the same id",
    "streams: [{id: a, url: 'rtsp://h/1', speed: 3}]": "unknown key streams.0.speed",
    "streams: [{id: a, url: 'rtsp://me:${NOT_SET}@h/1'}]": "NOT_SET is not set",
    "streams: [{id: a, url: clip.mp4}]": "a recorded file cannot be changed",
    "streams: [{id: a, url: 'gopher://h/1'}]": "scheme 'gopher' is not supported",
}


def test_a_bad_file_changes_nothing(edited: Edited, caplog: pytest.LogCaptureFixture) -> None:
    for text, words in BAD.items():
        caplog.clear()
        edited.replace(text)
        wait_for(lambda: "nothing is changed" in caplog.text, what=f"a refusal of {text}")
        (line,) = [record.message for record in caplog.records if "nothing is changed" in record.message]
        assert words in line
    untouched(edited, "a", "b")
    assert set(edited.run.pipeline.stats.streams) == {"a", "b"}


def test_other_keys_need_a_restart(edited: Edited, caplog: pytest.LogCaptureFixture) -> None:
    edited.write(
        edited.stream("a"), edited.stream("b"), edited.stream("c"), model={"score": 0.9}, batching={}
    )
    edited.run.wait_for_results("c", 3)
    assert "only streams can change while it runs; model: needs a restart" in caplog.text
    untouched(edited, "a", "b")


def test_another_password_or_address_is_the_next_epoch(edited: Edited) -> None:
    run = edited.run
    with rtsp_server(edited.server.folder) as moved:
        edited.write(edited.stream("a"), {"id": "b", "url": moved.url("clip.mp4", user="me:new")})
        run.wait_for_results("b", 3, epoch=1)
        assert run.infos["b"][1].url == moved.url("clip.mp4", user="me:new")
    untouched(edited, "a")
    edited.write(edited.stream("a"))
    wait_for(edited.results("b").exists, what="the finished file")
    frames = [r["frame"] for r in read_results(edited.results("b"))]
    assert frames == sorted(set(frames))


def test_rules_change_without_a_new_connection(edited: Edited, caplog: pytest.LogCaptureFixture) -> None:
    run = edited.run
    edited.write(edited.stream("a", lines={"gate": {"points": [[0, 0.5], [1, 0.5]]}}), edited.stream("b"))
    run.wait(lambda: run.results["a"][-1].counts == {"gate": {"in": 0, "out": 0}}, "counts of the line")
    edited.write(edited.stream("a"), edited.stream("b"))
    run.wait(lambda: not run.results["a"][-1].counts, "results without counts")
    assert {result.epoch for result in run.results["a"]} == {0}
    assert "changed a" in caplog.text


def test_another_rate_counts_from_now_on_without_a_new_connection(
    edited: Edited, caplog: pytest.LogCaptureFixture
) -> None:
    run = edited.run
    edited.write(edited.stream("a", max_fps=2), edited.stream("b"))
    run.wait(lambda: run.stream("a").dropped["rate"] >= 25, "frames that are passed over")
    slow = [result.pts for result in run.results["a"]][-2:]
    assert slow[1] - slow[0] == pytest.approx(0.5, abs=0.05)
    edited.write(edited.stream("a"), edited.stream("b"))
    run.wait(lambda: run.results["a"][-1].frame - run.results["a"][-5].frame < 25 / 2, "more than 2 a second")
    assert {result.epoch for result in run.results["a"]} == {0}
    assert caplog.text.count("streams of the configuration: changed a") == 2
    untouched(edited, "b")


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ({"classes": ["unicorn"]}, "streams.0.classes: 'unicorn' is not looked for; allowed: person"),
        ({"score": 0.1}, "streams.0.score 0.1: below model.score 0.3"),
    ],
)
def test_rules_that_cannot_be_met_change_nothing(
    edited: Edited, caplog: pytest.LogCaptureFixture, rules: dict[str, object], named: str
) -> None:
    edited.write(edited.stream("a", **rules), edited.stream("b"))
    wait_for(lambda: named in caplog.text)
    untouched(edited, "a", "b")


def test_an_id_whose_files_are_finished_is_not_used_again(
    edited: Edited, caplog: pytest.LogCaptureFixture
) -> None:
    edited.write(edited.stream("a"))
    wait_for(edited.results("b").exists, what="the finished file")
    before = edited.results("b").read_bytes()
    edited.write(edited.stream("a"), edited.stream("b"))
    wait_for(lambda: "its files would be overwritten" in caplog.text, what="a refusal")
    untouched(edited, "a")
    assert edited.results("b").read_bytes() == before


def test_without_files_a_stream_may_come_back(server: RtspServer) -> None:
    def config(*ids: str) -> RunConfig:
        streams = [{"id": id_, "url": server.url("clip.mp4")} for id_ in ids]
        return parse_config({"streams": streams}, where="test")

    with Run(build_sources(config("a", "b"))) as run:
        reloader = Reloader(config("a", "b"), run.pipeline)
        run.wait_for_results("b", 3)
        reloader.apply(config("a"))
        reloader.apply(config("a", "b"))  # at once: it has to wait for its own end

        def is_back() -> bool:
            reloader.retry()
            return any(result.epoch == 1 for result in list(run.results["b"]))

        run.wait(is_back, "its return")
    frames = [result.frame for result in run.results["b"]]
    assert frames == sorted(set(frames)), "the numbers go on"
    run.check_counts()


def test_a_stream_that_is_edited_while_it_waits_for_its_former_self_begins_with_the_edit(
    server: RtspServer,
) -> None:
    def config(**streams: dict[str, object]) -> RunConfig:
        content = [{"id": id_, "url": server.url("clip.mp4"), **more} for id_, more in streams.items()]
        return parse_config({"streams": content}, where="test")

    # A frame is nearly always with the model, and its stream is not over before it has its result.
    with Run(build_sources(config(a={}, b={})), model=SyntheticModel(0.5)) as run:
        reloader = Reloader(config(a={}, b={}), run.pipeline)
        run.wait_for_results("b", 2)
        reloader.apply(config(a={}))
        reloader.apply(config(a={}, b={}))
        reloader.apply(config(a={}, b={"max_fps": 5}))

        def is_limited() -> bool:
            reloader.retry()
            return run.stream("b").dropped["rate"] > 0

        run.wait(is_limited, "frames that are passed over")
    assert [info.epoch for info in run.infos["b"]] == [0, 1], "it came back once"


def test_several_streams_do_not_fit_into_one_file(
    server: RtspServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "one.ndjson"

    def config(ids: Sequence[str]) -> RunConfig:
        streams = [{"id": id_, "url": server.url("clip.mp4")} for id_ in ids]
        return parse_config(
            {"streams": streams, "outputs": [{"type": "ndjson", "path": str(path)}]}, where=""
        )

    outputs = [build_output(output, several=False) for output in config("a").outputs]
    with Run(build_sources(config("a")), outputs=outputs) as run:
        with pytest.raises(UsageError, match=r"one\.ndjson: several streams would be written to it"):
            Reloader(config("a"), run.pipeline).apply(config("ab"))
        run.wait_for_results("a", 3)
    assert len(read_results(path)) == len(run.results["a"])


def test_nothing_is_overwritten_by_what_is_added(tmp_path: Path) -> None:
    clips = [write_clip(tmp_path / f"{name}.mp4", frames=10) for name in "abc"]
    (tmp_path / "b.ndjson").write_text("from an interrupted run")

    def config(*files: Path, **more: object) -> RunConfig:
        outputs = [{"type": "ndjson", "path": f"{tmp_path}/{{stream}}.ndjson"}, more]
        streams = [{"url": str(path)} for path in files]
        return parse_config({"streams": streams, "outputs": [o for o in outputs if o]}, where="")

    with Run(build_sources(config(clips[0]))) as run:
        resumed = Reloader(config(clips[0]), run.pipeline, resume=True)
        with pytest.raises(UsageError, match=r"b has results in .*b\.ndjson that would be overwritten"):
            resumed.apply(config(*clips[:2]))
        video = {"type": "video", "path": f"{tmp_path}/{{stream}}.mp4"}
        overwriting = Reloader(config(clips[0], **video), run.pipeline)
        with pytest.raises(UsageError, match=r"mp4 is a source itself"):
            overwriting.apply(config(clips[0], clips[2], **video))
        assert set(run.pipeline.stats.streams) == {"a"}

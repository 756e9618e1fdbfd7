"""Every example runs as it stands, and so do the tutorials that can."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from types import ModuleType

import av
import pytest
from PIL import Image

from streamseg.cli import main
from streamseg.redis.publish import RedisOutput
from streamseg.types import StreamEnd
from tests.support.broker import RunningBroker
from tests.support.clips import frame, info, instances, result_of
from tests.support.media import write_clip
from tests.support.pages import ROOT, whole
from tests.support.program import STREET, read_results, run_main

pytestmark = pytest.mark.timeout(300)  # some run the whole program
EXAMPLES = ROOT / "examples"


def load(name: str) -> ModuleType:
    """An example as a module, which does nothing by itself."""
    spec = importlib.util.spec_from_file_location(name.replace("/", "_"), EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from where the project looks as it does from its root, but for what is written there."""
    for name in ("samples", "configs", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 12 pictures of the demo clip."""
    with av.open(str(STREET)) as container:
        decoded = container.decode(video=0)
        pictures = [next(decoded).to_ndarray(format="rgb24") for _ in range(12)]
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", pictures=pictures, fps=10)


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tutorials leave of the clip; here of every other frame, and no video, to save time."""
    folder = tmp_path_factory.mktemp("counted")
    (folder / "samples").symlink_to(ROOT / "samples")
    outputs = "{type: ndjson, path: street.ndjson}, {type: events, path: out/zones.events.ndjson}"
    changes = ("--set", "streams.0.stride=2", "--set", f"outputs=[{outputs}]")
    with chdir(folder):
        done = run_main("run", "-c", "samples/zones.yaml", *changes, "--no-progress")
    assert done.returncode == 0, done.stderr
    return folder


def test_picture(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load("picture").main()
    written = sorted((project / "out" / "picture").iterdir())
    with Image.open(written.pop()) as masks:
        assert masks.size == (768, 576)
    lines = capsys.readouterr().out.splitlines()[:-1]
    assert len(written) == len(lines) >= 3
    assert any(line.startswith("person") for line in lines)
    with Image.open(written[0]) as cut:
        assert cut.getchannel("A").getextrema() == (0, 255)


def test_video(tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load("video").main(str(clip), str(tmp_path / "overlay.mp4"))
    with av.open(str(tmp_path / "overlay.mp4")) as overlay:
        assert sum(1 for _ in overlay.decode(video=0)) == 12
    assert "'person'" in capsys.readouterr().out


def test_own_output(project: Path, clip: Path) -> None:
    load("own_output").main(str(clip))
    with (project / "out" / "csv" / "clip.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["second", "label", "objects"]
    people = [(second, int(count)) for second, label, count in rows if label == "person"]
    assert [second for second, _ in people] == ["0", "1"]
    assert min(count for _, count in people) >= 3


def test_own_output_tells_what_it_cannot_write(project: Path, clip: Path) -> None:
    (project / "out").write_text("in the way")
    with pytest.raises(Exception, match=r"out/csv: cannot be made \(Not a directory\)"):
        load("own_output").main(str(clip))


def test_count_zones(counted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load("count_zones").main((counted / "street.ndjson").read_text().splitlines())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    assert lines[0].split() == ["0", "s", "lamp:", "{'in':", "0,", "'out':", "0}", "path:", "0"]
    assert "lamp: {'in': 2, 'out': 0}" in lines[-1]


def test_the_tutorials_on_results_and_events(
    counted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(counted)
    exec(whole("docs/tutorials/first-video.md", "python"), {})
    *counts, first = capsys.readouterr().out.splitlines()
    assert len(counts) == 60
    result = read_results(counted / "street.ndjson")[0]
    area = result["instances"][0]["area"]
    assert first == f"(576, 768) {area} {area}"
    exec(whole("docs/tutorials/count-people.md", "python"), {})
    assert capsys.readouterr().out == "Counter({('lamp', 'in'): 2})\n"


def test_the_tutorial_shows_the_sample_as_it_is() -> None:
    page = (ROOT / "docs" / "tutorials" / "count-people.md").read_text()
    sample = (ROOT / "samples" / "zones.yaml").read_text()
    assert sample[sample.index("streams:") :] in page


def test_the_tutorial_on_pictures(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(whole("docs/tutorials/pictures.md", "python"), {})
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("Instances(")
    assert sum(line.startswith(("0 ", "20 ", "40 ", "60 ", "80 ", "100 ")) for line in out) == 6
    with Image.open(project / "object.png") as cut:
        assert cut.mode == "RGBA"


def test_the_page_on_masks(capsys: pytest.CaptureFixture[str]) -> None:
    exec(whole("docs/explanation/masks.md", "python"), {})
    assert capsys.readouterr().out.split() == ["4", "[1.", "1.", "2.", "2.]"]


def test_the_notebook(project: Path) -> None:
    notebook = json.loads((EXAMPLES / "first_look.ipynb").read_text())
    assert notebook["nbformat"] == 4
    names: dict[str, object] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec("".join(cell["source"]), names)
    assert len(names["results"]) == 5  # type: ignore[arg-type]
    assert names["ids"]


def test_subscribe(broker: RunningBroker) -> None:
    output = RedisOutput(broker.url)
    writer = output.open(info("lobby"))
    command = [sys.executable, str(EXAMPLES / "subscribe.py"), broker.url, "lobby"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as program:
        try:
            assert program.stdout is not None
            line = ""
            with broker.client() as client:
                while not client.info("clients")["blocked_clients"]:  # type: ignore[index]
                    assert program.poll() is None
            for index in range(3):
                writer.write(
                    result_of(frame(index, stream="lobby"), instances(boxes=[(5, 6, 20, 30)])), None, None
                )
                line = program.stdout.readline()
            assert line.split() == ["lobby", "2", "person", *line.split()[3:4], "feet", "at", "row", "29"]
        finally:
            program.kill()
    writer.close(StreamEnd.ENDED)
    output.shutdown()


def test_training_on_an_export(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load("train/draw").main("my_data", "10")
    changes = [
        "schedule.steps=2",
        "schedule.batch=2",
        "evaluation.images=1",
        "workers=0",
        "evaluation.overlays=1",
    ]
    sets = [word for change in changes for word in ("--set", change)]
    assert main(["train", "examples/train/train.yaml", *sets]) == 0
    assert "disc" in capsys.readouterr().out
    assert {"best.safetensors", "weights.safetensors", "overlays.png", "curves.png"} <= {
        path.name for path in (project / "runs" / "shapes").iterdir()
    }

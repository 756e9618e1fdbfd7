"""The image works: its steps in a bare Debian root, then a run as its user, with its health check."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import wait_for
from tests.support.image_root import ImageRoot, Stage, mounted
from tests.support.program import ROOT, STREET, read_results
from tests.support.servers import free_port

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("mmdebstrap") is None, reason="needs root and Debian's mmdebstrap"
    ),
]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The target ``cpu``; removed afterwards, since it takes gigabytes."""
    folder = tmp_path_factory.mktemp("image")
    context = folder / "context"
    kept = [
        line[1:].strip() for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    for name in kept:
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, context / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, context / name)
    root = ImageRoot(ROOT / "deploy" / "Dockerfile", context, folder, {})
    try:
        built = root.build("cpu")
        with mounted(built.root):
            yield built
    finally:
        for path in folder.iterdir():
            shutil.rmtree(path, ignore_errors=True)


def test_its_user_segments_a_file_and_writes_where_it_may(image: Stage) -> None:
    shutil.copy(STREET, image.root / "data" / "street.mp4")
    done = image.run("streamseg", "run", "street.mp4", "--results", "a.ndjson", "-o", "a.mp4", check=False)
    assert done.returncode == 0, done.stderr
    assert len(read_results(image.root / "data" / "a.ndjson")) == 120
    assert image.run("id", "-u").stdout == "10001\n"
    assert image.run("touch", "/opt/streamseg/x", check=False).returncode == 1
    assert image.run("streamseg", "--version").stdout.startswith("streamseg, version")


def test_it_starts_as_the_image_says_and_tells_its_health(image: Stage) -> None:
    port = free_port()
    (image.root / "etc/streamseg/cameras.yaml").write_text(
        "streams: [{id: away, url: 'rtsp://127.0.0.1:9/street'}]\n"
        f"outputs: [{{type: ndjson, path: b.ndjson}}]\nmetrics: {{enabled: true, port: {port}}}\n"
    )
    assert image.run(*image.health, check=False).returncode == 1, "nothing runs yet"
    with subprocess.Popen(image.entered(*image.command), env=image.variables) as program:
        try:
            wait_for(
                lambda: image.run(*image.health, check=False).returncode == 0, seconds=120, what="health"
            )
        finally:
            program.terminate()
    assert program.returncode == 143


def test_the_context_has_what_the_image_copies_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert [line for line in lines if line.startswith("!") and not Path(ROOT, line[1:]).exists()] == []

"""``streamseg health`` against a program that runs."""

import os
import signal
from pathlib import Path

import pytest

from streamseg.cli import main
from tests.support.broker import wait_for
from tests.support.runs import started
from tests.support.servers import free_port

TOKEN = "0123456789abcdef"


def write(path: Path, **metrics: object) -> Path:
    inner = ", ".join(f"{key}: {value}" for key, value in metrics.items())
    path.write_text(f"streams: [{{id: a, url: 'rtsp://127.0.0.1:9/a'}}]\nmetrics: {{{inner}}}\n")
    return path


def ask(config: Path, *options: str) -> int:
    return main(["health", "--config", str(config), *options])


def test_a_program_that_makes_progress_is_well_and_not_ready_without_a_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path / "a.yaml", enabled="true", host="0.0.0.0", port=free_port(), token=TOKEN)
    other = write(
        tmp_path / "b.yaml", **{"enabled": "true", "port": config.read_text().split("port: ")[1][:5]}
    )
    assert ask(config) == 1
    assert "no answer from localhost:" in capsys.readouterr().err
    with started("-c", config) as program:
        wait_for(lambda: ask(config) == 0, seconds=90, what="the program is up")
        capsys.readouterr()
        assert ask(config) == 0
        assert capsys.readouterr().out == "ok\n"
        assert ask(config, "--ready") == 1
        assert "/readyz: " in capsys.readouterr().err
        assert ask(other) == 1
        assert "401 Unauthorized" in capsys.readouterr().err
        os.kill(program.pid, signal.SIGSTOP)
        wait_for(lambda: ask(config) == 1, what="its threads have stopped")
        assert "timed out" in capsys.readouterr().err


@pytest.mark.parametrize("metrics", [{"enabled": "false"}, {"enabled": "true", "port": 0}])
def test_a_program_that_cannot_be_asked(
    tmp_path: Path, metrics: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(write(tmp_path / "a.yaml", **metrics)) == 2
    assert "needs metrics.enabled: true and a metrics.port other than 0" in capsys.readouterr().err

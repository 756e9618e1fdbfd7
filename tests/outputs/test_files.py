from pathlib import Path

import pytest

from streamseg.errors import UsageError
from streamseg.outputs.files import output_path


def test_a_file_name_is_for_one_stream(tmp_path: Path) -> None:
    name = str(tmp_path / "a.mp4")
    assert output_path(name, "cam", ".mp4", several=False) == tmp_path / "a.mp4"
    with pytest.raises(UsageError, match=r"several streams need a folder .* \{stream\}"):
        output_path(name, "cam", ".mp4", several=True)


@pytest.mark.parametrize("several", [False, True])
def test_a_folder_gets_a_file_per_stream(tmp_path: Path, several: bool) -> None:
    assert output_path(str(tmp_path), "cam", ".mp4", several=several) == tmp_path / "cam.mp4"
    assert output_path(f"{tmp_path}/new/", "cam", ".mp4", several=several) == tmp_path / "new" / "cam.mp4"


def test_a_template(tmp_path: Path) -> None:
    def path(template: str) -> Path:
        return output_path(f"{tmp_path}/{template}", "cam", ".mp4", several=True)

    assert path("{stream}.mp4") == tmp_path / "cam.mp4"
    assert path("{stream}/overlay.mp4") == tmp_path / "cam" / "overlay.mp4"
    assert path("x-{stream}-y.mp4") == tmp_path / "x-cam-y.mp4"
    assert path("{stream}/") == tmp_path / "cam" / "cam.mp4"


@pytest.mark.parametrize("template", ["out/{stream}/a.mp4", "out/{stream}", "{stream}/a.mp4"])
def test_a_template_does_not_leave_its_folder(tmp_path: Path, template: str) -> None:
    with pytest.raises(UsageError, match="lead out of the folder"):
        output_path(f"{tmp_path}/{template}", "..", ".mp4", several=True)

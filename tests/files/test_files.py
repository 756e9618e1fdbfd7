from pathlib import Path

import pytest

from streamseg.errors import UsageError
from streamseg.files import check_writable, complete_file, mark_complete, partial_path


def test_a_file_gets_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with complete_file(path) as partial, partial.open("w") as file:
        file.write("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_a_file_that_is_not_complete_leaves_the_old_one(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write() -> None:
        with complete_file(path) as partial:
            partial.write_text("ne")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_not_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), complete_file(tmp_path / "a.txt"):
        pass
    with pytest.raises(FileNotFoundError):
        mark_complete(tmp_path / "b.txt.partial", tmp_path / "b.txt")


def test_check_makes_the_folder_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.mp4"
    check_writable(path)
    assert list(path.parent.iterdir()) == []


def test_check_keeps_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "c.mp4"
    path.write_text("old")
    partial_path(path).write_text("older")
    check_writable(path)
    assert path.read_text() == "old"
    assert partial_path(path).read_text() == "older"


def test_unwritable_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "x.mp4", tmp_path):
        with pytest.raises(UsageError, match=r"^cannot write .*") as error:
            check_writable(path)
        assert "\n" not in str(error.value)

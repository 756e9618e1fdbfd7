"""Reading stored results again."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from streamseg import read_results
from streamseg.errors import UsageError
from streamseg.types import FrameResult
from tests.support.stored import drawn, stored, write_results


@pytest.fixture
def results() -> list[FrameResult]:
    return stored(drawn("ring", "pieces"), drawn(), drawn("dot"))


def test_results_come_back_in_order(tmp_path: Path, results: list[FrameResult]) -> None:
    path = write_results(tmp_path / "a.ndjson", results)
    assert list(read_results(path)) == results
    assert list(read_results(str(path))) == results


def test_a_compressed_file_is_read_whatever_its_name(tmp_path: Path, results: list[FrameResult]) -> None:
    path = write_results(tmp_path / "a.ndjson", results)
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert list(read_results(path)) == results


def test_a_last_line_that_is_cut_off_is_left_out_and_told(
    tmp_path: Path, results: list[FrameResult], caplog: pytest.LogCaptureFixture
) -> None:
    path = write_results(tmp_path / "a.ndjson.partial", results)
    path.write_bytes(path.read_bytes()[:-20])
    assert list(read_results(path)) == results[:2]
    (record,) = caplog.records
    assert record.getMessage() == f"{path}: line 3, the last one, is cut off and left out"


def test_a_last_line_that_is_whole_but_for_its_end_counts(tmp_path: Path, results: list[FrameResult]) -> None:
    path = write_results(tmp_path / "a.ndjson", results)
    path.write_bytes(path.read_bytes()[:-1])
    assert list(read_results(path)) == results


def test_zeros_after_a_loss_of_power_are_a_line_that_is_cut_off(
    tmp_path: Path, results: list[FrameResult], caplog: pytest.LogCaptureFixture
) -> None:
    path = write_results(tmp_path / "a.ndjson.partial", results)
    path.write_bytes(path.read_bytes() + bytes(500))
    assert list(read_results(path)) == results
    assert "line 4, the last one, is cut off" in caplog.text


def test_a_compressed_file_that_is_cut_off_gives_what_comes_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    results = stored(*[drawn("noise", "ring")] * 2000)
    path = write_results(tmp_path / "a.ndjson", results)
    path.write_bytes(gzip.compress(path.read_bytes())[:-500])
    found = list(read_results(path))
    assert found == results[: len(found)]
    assert len(found) > 1000
    assert "is cut off or damaged" in caplog.text


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "Input data was truncated"),
        (b"[1, 2]", "Expected `object`, got `array`"),
        (b'{"v": 1, "event": "enter"}', "missing required field"),
        (b"\xff\xfe", "malformed"),
        (b"caf\xe9", "malformed"),
        (b'{"v": 1, "stream": "caf\xe9"}', "utf-8"),
    ],
)
def test_a_line_that_holds_no_result_is_named_by_its_number(
    tmp_path: Path, results: list[FrameResult], line: bytes, why: str
) -> None:
    path = write_results(tmp_path / "a.ndjson", results)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"\n", line + b"\n", *lines[1:]]))
    read = read_results(path)
    assert next(read) == results[0]
    with pytest.raises(UsageError) as caught:
        next(read)
    text = str(caught.value)
    assert text.startswith(f"{path}, line 3: no frame result (")
    assert why in text
    assert "\n" not in text


def test_another_version_is_refused(tmp_path: Path, results: list[FrameResult]) -> None:
    path = write_results(tmp_path / "a.ndjson", results)
    path.write_text(path.read_text().replace('"v":1', '"v":2'))
    with pytest.raises(UsageError, match=r"line 1: no frame result .version 2, this program reads version 1"):
        list(read_results(path))


def test_a_file_that_is_not_there_is_told_at_once(tmp_path: Path, results: list[FrameResult]) -> None:
    path = tmp_path / "a.ndjson"
    with pytest.raises(UsageError, match=r"a\.ndjson: there is no such file$"):
        read_results(path)
    write_results(tmp_path / "a.ndjson.partial", results)
    with pytest.raises(UsageError, match=r"no such file; what an interrupted run left is in .*\.partial$"):
        read_results(path)
    with pytest.raises(UsageError, match=r"cannot read .*: Is a directory"):
        read_results(tmp_path)


def test_reading_loads_neither_torch_nor_what_decodes_and_draws() -> None:
    code = (
        "import sys; from streamseg import read_results; from streamseg.client import read_results as same; "
        "assert read_results is same; "
        "print(*{'torch', 'av', 'cv2', 'supervision', 'aiohttp'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"

import io
from pathlib import Path

import msgspec
import pytest

from streamseg.errors import OutputError
from streamseg.outputs import NdjsonOutput
from streamseg.types import FrameResult, StreamEnd
from tests.support.clips import frame, info, result_of
from tests.support.descriptors import open_files


def lines(text: bytes) -> list[FrameResult]:
    assert text.endswith(b"\n")
    return [msgspec.json.decode(line, type=FrameResult) for line in text.splitlines()]


def test_one_result_a_line_under_a_partial_name_until_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text("from an earlier run")
    writer = NdjsonOutput(str(path)).open(info())
    results = [result_of(frame(i)) for i in range(5)]
    for n, result in enumerate(results, 1):
        writer.write(result, None, None)
        assert lines((tmp_path / "a.ndjson.partial").read_bytes()) == results[:n]
        assert path.read_text() == "from an earlier run"
    writer.close(StreamEnd.ENDED)
    assert lines(path.read_bytes()) == results
    assert list(tmp_path.iterdir()) == [path]


def test_a_stream_that_failed_keeps_its_partial_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = NdjsonOutput(str(tmp_path / "{stream}.ndjson"), several=True)
    full, empty = output.open(info("full")), output.open(info("empty"))
    full.write(result_of(frame(0, stream="full")), None, None)
    full.close(StreamEnd.FAILED)
    empty.close(StreamEnd.FAILED)
    assert [p.name for p in tmp_path.iterdir()] == ["full.ndjson.partial"]
    assert "full.ndjson.partial" in caplog.text


def test_a_stream_that_was_stopped_is_named_and_marked_until_a_run_ends_it(tmp_path: Path) -> None:
    output = NdjsonOutput(f"{tmp_path}/")
    for end in (StreamEnd.STOPPED, StreamEnd.ENDED):
        writer = output.open(info())
        writer.write(result_of(frame(0)), None, None)
        writer.close(end)
        assert len(lines((tmp_path / "cam.ndjson").read_bytes())) == 1
        assert (tmp_path / "cam.ndjson.unfinished").exists() is (end is StreamEnd.STOPPED)
        assert output.has_finished("cam") is (end is StreamEnd.ENDED)
    assert len(list(tmp_path.iterdir())) == 1


def test_results_that_cannot_be_marked_as_unfinished_keep_their_partial_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / (240 * "a" + ".ndjson")  # the mark's name is longer than a file system takes
    writer = NdjsonOutput(str(path)).open(info())
    writer.write(result_of(frame(0)), None, None)
    before = open_files()
    with pytest.raises(OutputError, match=r"cannot write .*\.ndjson: File name too long"):
        writer.close(StreamEnd.STOPPED)
    assert open_files() == before - 1
    (partial,) = tmp_path.iterdir()
    assert len(lines(partial.read_bytes())) == 1
    assert f"what there is of it stays in {partial}" in caplog.text


def test_no_results_is_an_empty_file(tmp_path: Path) -> None:
    NdjsonOutput(f"{tmp_path}/").open(info()).close(StreamEnd.ENDED)
    assert (tmp_path / "cam.ndjson").read_bytes() == b""


def test_a_next_epoch_goes_on_in_the_file(tmp_path: Path) -> None:
    writer = NdjsonOutput(f"{tmp_path}/").open(info(live=True))
    for epoch in (0, 1):
        if epoch:
            writer.begin_epoch(info(live=True, epoch=epoch))
        writer.write(result_of(frame(epoch, epoch=epoch)), None, None)
    writer.close(StreamEnd.ENDED)
    assert [r.epoch for r in lines((tmp_path / "cam.ndjson").read_bytes())] == [0, 1]


def test_a_run_goes_on_behind_what_an_interrupted_one_left(tmp_path: Path) -> None:
    """Half a line at the end is written anew, and what is there is not written twice."""
    results = [result_of(frame(i)) for i in range(5)]
    encoded = [msgspec.json.encode(result) + b"\n" for result in results]
    partial = tmp_path / "cam.ndjson.partial"
    partial.write_bytes(b"".join(encoded[:3]) + encoded[3][:20])
    output = NdjsonOutput(f"{tmp_path}/")
    kept = output.take_over("cam")
    assert kept is not None
    assert kept.lines == 3
    assert output.first_result("cam") == results[0]
    writer = output.open(info())
    for result in results:
        writer.write(result, None, None)
    writer.close(StreamEnd.ENDED)
    assert (tmp_path / "cam.ndjson").read_bytes() == b"".join(encoded)


@pytest.mark.parametrize("end", [StreamEnd.ENDED, StreamEnd.STOPPED])
def test_results_of_another_source_are_an_error_unless_it_was_stopped(tmp_path: Path, end: StreamEnd) -> None:
    encoded = [msgspec.json.encode(result_of(frame(i))) + b"\n" for i in range(3)]
    (tmp_path / "cam.ndjson.partial").write_bytes(b"".join(encoded))
    output = NdjsonOutput(f"{tmp_path}/")
    output.take_over("cam")
    writer = output.open(info())
    writer.write(result_of(frame(0)), None, None)
    if end is StreamEnd.ENDED:
        with pytest.raises(OutputError, match="of another source: it has 2 results more"):
            writer.close(end)
    else:
        writer.close(end)
    assert (tmp_path / "cam.ndjson").exists() is (end is StreamEnd.STOPPED)
    left = [path for path in tmp_path.iterdir() if not path.name.endswith(".unfinished")]
    assert [path.read_bytes() for path in left] == [b"".join(encoded)]


def test_standard_output() -> None:
    stdout = io.BytesIO()
    output = NdjsonOutput("-", several=True, stdout=stdout)
    writers = {stream: output.open(info(stream)) for stream in ("a", "b")}
    for stream, writer in writers.items():
        writer.write(result_of(frame(0, stream=stream)), None, None)
    assert [r.stream for r in lines(stdout.getvalue())] == ["a", "b"]
    writers["a"].close(StreamEnd.ENDED)
    output.shutdown()
    assert not stdout.closed


def test_a_full_disk_is_an_error_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson.partial").symlink_to("/dev/full")
    writer = NdjsonOutput(str(tmp_path / "a.ndjson")).open(info())
    with pytest.raises(OutputError, match=r"cannot write .*a\.ndjson: No space left"):
        writer.write(result_of(frame(0)), None, None)
    writer.close(StreamEnd.FAILED)

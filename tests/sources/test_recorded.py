from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from streamseg.sources import Source, SourcePool, Timing, resolve_sources, source_for
from streamseg.types import FramePolicy, StreamInfo
from tests.support.media import cut, write_clip
from tests.support.reading import Listener, is_running, wait_until, worker_pids
from tests.support.servers import web_server


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", frames=60)


def run(sources: list[Source], **options: object) -> Listener:
    listener = Listener()
    with SourcePool(sources, emit=listener, **options) as pool:  # type: ignore[arg-type]
        pool.start()
        listener.wait_for_end(*(source.id for source in sources))
    return listener


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Listener:
    """What is told of one clip of 60 frames: all of it, a part, and a part that holds no frame."""
    url = str(write_clip(tmp_path_factory.mktemp("parts") / "clip.mp4", frames=60))
    sources = [
        source_for(url, stream_id="clip"),
        source_for(url, stream_id="part", start=1.0, end=2.0, stride=2),
        source_for(url, stream_id="empty", start=60.0),
    ]
    return run(sources, max_workers=1)


def info_of(listener: Listener, stream: str) -> StreamInfo:
    (info,) = [info for info in listener.infos if info.stream == stream]
    return info


def test_a_clip_is_read_frame_by_frame(parts: Listener) -> None:
    seen, time_base = parts.seen["clip"], info_of(parts, "clip").time_base
    assert parts.counters("clip") == [frame.index for frame in seen] == list(range(60))
    assert [frame.ticks * time_base for frame in seen] == pytest.approx(np.arange(60) / 25)
    assert {frame.epoch for frame in seen} == {0}
    assert parts.states("clip") == ["connecting", "live", "ended"]
    assert parts.ended["clip"].error is None


def test_a_file_is_read_over_the_web(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mp4", frames=60, muxer={"movflags": "faststart"})
    cut(whole, tmp_path / "cut.mp4", keep=0.6)
    with web_server(tmp_path) as url:
        sources = resolve_sources([f"{url}/{name}.mp4" for name in ("whole", "cut", "missing")])
        listener = run(sources, max_workers=1)
    assert listener.counters("127.0.0.1-whole.mp4") == list(range(60))
    assert listener.ended["127.0.0.1-whole.mp4"].error is None
    assert "cut off" in listener.error("127.0.0.1-cut.mp4")
    assert listener.error("127.0.0.1-missing.mp4").endswith("/missing.mp4: Server returned 404 Not Found")


def test_what_is_told_of_a_clip(parts: Listener) -> None:
    info = info_of(parts, "part")
    assert (info.width, info.height, info.fps, info.policy) == (320, 240, 25.0, FramePolicy.EVERY_FRAME)
    assert (info.start, info.end, info.frame_count) == (1.0, 2.0, 13)
    assert Path(info.url).name == "clip.mp4"


def test_several_clips_at_once_do_not_mix(tmp_path: Path) -> None:
    for number in range(4):
        width = 320 + 2 * number
        write_clip(tmp_path / f"{number}.mp4", frames=20 + number, first_number=1000 * number, width=width)
    listener = run(resolve_sources([str(tmp_path)]))
    for number in range(4):
        assert listener.counters(str(number)) == [1000 * number + index for index in range(20 + number)]
        assert {seen.shape[1] for seen in listener.seen[str(number)]} == {320 + 2 * number}


def test_reading_waits_for_whoever_holds_the_frames(clip: Path) -> None:
    listener = Listener(keep_frames=True)
    with SourcePool(resolve_sources([str(clip)]), emit=listener, slots=4):
        listener.wait(lambda: len(listener.frames) == 4)
        assert not listener.changed_within(0.3)
        while len(listener.seen["clip"]) < 60:
            before = len(listener.seen["clip"])
            del listener.frames[0]
            listener.wait(lambda before=before: len(listener.seen["clip"]) > before)
        listener.wait_for_end("clip")
    assert listener.counters("clip") == list(range(60))


def test_frames_stay_as_they_were_while_they_are_held(clip: Path) -> None:
    listener = Listener(keep_frames=True)
    with SourcePool(resolve_sources([str(clip)]), emit=listener, slots=4):
        listener.wait(lambda: len(listener.frames) == 4)
        frames = listener.frames
        copies = [frame.pixels.copy() for frame in frames]
    assert all((frame.pixels == copy).all() for frame, copy in zip(frames, copies, strict=True))
    assert not frames[0].pixels.flags.writeable


def test_a_slice_holds_its_frame(clip: Path) -> None:
    listener = Listener(keep_frames=True)
    with SourcePool(resolve_sources([str(clip)]), emit=listener, slots=3):
        listener.wait(lambda: len(listener.frames) == 3)
        corner = listener.frames[0].pixels[:60, :60]
        before = corner.copy()
        listener.frames.clear()
        listener.keep_frames = False
        listener.wait_for_end("clip")
        assert (corner == before).all()


def test_hundreds_of_clips_need_no_more_than_a_few(tmp_path: Path) -> None:
    seed = write_clip(tmp_path / "seed.mp4", frames=3, width=64, height=48)
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(300):
        os.link(seed, folder / f"{number:03}.mp4")
    sources = resolve_sources([str(folder)])
    listener = Listener()
    pids: set[int] = set()
    marks: list[tuple[int, int]] = []
    with SourcePool(sources, emit=listener, max_workers=2):
        for goal in (50, 150, 290):
            listener.wait(lambda goal=goal: len(listener.ended) >= goal)
            pids.update(worker_pids(os.getpid()))
            marks.append((len(os.listdir("/proc/self/fd")), _memory_of(worker_pids(os.getpid()))))
        listener.wait_for_end(*(source.id for source in sources))
    assert len(pids) == 2
    assert all(listener.counters(source.id) == [0, 1, 2] for source in sources)
    assert all(end.error is None for end in listener.ended.values())
    assert marks[-1][0] <= marks[0][0] + 8
    assert marks[-1][1] <= marks[0][1] * 1.2 + 8e6


def _memory_of(pids: list[int]) -> int:
    """Resident bytes of the largest of these processes."""
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
    return max(pages, default=0) * os.sysconf("SC_PAGE_SIZE")


def test_frames_kept_from_many_clips_hold_the_next_ones_up(tmp_path: Path) -> None:
    seed = write_clip(tmp_path / "seed.mp4", frames=2, width=64, height=48)
    paths = [tmp_path / f"{number:02}.mp4" for number in range(20)]
    for path in paths:
        os.link(seed, path)
    listener = Listener(keep_frames=True)
    with SourcePool(resolve_sources([str(path) for path in paths]), emit=listener, slots=4, max_workers=1):
        listener.wait(lambda: len(listener.frames) == 4 and len(listener.ended) == 2)
        assert not listener.changed_within(0.3)
        listener.keep_frames = False
        listener.frames.clear()
        listener.wait_for_end(*(path.stem for path in paths))


def test_one_bad_file_does_not_stop_the_others(tmp_path: Path, clip: Path) -> None:
    whole = write_clip(tmp_path / "whole.mp4", frames=60, muxer={"movflags": "faststart"})
    bad = cut(whole, tmp_path / "bad.mp4", keep=0.9)
    (tmp_path / "text.mp4").write_text("no video")
    sources = resolve_sources(
        [str(tmp_path / name) for name in ("text.mp4", "missing.mp4", "bad.mp4", "clip.mp4")]
    )
    listener = run(sources, max_workers=1)
    assert listener.error("text").startswith(f"{tmp_path}/text.mp4: not a readable video")
    assert listener.error("missing") == f"{tmp_path}/missing.mp4: No such file or directory"
    assert listener.error("bad").startswith(f"{bad}: the file is cut off")
    assert len(listener.counters("bad")) > 10
    assert listener.ended["clip"].error is None
    assert len(listener.counters("clip")) == 60


def test_an_empty_part_is_a_stream_without_frames(parts: Listener) -> None:
    assert parts.counters("empty") == []
    assert info_of(parts, "empty").epoch == 0
    assert parts.states("empty") == ["connecting", "live", "ended"]
    assert parts.ended["empty"].error is None


def test_a_crashed_worker_costs_only_its_file(tmp_path: Path, clip: Path) -> None:
    again = tmp_path / "again.mp4"
    os.link(clip, again)
    sources = resolve_sources([str(clip), str(again), str(write_clip(tmp_path / "next.mp4", frames=10))])
    listener = Listener(keep_frames=True)
    with SourcePool(sources, emit=listener, slots=4, max_workers=1):
        for path, number in ((clip, signal.SIGSEGV), (again, signal.SIGKILL)):
            listener.wait(lambda path=path: len(listener.seen.get(path.stem, [])) == 4)
            (pid,) = worker_pids(os.getpid())
            os.kill(pid, number)
            listener.wait_for_end(path.stem)
            if path == again:
                listener.keep_frames = False
            listener.frames.clear()
        listener.wait_for_end("next")
    assert listener.error("clip") == f"{clip}: the decode worker was killed by SIGSEGV"
    assert listener.error("again") == f"{again}: the decode worker was killed by SIGKILL"
    assert listener.counters("next") == list(range(10))


def test_a_worker_stuck_on_a_file_is_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "stuck.mp4"
    os.mkfifo(pipe)  # opening it waits for a writer that never comes
    sources = resolve_sources([str(pipe), str(write_clip(tmp_path / "next.mp4", frames=10))])
    listener = run(sources, max_workers=1, timing=Timing(recorded_silence=3.0))
    assert "its decode worker gave" in listener.error("stuck")
    assert len(listener.counters("next")) == 10


@pytest.mark.parametrize("holding", [True, False])
def test_stopping_is_prompt_and_ends_every_stream_once(tmp_path: Path, clip: Path, holding: bool) -> None:
    sources = resolve_sources([str(clip)] + [f"{tmp_path}/later{number}.mp4" for number in range(3)])
    listener = Listener(keep_frames=holding)
    with SourcePool(sources, emit=listener, slots=4, max_workers=1) as pool:
        listener.wait(lambda: len(listener.seen.get("clip", [])) >= 4)
        pids = worker_pids(os.getpid())
        pool.stop()
        count = len(listener.seen["clip"])
        assert not any(is_running(pid) for pid in pids)
    assert len(listener.seen["clip"]) == count
    if holding:
        assert sorted(listener.ended) == sorted(source.id for source in sources)
        assert all(end.error is None for end in listener.ended.values())
    assert len([event for event in listener.changes if event.over]) == 4


def test_closing_twice_and_without_a_start_is_fine(clip: Path) -> None:
    pool = SourcePool(resolve_sources([str(clip)]), emit=Listener())
    pool.close()
    pool.close()


def test_ids_must_be_unique(clip: Path) -> None:
    source = Source(id="a", url=str(clip), live=False)
    with pytest.raises(ValueError, match="unique; more than one source is called a"):
        SourcePool([source, source], emit=Listener())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_broken_listener_ends_the_reading(clip: Path) -> None:
    def broken(event: object) -> None:
        raise RuntimeError("broken listener")

    pool = SourcePool(resolve_sources([str(clip)]), emit=broken)
    pool.start()
    wait_until(lambda: not worker_pids(os.getpid()) and not pool.running)


def test_a_script_without_a_main_guard_works(tmp_path: Path, clip: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import threading\n"
        "from streamseg.sources import SourcePool, resolve_sources\n"
        "from streamseg.types import StreamChanged\n"
        "ended = threading.Event()\n"
        "def emit(event):\n"
        "    if isinstance(event, StreamChanged) and event.over:\n"
        "        print(event.error)\n"
        "        ended.set()\n"
        f"with SourcePool(resolve_sources([{str(clip)!r}]), emit=emit) as pool:\n"
        "    pool.start()\n"
        "    ended.wait(60)\n"
    )
    # Another folder than the repository: workers must find the package the way their parent did.
    search = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=search,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "None\n", "")

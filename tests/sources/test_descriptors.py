"""A process that may open no more files: the kernel throws away the descriptor that comes with a ring."""

from __future__ import annotations

from pathlib import Path

from tests.support.descriptors import said_by
from tests.support.media import write_clip, write_two_sizes
from tests.support.servers import rtsp_server

NONE_LEFT = "no file descriptor is left for its pictures"
PRELUDE = """
import os, signal, sys
from streamseg.sources import Backoff, Source, SourcePool, resolve_sources
from tests.support.descriptors import at_the_limit, open_files
from tests.support.reading import Listener, wait_until, worker_pids

def let_go(listener):
    with listener.changed:
        listener.keep_frames = False
        listener.frames.clear()

listener = Listener(keep_frames=True)
(recording,) = resolve_sources([sys.argv[1]])
"""
TWO_STREAMS = """
camera = Source(id="cam", url=sys.argv[2], live=True)
with SourcePool([recording], emit=listener, slots=4, backoff=Backoff(first=0.05, longest=0.2)) as pool:
    listener.wait(lambda: len(listener.frames) == 4)
    workers, before = worker_pids(os.getpid()), open_files()
    pool.add(camera)
    wait_until(lambda: len(worker_pids(os.getpid())) == 2)
    (started,) = {*worker_pids(os.getpid())} - {*workers}
    os.kill(started, signal.SIGSTOP)
    wait_until(lambda: open_files() == before + 1)  # its socket; what starting it took is closed
    with at_the_limit():
        os.kill(started, signal.SIGCONT)
        listener.wait(lambda: listener.last("cam").error is not None or listener.ended)
        print(listener.last("cam").error)
        let_go(listener)
        listener.wait_for_end("clip")
    print(len(listener.seen["clip"]), listener.ended["clip"].error)
    listener.wait(lambda: listener.seen.get("cam"))
"""
OTHER_SIZE = """
with SourcePool([recording], emit=listener, slots=3):
    listener.wait(lambda: len(listener.frames) == 3)
    with at_the_limit():
        let_go(listener)
        listener.wait_for_end("both")
print({seen.shape for seen in listener.seen["both"]}, listener.ended["both"].error)
"""


def test_a_camera_without_its_ring_is_tried_again_and_other_streams_go_on(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=60, bframes=0, gop=10)
    with rtsp_server(tmp_path) as server:
        error, recording = said_by(PRELUDE + TWO_STREAMS, clip, server.url("clip.mp4")).splitlines()
    assert error.endswith(NONE_LEFT)
    assert recording == "60 None"


def test_a_recording_whose_next_ring_does_not_come_fails_before_a_wrong_picture(tmp_path: Path) -> None:
    both = write_two_sizes(tmp_path)
    assert said_by(PRELUDE + OTHER_SIZE, both) == f"{{(120, 160, 3)}} {both}: {NONE_LEFT}\n"

import gc
import os
import threading

import numpy as np
import pytest

from streamseg.sources.ring import ReturnedSlots, RingReader, RingWriter, slot_count
from tests.support.reading import wait_until


@pytest.fixture
def writer() -> RingWriter:
    return RingWriter(241, 321, 3)


@pytest.mark.parametrize(
    ("wanted", "frame_bytes", "max_bytes", "slots"),
    [(8, 100, 1 << 20, 8), (8, 1 << 20, 5 << 20, 5), (8, 1 << 20, 1 << 20, 3), (1, 100, 1 << 20, 3)],
)
def test_big_frames_get_fewer_slots(wanted: int, frame_bytes: int, max_bytes: int, slots: int) -> None:
    assert slot_count(wanted, frame_bytes, max_bytes) == slots


def test_pixels_cross_without_a_copy(writer: RingWriter) -> None:
    reader = RingReader(os.dup(writer.fd), 241, 321)
    pixels = reader.lend(2, lambda: None)
    writer.picture(2)[240, 320] = (1, 2, 3)
    assert pixels.shape == (241, 321, 3)
    assert pixels[240, 320].tolist() == [1, 2, 3]


def test_pixels_are_read_only(writer: RingWriter) -> None:
    pixels = RingReader(os.dup(writer.fd), 241, 321).lend(0, lambda: None)
    assert type(pixels) is np.ndarray
    with pytest.raises(ValueError, match="read-only"):
        pixels[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        pixels.setflags(write=True)


@pytest.mark.parametrize(
    "view",
    [
        lambda pixels: pixels[1:3],
        lambda pixels: pixels[5:][:, 2][::2],
        lambda pixels: pixels.reshape(-1)[:7],
        lambda pixels: pixels.transpose(2, 0, 1).view(np.int8),
        lambda pixels: memoryview(pixels)[3:5],
        lambda pixels: np.asarray(pixels)[np.newaxis],
    ],
)
def test_a_slot_is_lent_until_its_last_view_is_gone(writer: RingWriter, view) -> None:
    returned: list[int] = []
    reader = RingReader(os.dup(writer.fd), 241, 321)
    pixels = reader.lend(1, lambda: returned.append(1))
    part = view(pixels)
    del pixels, reader
    gc.collect()
    assert returned == []
    del part
    assert returned == [1]


def test_a_copy_does_not_hold_the_slot(writer: RingWriter) -> None:
    returned: list[int] = []
    pixels = RingReader(os.dup(writer.fd), 241, 321).lend(1, lambda: returned.append(1))
    copy = pixels.copy()
    del pixels
    assert returned == [1]
    assert copy.shape == (241, 321, 3)


def test_pixels_outlive_both_ends(writer: RingWriter) -> None:
    reader = RingReader(os.dup(writer.fd), 241, 321)
    writer.picture(0)[:] = 7
    pixels = reader.lend(0, lambda: None)
    del reader
    writer.close()
    assert pixels.min() == pixels.max() == 7


def test_a_ring_cannot_shrink_under_its_reader(writer: RingWriter) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(writer.fd, 1)


def test_a_slot_is_given_out_once(writer: RingWriter) -> None:
    slots = [writer.acquire(wait=False) for _ in range(4)]
    assert slots == [0, 1, 2, None]
    writer.release([1])
    assert writer.acquire(wait=True) == 1


def test_waiting_ends_with_a_release_or_a_stop(writer: RingWriter) -> None:
    while writer.acquire(wait=False) is not None:
        pass
    got: list[int | None] = []
    waiting = threading.Thread(target=lambda: [got.append(writer.acquire(wait=True)) for _ in range(2)])
    waiting.start()
    writer.release([2])
    wait_until(lambda: got == [2])
    writer.stop()
    waiting.join(10)
    assert not waiting.is_alive()
    assert got == [2, None]


def test_slots_are_given_back_by_a_garbage_collection_in_any_thread(writer: RingWriter) -> None:
    slots: ReturnedSlots[int] = ReturnedSlots()
    reader = RingReader(os.dup(writer.fd), 241, 321)
    cycle: list[object] = [reader.lend(0, lambda: slots.put(0))]
    cycle.append(cycle)
    del cycle
    collector = threading.Thread(target=gc.collect)
    collector.start()
    collector.join()
    assert list(slots.take()) == [0]
    assert list(slots.take()) == []

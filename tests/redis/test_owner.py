"""Engines that have a camera in turn: only the newest owner publishes, and its epochs are the highest."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import redis
import yaml

from streamseg.client import subscribe
from streamseg.errors import NotOwnerError
from streamseg.redis.owner import claim_epoch
from streamseg.redis.publish import RedisOutput
from streamseg.types import FrameResult, StreamEnd, StreamInfo, StreamWriter
from streamseg.types.zones import ZoneEvent
from tests.support.broker import RunningBroker, wait_for
from tests.support.clips import frame, info, instances, result_of
from tests.support.media import write_clip
from tests.support.runs import published, started
from tests.support.servers import rtsp_server

STATUS = "streamseg:{cam}:status"


class Engine:
    """One that publishes the camera, from some epoch on."""

    def __init__(
        self,
        broker: RunningBroker,
        first_epoch: int | None,
        *,
        overlays: bool = False,
        url: str | None = None,
    ) -> None:
        self.output = RedisOutput(url or broker.url, overlays=overlays)
        self.info: StreamInfo = info(live=True, epoch=first_epoch or 0, first_epoch=first_epoch)
        self.writer: StreamWriter = self.output.open(self.info)

    def reconnect(self) -> None:
        self.info = replace(self.info, epoch=self.info.epoch + 1)
        self.writer.begin_epoch(self.info)

    def publish(self, index: int, *, events: list[ZoneEvent] | None = None) -> None:
        shown, found = frame(index, epoch=self.info.epoch), instances(boxes=[(5, 5, 20, 20)])
        result = result_of(shown, found)
        if events is not None:
            result = msgspec.structs.replace(result, events=events)
        self.writer.write(result, shown, found)

    def close(self) -> None:
        self.writer.close(StreamEnd.ENDED)
        self.output.shutdown()


def claim(broker: RunningBroker, *, at_least: int = 0) -> int:
    with broker.client() as client:
        return claim_epoch(client, "cam", at_least=at_least)


def numbers(results: list[FrameResult]) -> list[tuple[int, int]]:
    return [(result.epoch, result.frame) for result in results]


def lengths(broker: RunningBroker) -> list[int]:
    with broker.client() as client:
        return [client.xlen(f"streamseg:{{cam}}:{kind}") for kind in ("results", "overlays", "events")]


def test_every_owner_begins_above_all_that_was_claimed_or_published(any_broker: RunningBroker) -> None:
    assert [claim(any_broker), claim(any_broker)] == [0, 1]
    engine = Engine(any_broker, 1)
    for _ in range(3):
        engine.reconnect()
    engine.publish(0)
    assert claim(any_broker) == 5, "the former owner had it open in epoch 4"
    assert claim(any_broker, at_least=40) == 40
    assert claim(any_broker, at_least=7) == 41
    engine.close()


def test_a_stream_that_had_no_owner_goes_on_above_its_epochs(any_broker: RunningBroker) -> None:
    single = Engine(any_broker, None)
    single.reconnect()
    single.publish(0)
    assert claim(any_broker) == 2
    single.close()


def test_what_a_former_owner_sends_is_refused_whole(any_broker: RunningBroker) -> None:
    former = Engine(any_broker, claim(any_broker), overlays=True)
    event = ZoneEvent(
        stream="cam", epoch=0, frame=0, pts=0.0, time=0.0, event="enter", id=1, label="person",
        box=(0.0, 0.0, 1.0, 1.0), counts={}, zone="queue",
    )  # fmt: skip
    former.publish(0, events=[event])
    newer = Engine(any_broker, claim(any_broker), overlays=True)
    before = lengths(any_broker)
    assert before == [1, 1, 1]
    with pytest.raises(NotOwnerError, match=r"^stream cam is owned by another engine: epochs from 1 on"):
        former.publish(1, events=[event])
    former.reconnect()  # its next epoch is 1, as the new owner's first
    with pytest.raises(NotOwnerError):
        former.publish(2)
    assert lengths(any_broker) == before
    newer.publish(0)
    assert numbers(published(any_broker, "cam")) == [(0, 0), (1, 0)]
    former.close()
    newer.close()


def test_the_status_is_the_newest_owners(any_broker: RunningBroker) -> None:
    former = Engine(any_broker, claim(any_broker))
    with any_broker.client() as client:
        wait_for(lambda: client.hget(STATUS, "first_epoch") == b"0")
        newer = Engine(any_broker, claim(any_broker))
        wait_for(lambda: client.hget(STATUS, "first_epoch") == b"1")
        with pytest.raises(NotOwnerError):
            former.publish(0)
        former.writer.close(StreamEnd.FAILED)
        former.output.report("cam", state="failed")
        former.output.shutdown()  # publishes its last word
        assert client.hmget(STATUS, "state", "first_epoch", "reconnects") == [b"live", b"1", b"0"]
        assert client.ttl(STATUS) <= 15
    newer.close()


def test_an_owner_publishes_in_one_round_trip(any_broker: RunningBroker) -> None:
    engine = Engine(any_broker, claim(any_broker), overlays=True)
    engine.publish(0)
    with any_broker.client() as client:
        wait_for(lambda: client.exists(STATUS))  # whoever tells of it is connected
        client.config_resetstat()
        for index in range(1, 21):
            engine.publish(index)
        calls = client.info("commandstats")
    assert calls["cmdstat_evalsha"]["calls"] == 20
    asked = {
        name for name in calls if name not in ("cmdstat_config|resetstat", "cmdstat_config", "cmdstat_info")
    }
    about_status = {"cmdstat_eval", "cmdstat_hset", "cmdstat_expire", "cmdstat_sadd"}
    about_groups = {"cmdstat_xinfo|groups", "cmdstat_xinfo", "cmdstat_xlen"}  # every few seconds
    assert asked - about_status - about_groups == {"cmdstat_evalsha", "cmdstat_hmget", "cmdstat_xadd"}
    engine.close()


def test_a_new_owner_whose_clock_is_behind_comes_after_the_former(
    any_broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = Engine(any_broker, claim(any_broker))
    for index in range(3):
        former.publish(index)
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() - 3600 * 10**9)
    newer = Engine(any_broker, claim(any_broker))
    for index in range(3):
        newer.publish(index)
    assert numbers(published(any_broker, "cam")) == [*((0, k) for k in range(3)), *((1, k) for k in range(3))]
    former.close()
    newer.close()


def test_a_broker_without_its_data_learns_anew_who_is_the_newest(any_broker: RunningBroker) -> None:
    former, first_of_newer = Engine(any_broker, claim(any_broker)), claim(any_broker)
    with any_broker.client() as client:
        client.flushall()
        client.script_flush()
    former.publish(0)
    newer = Engine(any_broker, first_of_newer)
    newer.publish(0)
    with pytest.raises(NotOwnerError):
        former.publish(1)
    assert numbers(published(any_broker, "cam")) == [(0, 0), (1, 0)]
    former.close()
    newer.close()


def test_a_former_owner_does_not_restore_what_the_broker_has_lost(
    broker: RunningBroker, caplog: pytest.LogCaptureFixture
) -> None:
    former = Engine(broker, claim(broker))
    former.publish(0)
    newer = Engine(broker, claim(broker))
    newer.publish(0)
    with broker.client() as client:
        client.delete("streamseg:{cam}:results")  # it forgets the results, not their owner
    caplog.set_level(logging.WARNING)
    for engine in (former, newer):
        engine.output._client._client.connection_pool.disconnect()
        if engine is former:
            with pytest.raises(NotOwnerError):
                engine.publish(1)
        else:
            engine.publish(1)
    assert numbers(published(broker, "cam")) == [(1, 0), (1, 1)]
    assert "had lost 1 results" in caplog.text
    former.close()
    newer.close()


def test_results_of_two_owners_never_come_interleaved(any_broker: RunningBroker) -> None:
    """Both publish as fast as they can while the camera changes hands over and over."""
    stop, refused = threading.Event(), []

    def have_in_turn() -> None:
        while not stop.is_set():
            engine = Engine(any_broker, claim(any_broker))
            try:
                for index in itertools.count():
                    engine.publish(index)
                    if stop.is_set():
                        break
            except NotOwnerError as error:
                refused.append(error)
            engine.close()

    engines = [threading.Thread(target=have_in_turn) for _ in range(2)]
    for engine in engines:
        engine.start()
    wait_for(lambda: len(refused) > 5)
    stop.set()
    for engine in engines:
        engine.join()
    seen = numbers(published(any_broker, "cam"))
    assert seen == sorted(set(seen))


def test_the_rights_that_an_owner_needs(any_broker: RunningBroker) -> None:
    publishing = ["xadd", "xrange", "xrevrange", "xinfo", "sadd", "hset", "expire", "ping"]
    owning = ["eval", "evalsha", "hmget"]
    with any_broker.client() as admin:
        for name, commands in (("publisher", publishing), ("owner", publishing + owning)):
            rights = {"keys": ["streamseg:*"], "commands": [f"+{command}" for command in commands]}
            admin.acl_setuser(name, enabled=True, passwords=["+pw"], **rights)
    url = any_broker.url.replace("//", "//{}:pw@")
    with (
        redis.Redis.from_url(url.format("publisher")) as client,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        claim_epoch(client, "cam")
    with redis.Redis.from_url(url.format("owner")) as client:
        assert claim_epoch(client, "cam") == 0
    engine = Engine(any_broker, 0, url=url.format("owner"))
    engine.publish(0)
    engine.close()
    with any_broker.client() as admin:
        wait_for(lambda: admin.hget(STATUS, "state") == b"ended")
    assert numbers(published(any_broker, "cam")) == [(0, 0)]


def test_a_program_that_is_refused_stops_that_stream_and_no_other(
    broker: RunningBroker, tmp_path: Path
) -> None:
    write_clip(tmp_path / "clip.mp4", frames=100, width=96, height=64, bframes=0, gop=10)
    with rtsp_server(tmp_path) as server, subscribe(broker.url, ["cam"], timeout=20) as seen:
        streams = [{"id": id_, "url": server.url("clip.mp4")} for id_ in ("cam", "other")]
        streams[0]["first_epoch"] = claim(broker)  # type: ignore[assignment]
        content = {"streams": streams, "outputs": [{"type": "redis", "url": broker.url}]}
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
        with started("-c", tmp_path / "run.yaml") as program:
            assert next(seen).epoch == 0
            wait_for(lambda: published(broker, "other"))
            owner = claim(broker)
            time_of_claim = len(published(broker, "cam"))
            newer = Engine(broker, owner)
            newer.publish(0)
            assert program.stderr is not None
            line = next(line for line in program.stderr if "is owned by another engine" in line)
            assert "stream cam is owned by another engine" in line
            count = len(published(broker, "other"))
            wait_for(lambda: len(published(broker, "other")) > count + 5)
            program.terminate()
            rest = program.stderr.read()
        assert program.returncode == 143, rest
        assert rest.count("is owned by another engine") == 1, "once in the summary"
        with broker.client() as client:
            assert client.hget(STATUS, "state") == b"live"
        newer.close()
    epochs = [result.epoch for result in published(broker, "cam")]
    assert epochs == [0] * time_of_claim + [owner]

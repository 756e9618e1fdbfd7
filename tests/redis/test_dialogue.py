"""What a subscriber asks, without a broker: its loop is the same for plain and asynchronous subscriptions."""

from typing import Any

import msgspec
import pytest
import redis

from streamseg.errors import RunError, UsageError
from streamseg.redis.dialogue import Command, Dialogue, Steps, Wait
from streamseg.redis.groups import GroupReader
from streamseg.redis.keys import results_key
from streamseg.redis.reader import PlainReader
from tests.support.clips import frame, result_of

GONE = redis.ConnectionError("Connection refused")


def plain(**options: Any) -> Dialogue:
    return Dialogue(PlainReader(["cam"], "start"), **{"timeout": None} | options)


def grouped() -> Dialogue:
    return Dialogue(GroupReader(["cam"], "start", group="g", consumer="me"), timeout=None)


def entry(index: int) -> list[Any]:
    payload = msgspec.json.encode(result_of(frame(index)))
    return [[results_key("cam").encode(), [(f"{index + 1}-0".encode(), {b"result": payload})]]]


def answer(steps: Steps[Any], entries: list[Any]) -> None:
    """To XINFO: there is no such stream yet; to XREAD: these entries, which are all there are."""
    step = steps.throw(redis.ResponseError("no such key"))
    assert words(step)[0] == "XREAD"
    assert words(steps.send(entries))[0] == "XLEN"
    steps.send(2)


def waits(steps: Steps[Any], *, attempts: int) -> list[float]:
    """Let each attempt fail; returns the seconds waited before each further one."""
    waited, step = [], next(steps)
    while len(waited) < attempts:
        step = steps.throw(GONE)
        assert isinstance(step, Wait)
        waited.append(step.seconds)
        step = steps.send(None)
    return waited


def test_waits_grow_while_the_broker_is_away_and_begin_anew_afterwards() -> None:
    dialogue = plain()
    steps = dialogue.next_item()
    assert waits(steps, attempts=7) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0])
    with pytest.raises(StopIteration) as end:
        answer(steps, entry(0))
    assert end.value.value.frame == 0
    assert waits(dialogue.next_item(), attempts=1) == pytest.approx([0.1])


def test_no_wait_is_longer_than_the_time_limit() -> None:
    steps = plain(timeout=0.05).next_item()
    next(steps)
    step = steps.throw(GONE)
    assert isinstance(step, Wait)
    assert step.seconds <= 0.05


@pytest.mark.parametrize(
    "error",
    [
        redis.TimeoutError("Timeout reading from socket"),
        redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        redis.exceptions.ReadOnlyError("You can't write against a read only replica."),
        redis.ResponseError("MISCONF Errors writing to the AOF file"),
        redis.ResponseError("BUSY Redis is busy running a script."),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("make", [plain, grouped])
def test_what_passes_is_waited_for(make: Any, error: redis.RedisError) -> None:
    steps = make().next_item()
    next(steps)
    assert isinstance(steps.throw(error), Wait)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (redis.AuthenticationError("invalid username-password pair"), UsageError),
        (redis.ResponseError("DB index is out of range"), UsageError),
        (redis.exceptions.NoPermissionError("No permissions to access a key"), RunError),
        (redis.ResponseError("WRONGTYPE Operation against a key"), RunError),
    ],
)
def test_what_does_not_pass_ends_it(error: redis.RedisError, kind: type[Exception]) -> None:
    steps = plain().next_item()
    next(steps)
    assert words(steps.throw(redis.ResponseError("no such key")))[0] == "XREAD"
    with pytest.raises(kind, match=str(error)):
        steps.throw(error)


def words(step: Command | Wait) -> list[str]:
    assert not isinstance(step, Wait)
    return [str(word) for word in step]


def go_to(steps: Steps[Any], command: str, after: str) -> None:
    """Answer nothing to all questions until XREADGROUP or XAUTOCLAIM comes."""
    step = next(steps)
    while words(step)[0] != command or after not in words(step):
        answers = {"XAUTOCLAIM": [b"0-0", []], "XINFO": [[b"name", b"g", b"lag", 0]], "XLEN": 1}
        step = steps.send(answers.get(words(step)[0]))


@pytest.mark.parametrize(("command", "after"), [("XREADGROUP", ">"), ("XAUTOCLAIM", "0")])
@pytest.mark.parametrize("how", ["cancelled", "cut"])
def test_entries_in_a_lost_answer_are_asked_for_again(command: str, after: str, how: str) -> None:
    """The broker has given them to us: nobody else would get them before we count as dead."""
    dialogue = grouped()
    steps = dialogue.next_item()
    go_to(steps, command, after)
    if how == "cancelled":
        steps.close()
        again = next(dialogue.next_item())
    else:
        assert isinstance(steps.throw(GONE), Wait)
        again = steps.send(None)
    assert words(again)[0] == "XREADGROUP"
    assert words(again)[-2:] == [results_key("cam"), "0"]

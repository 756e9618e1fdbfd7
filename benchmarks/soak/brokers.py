"""What happens to the broker."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.soak.house import USER, House
from benchmarks.soak.witness import Witness, wait
from tests.support import troubles
from tests.support.broker import RunningBroker

Heal = Callable[[], object]
Cause = Callable[[House, Witness], Heal]


def killed(house: House, _: Witness) -> Heal:
    house.twins.primary.kill()
    return house.twins.primary.start


def restarted(house: House, _: Witness) -> Heal:
    """Told to end, it saves what it has."""
    with house.twins.primary.client() as client:
        client.shutdown(save=True)
    house.twins.primary.kill()  # the process is waited for
    return house.twins.primary.start


def paused(house: House, _: Witness) -> Heal:
    house.twins.primary.freeze()
    return house.twins.primary.thaw


def answers(trouble: Callable[[RunningBroker, Any], Heal]) -> Cause:
    """It answers every command with an error."""

    def cause(house: House, _: Witness) -> Heal:
        with house.twins.primary.client(decode_responses=True) as client:
            heal = trouble(house.twins.primary, client)

        def put_right() -> None:
            nonlocal client
            with house.twins.primary.client(decode_responses=True) as client:
                heal()

        return put_right

    return cause


def failed_over(house: House, _: Witness) -> Heal:
    """As a Sentinel does it: another one is promoted, the name changes, later the old one is demoted."""
    wait(house.twins.in_step, "the replica follows")
    house.twins.swap()
    time.sleep(1)  # what the old one takes meanwhile is discarded with it
    house.twins.demote()
    return lambda: None


def fail_over_told(witness: Witness) -> None:
    """It is over so soon that nobody may see the output down."""
    wait(lambda: witness.logged("read only replica|cannot be reached"), "log: read only replica")


def without_the_lead(house: House, _: Witness) -> Heal:
    """The primary becomes a replica and nobody else takes the lead; then it is promoted again."""
    with house.twins.primary.client() as client:
        client.replicaof("127.0.0.1", house.twins.replica.port)

    def promote() -> None:
        with house.twins.primary.client() as again:
            again.replicaof("NO", "ONE")

    return promote


def password_rotated(house: House, _: Witness) -> Heal:
    """The broker knows the new one first, the file gets it later."""
    password = f"word{time.monotonic_ns()}"
    house.twins.set_password(password)
    with house.twins.primary.client() as client:
        client.client_kill_filter(user=USER)
    return lambda: house.twins.password_file.write_text(password)


_AWAY = "cannot be reached|cannot do its work|has not written"
TROUBLES: tuple[tuple[str, Cause, str], ...] = (
    ("is killed", killed, _AWAY),
    ("is restarted", restarted, _AWAY),
    ("is paused", paused, _AWAY),
    ("cannot save (MISCONF)", answers(troubles.failing_save), "MISCONF"),
    ("is out of memory (OOM)", answers(troubles.full_memory), "command not allowed when used memory"),
    ("is demoted and promoted (READONLY)", without_the_lead, "read only replica"),
    ("rotates the password", password_rotated, "refuses us"),
)

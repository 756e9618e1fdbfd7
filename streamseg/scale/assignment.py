"""Which worker has which stream: rendezvous hashing, weighted by capacity, with a bounded load.

Every pair of a stream and a worker has a score that depends on nothing else, so that a stream prefers the
same workers whoever asks, and a worker that comes back is preferred by the streams that it had. What a
worker has stays with it: a camera that moves is not seen for seconds.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

SLACK = 0.25
"""How far a worker's load may be from its share before streams move. Shares of 25 streams by hashing alone
have a standard deviation of 5: less slack moves more streams at each change, more leaves workers idle."""

_ROWS = 1024
"""Streams scored at once: 3 MB for 400 workers."""


def assign(
    streams: Iterable[str],
    workers: Mapping[str, float],
    held: Mapping[str, str] | None = None,
    *,
    slack: float = SLACK,
) -> dict[str, str]:
    """Give every stream a worker.

    A worker's share is its part of all streams by capacity. No worker gets more than ``ceil((1 + slack) *
    share)``. A worker with less than ``(1 - slack) * share`` is given streams up to its share, rounded down,
    of workers with more than theirs. All other streams that are held stay where they are.

    Args:
        streams: Their ids.
        workers: Capacity of each worker by its id, in any unit, above 0.
        held: Who has a stream now; ids that are in ``streams`` or ``workers`` no more are passed over.
        slack: In [0, 1).

    Returns:
        The worker of each stream; empty if there are no workers. Given back as ``held`` it stays as it is.

    Raises:
        ValueError: A capacity is not above 0.
    """
    for worker, capacity in workers.items():
        if not (capacity > 0 and math.isfinite(capacity)):
            raise ValueError(f"worker {worker}: capacity {capacity} is not above 0")
    wanted = sorted(set(streams))
    if not workers or not wanted:
        return {}
    unit = len(wanted) / sum(workers.values())
    shares = {worker: capacity * unit for worker, capacity in sorted(workers.items())}
    before = held or {}
    owners = {stream: before[stream] for stream in wanted if before.get(stream) in shares}
    limits = {worker: _rounded_up((1 + slack) * share) for worker, share in shares.items()}
    _shed(owners, limits)
    homeless = [stream for stream in wanted if stream not in owners]
    _place(homeless, owners, workers, limits)
    _fill(owners, shares, slack, newly_placed=set(homeless))
    return owners


def _rounded_up(number: float) -> int:
    """Without the last bits of a sum: 12 streams of 4 equal workers are 3 each, not 4."""
    return math.ceil(number - 1e-9)


def _shed(owners: dict[str, str], limits: Mapping[str, int]) -> None:
    """Take the streams that prefer it least from each worker above its limit."""
    loads = Counter(owners.values())
    for worker in (worker for worker, load in loads.items() if load > limits[worker]):
        of_worker = [stream for stream, owner in owners.items() if owner == worker]
        draws = _draws(of_worker, [worker])[:, 0]
        for row in np.argsort(draws)[: loads[worker] - limits[worker]]:
            del owners[of_worker[row]]


def _place(
    streams: Sequence[str], owners: dict[str, str], workers: Mapping[str, float], limits: Mapping[str, int]
) -> None:
    """Give each stream the worker that it prefers among those with room; there is room for all."""
    names = sorted(workers)
    loads = Counter(owners.values())
    capacities = np.array([workers[name] for name in names])
    full = np.array([loads[name] >= limits[name] for name in names])
    for begin in range(0, len(streams), _ROWS):
        some = streams[begin : begin + _ROWS]
        # Weighted rendezvous: the winner of -capacity / ln(u), u even in (0, 1), is each worker as often as
        # its capacity says (Schindelhauer and Schomaker, Weighted Distributed Hash Tables, 2005).
        scores = -capacities / np.log(_draws(some, names))
        scores[:, full] = -1.0
        for row, stream in enumerate(some):
            column = int(scores[row].argmax())
            owners[stream] = name = names[column]
            loads[name] += 1
            if loads[name] >= limits[name]:
                full[column] = True
                scores[:, column] = -1.0


def _fill(owners: dict[str, str], shares: Mapping[str, float], slack: float, newly_placed: set[str]) -> None:
    """Move streams from workers with more than their share to those with too little.

    Streams that have just been placed go first, which disturbs nobody; then those that prefer the receiver
    most.
    """
    loads = Counter(owners.values())
    for worker, share in shares.items():
        if loads[worker] >= (1 - slack) * share - 1e-9:
            continue
        offered = [stream for stream, owner in owners.items() if loads[owner] > shares[owner] + 1e-9]
        if not offered:
            return
        draws = _draws(offered, [worker])[:, 0]
        held = np.array([stream not in newly_placed for stream in offered])
        for row in np.lexsort((-draws, held)):
            if loads[worker] + 1 > share + 1e-9:
                break
            stream = offered[row]
            owner = owners[stream]
            if loads[owner] > shares[owner] + 1e-9:
                owners[stream] = worker
                loads[owner] -= 1
                loads[worker] += 1


def _draws(streams: Sequence[str], workers: Sequence[str]) -> NDArray[np.float64]:
    """(streams, workers) numbers even in (0, 1), each made of the two ids alone."""
    mixed = _hashes(streams)[:, None] ^ _hashes(workers)[None, :]
    # The last steps of SplitMix64 (Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators).
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _hashes(names: Sequence[str]) -> NDArray[np.uint64]:
    digests = b"".join(blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(digests, dtype="<u8")

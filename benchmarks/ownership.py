"""What it costs that only the owner of a camera may publish it: the checked publish against a plain XADD.

    python benchmarks/ownership.py [--rounds 7]

Results of 1080p frames with 10 and 50 instances go to a real broker, 200 in a row by turns: as those of a
stream that nobody else publishes, and as an owner's, which a script checks. Ratios of the time from call to
answer, within one turn. Needs the extra `test` for the broker. Writes benchmarks/results/ownership.json.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

from machine import describe_machine
from overlay import scene

from streamseg.redis.publish import RedisOutput
from streamseg.results.frame_result import frame_result
from streamseg.types import FramePolicy, FrameResult, StreamEnd, StreamInfo

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
COUNT = 200
sys.path.insert(0, str(ROOT))


def main() -> None:
    from tests.support.broker import running_broker  # noqa: PLC0415  found only now

    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=7)
    rounds = options.parse_args().rounds
    report: dict[str, Any] = {"machine": describe_machine(), "milliseconds_per_result": {}}
    with tempfile.TemporaryDirectory() as name, running_broker(Path(name)) as broker:
        for count in (10, 50):
            frame, found = scene(0, count, 1920, 1080)
            result = frame_result(frame, found, model="bench", published_at=frame.decoded_at)
            report["milliseconds_per_result"][f"{count} instances"] = compare(broker.url, result, rounds)
    text = json.dumps(report, indent=2)
    (RESULTS / "ownership.json").write_text(text + "\n")
    print(text)


def compare(url: str, result: FrameResult, rounds: int) -> dict[str, float]:
    plain, checked = [], []
    for turn in range(rounds + 1):
        times = [milliseconds(url, result, None), milliseconds(url, result, turn)]
        if turn:  # the first is warm-up
            plain.append(times[0])
            checked.append(times[1])
    ratios = [b / a for a, b in zip(plain, checked, strict=True)]
    return {
        "plain": round(statistics.median(plain), 3),
        "checked": round(statistics.median(checked), 3),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_least": round(min(ratios), 3),
        "ratio_most": round(max(ratios), 3),
    }


def milliseconds(url: str, result: FrameResult, claim: int | None) -> float:
    output = RedisOutput(url)
    writer = output.open(
        StreamInfo(
            stream=f"bench-{claim is None}-{len(result.instances)}",
            url="bench",
            policy=FramePolicy.NEWEST_FRAME,
            epoch=claim or 0,
            width=1920,
            height=1080,
            time_base=Fraction(1, 25),
            fps=25.0,
            frame_count=None,
            first_epoch=claim or 0,
            claim=claim,
        )
    )
    writer.write(result, None, None)  # connects
    began = time.perf_counter()
    for _ in range(COUNT):
        writer.write(result, None, None)
    spent = time.perf_counter() - began
    writer.close(StreamEnd.ENDED)
    output.shutdown()
    return 1000 * spent / COUNT


if __name__ == "__main__":
    main()

"""Count objects per zone, second by second, from what the program prints.

streamseg run -c samples/zones.yaml --results - | python examples/count_zones.py
"""

import json
import sys
from collections.abc import Iterable


def main(lines: Iterable[str] = sys.stdin) -> None:
    """Print the counts of each second; those of lines are crossings so far."""
    second = -1
    for line in lines:
        result = json.loads(line)
        if int(result["pts"]) == second or "counts" not in result:
            continue
        second = int(result["pts"])
        counts = [f"{place}: {count}" for place, count in sorted(result["counts"].items())]
        print(f"{second:4d} s  {'  '.join(counts)}")


if __name__ == "__main__":
    main()

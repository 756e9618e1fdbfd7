"""Read results from Redis and print where objects are. Needs neither torch nor a video library.

streamseg run rtsp://... --redis redis://localhost:6379/0
python examples/subscribe.py [URL] [STREAM ...]
"""

import sys

from streamseg.client import Gap, subscribe


def main(url: str = "redis://localhost:6379/0", *streams: str) -> None:
    """Print a line for each object, for ever; of all streams if none is named."""
    for result in subscribe(url, streams or None, gaps=True):
        if isinstance(result, Gap):
            print(result)  # this program was too slow: the broker had trimmed results before they were read
            continue
        for instance in result.instances:
            rows = instance.mask.any(axis=1).nonzero()[0]  # of the mask, (height, width) bool
            feet = int(rows[-1])
            print(
                f"{result.stream} {result.frame} {instance.label} {instance.id} feet at row {feet}",
                flush=True,
            )


if __name__ == "__main__":
    main(*sys.argv[1:])

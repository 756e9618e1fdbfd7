"""A web camera, or a file, to an overlay video: stop the camera with Ctrl-C, and the file is finished.

python examples/video.py [SOURCE] [VIDEO]
"""

import sys
from collections import Counter

from streamseg import run
from streamseg.outputs import VideoOutput


def main(source: str = "/dev/video0", video: str = "camera.mp4") -> None:
    """Write the overlay, and say now and then what is seen."""
    seen: Counter[str] = Counter()
    results = run(source, outputs=[VideoOutput(video)])
    try:
        for result in results:
            seen.update(instance.label for instance in result.instances)
            if result.frame % 25 == 0:
                now = Counter(instance.label for instance in result.instances)
                print(f"{result.pts:8.1f} s  {dict(now)}")
    except KeyboardInterrupt:
        results.close()  # finishes what was decoded
    print(f"{video}: {sum(seen.values())} instances, {dict(seen)}")


if __name__ == "__main__":
    main(*sys.argv[1:])

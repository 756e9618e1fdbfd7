"""streamseg: instance segmentation of cameras and recorded video with SOLO.

``Segmenter`` segments single pictures, ``run`` whole streams; ``read_results`` reads what is stored, and
``streamseg.client`` the results of another process from Redis.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamseg.api import run
    from streamseg.inference import Segmenter
    from streamseg.results.reading import read_results

__all__ = ["Segmenter", "__version__", "read_results", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Decode workers and subscribers import this package too, and must not wait for torch.
    if name == "Segmenter":
        from streamseg.inference import Segmenter  # noqa: PLC0415

        return Segmenter
    if name == "run":
        from streamseg.api import run  # noqa: PLC0415

        return run
    if name == "read_results":
        from streamseg.results.reading import read_results  # noqa: PLC0415

        return read_results
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

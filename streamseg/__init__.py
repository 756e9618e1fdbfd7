"""streamseg: instance segmentation of cameras and recorded video with SOLO.

``Segmenter`` segments single pictures, ``run`` whole streams; ``streamseg.client`` reads the results
of another process from Redis.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamseg.api import run
    from streamseg.inference import Segmenter

__all__ = ["Segmenter", "__version__", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Decode workers and subscribers import this package too, and must not wait for torch.
    if name == "Segmenter":
        from streamseg.inference import Segmenter  # noqa: PLC0415

        return Segmenter
    if name == "run":
        from streamseg.api import run  # noqa: PLC0415

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

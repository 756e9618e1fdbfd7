"""Names of the pictures that labels belong to."""

from streamseg.types.results import FrameResult


def picture_name(result: FrameResult) -> str:
    """File name, without its ending, of the picture of a result: ``street_000012``."""
    epoch = f"{result.epoch}-" if result.epoch else ""
    return f"{result.stream}_{epoch}{result.frame:06d}"

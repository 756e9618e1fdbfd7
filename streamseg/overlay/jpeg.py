"""Pictures as JPEG, for outputs that hand them on one by one."""

import cv2
import numpy as np
from numpy.typing import NDArray


def encode_jpeg(pixels: NDArray[np.uint8], *, quality: int) -> bytes:
    """Encode (height, width, 3) uint8 RGB; ``quality`` from 0 to 100 is libjpeg's."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return jpeg.tobytes()

"""What the pictures of all subsystems are made of: text, and a scale of colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

TEXT_HEIGHT = 14
BACKGROUND = 24
# From nothing to all; dark to light, so that it reads without colour vision too.
_COLOURS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], np.float64)


def shaded(shares: NDArray[Any]) -> NDArray[np.float64]:
    """Colours of shares.

    Args:
        shares: (...) numbers in 0..1.

    Returns:
        (..., 3) float64 in 0..255, from violet over green to yellow.
    """
    position = shares * (len(_COLOURS) - 1)
    below = np.minimum(position.astype(np.int64), len(_COLOURS) - 2)
    part = (position - below)[..., None]
    return np.asarray(_COLOURS[below] * (1 - part) + _COLOURS[below + 1] * part)


def draw_text(text: str, width: int) -> NDArray[np.uint8]:
    """A line of text: (TEXT_HEIGHT, width, 3) uint8."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width, TEXT_HEIGHT), (BACKGROUND,) * 3)
    ImageDraw.Draw(image).text((3, 1), text, fill=(230, 230, 230))
    return np.array(image)

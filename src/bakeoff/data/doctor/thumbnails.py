"""Small pictures for a page: opened again, made small, encoded, and few enough to be held in memory."""

import io

from bakeoff.data.doctor.survey import Survey
from bakeoff.errors import DataError

SIDE_PX = 72
_EXACT_PX = 40  # up to this side a picture is kept as it is, without loss


def thumbnail(survey: Survey, row: int) -> tuple[str, bytes] | None:
    """Return the media type and the bytes of a small version of a picture; None if it cannot be read."""
    from PIL import Image  # as decode has it: only where pictures are opened

    if row in survey.broken:
        return None
    try:
        image = Image.fromarray(survey.entries[row].open().pixels)
    except DataError:  # it was there a moment ago
        return None
    buffer = io.BytesIO()
    if max(image.size) <= _EXACT_PX:
        image.save(buffer, "PNG")
        return "image/png", buffer.getvalue()
    image.thumbnail((SIDE_PX, SIDE_PX))
    image.save(buffer, "JPEG", quality=80)
    return "image/jpeg", buffer.getvalue()

"""What schemathesis sends where the API wants a picture: pictures, since its own bytes hardly ever are."""

from io import BytesIO

import numpy as np
import schemathesis
from hypothesis import strategies as st
from PIL import Image


def _encoded(format: str) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)).save(buffer, format)
    return buffer.getvalue()


PICTURES = st.sampled_from([_encoded(format) for format in ("PNG", "JPEG", "WEBP", "GIF")])

schemathesis.openapi.media_type("image/*", PICTURES)
schemathesis.openapi.media_type("application/octet-stream", PICTURES)
schemathesis.openapi.format("binary", PICTURES)

from importlib.util import find_spec

import numpy as np
import pytest
from helpers.material import DATA
from helpers.photos import noise
from helpers.picture_files import encoded
from PIL import Image

from fastnst.errors import InputError, UnsupportedFormatError
from fastnst.image import decode_picture

HEIC = DATA / "turned.heic"


def test_a_photo_with_a_preview_is_no_animation_and_is_decoded_as_any():
    """As phones and cameras write it, with a smaller JPEG behind the photo."""
    smooth = Image.fromarray(noise(8, 8)).resize((512, 512), Image.Resampling.BICUBIC)
    alone = encoded(smooth, "JPEG")
    both = encoded(smooth, "MPO", save_all=True, append_images=[smooth.resize((64, 64))])

    for options in ({"frames": "reject"}, {"short_side": 64}, {"max_size": 100}):
        picture = decode_picture(both, **options)

        np.testing.assert_array_equal(picture.rgb, decode_picture(alone, **options).rgb)


@pytest.mark.skipif(find_spec("pi_heif") is not None, reason="it is installed")
def test_heic_is_refused_with_the_package_that_reads_it():
    with pytest.raises(UnsupportedFormatError, match=r"a\.heic is a HEIC picture, .*pi-heif.*fastnst\[heic\].*JPEG"):
        decode_picture(HEIC.read_bytes(), "a.heic")


@pytest.mark.skipif(find_spec("pi_heif") is None, reason="pi-heif is missing")
def test_heic_is_decoded_and_turned_once():
    """A copy of the pixels was turned by the orientation 6 when it was made."""
    smooth = Image.fromarray(noise(4, 5)).resize((40, 32), Image.Resampling.BICUBIC)
    expected = np.asarray(smooth.transpose(Image.Transpose.ROTATE_270)).astype(int)

    picture = decode_picture(HEIC.read_bytes(), frames="reject")

    assert picture.rgb.shape == expected.shape
    assert np.abs(picture.rgb - expected).mean() < 8  # HEIC is not lossless


@pytest.mark.skipif(find_spec("pi_heif") is None, reason="pi-heif is missing")
def test_a_cut_heic_is_an_input_error():
    data = HEIC.read_bytes()

    for length in (40, 300, len(data) // 2):
        with pytest.raises(InputError):
            decode_picture(data[:length])

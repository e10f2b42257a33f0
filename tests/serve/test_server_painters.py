import numpy as np
import pytest
from helpers.photos import noise

from fastnst import errors
from fastnst.config import ServeLimits
from fastnst.engine import OnnxEngine, Stop
from fastnst.errors import FastnstError
from fastnst.image import Picture
from fastnst.serve import problems
from fastnst.serve.asked import read_asked
from fastnst.serve.bound import memory_bound
from fastnst.serve.painters import Painters
from fastnst.serve.problems import OutOfMemoryError, problem
from fastnst.serve.published import published_styles

NAMES = ["great-wave-tiny", "great-wave", "poppies"]


@pytest.fixture
def painters() -> Painters:
    return Painters(published_styles(NAMES), "cpu", 1_000_000)


def asked(**given: str):
    return read_asked(list(given.items()), mask=False, served=NAMES, default=NAMES[0])


@pytest.fixture
def starve(monkeypatch):
    """Let ONNX Runtime have no memory for whole pictures, or for any."""

    def fail(*where: type) -> None:
        def run(*_: object) -> object:
            raise FastnstError("ONNX Runtime failed: Failed to allocate memory for requested buffer of size 42")

        for kind in where:
            monkeypatch.setattr(kind, "__call__", run)

    return fail


def test_without_memory_for_all_of_it_a_picture_is_painted_in_bands(painters, starve):
    expected = painters.paint(asked(), Picture(noise()), None, Stop())
    starve(OnnxEngine)

    painted = painters.paint(asked(), Picture(noise()), None, Stop())

    assert np.abs(painted.rgb.astype(int) - expected.rgb).max() <= 1


def test_without_memory_for_bands_it_is_told_to_try_again(painters, starve):
    from fastnst.nets.single_layers import OnnxLayers

    painters.open(NAMES[0])
    starve(OnnxEngine, OnnxLayers)

    with pytest.raises(OutOfMemoryError) as caught:
        painters.paint(asked(), Picture(noise()), None, Stop())
    assert caught.value.http_status == 503
    assert int(caught.value.headers["Retry-After"]) >= 1


def test_mixed_styles_are_made_once_and_the_oldest_given_up(painters):
    for share in [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 9]:
        painters.paint(asked(style="great-wave,poppies", mix=f"{share},1"), Picture(noise()), None, Stop())

    kept = list(painters._mixes)
    assert len(kept) == 8
    assert kept[-1][1] == (0.9, 0.1)
    assert [round(shares[0] / shares[1]) for _, shares in kept] == [3, 4, 5, 6, 7, 8, 1, 9]


def every_error(kind: type = FastnstError) -> list[type]:
    return [kind, *(one for below in kind.__subclasses__() for one in every_error(below))]


def test_every_error_has_a_status_and_a_word_of_its_own_for_programs():
    kinds = [kind for kind in every_error() if kind.__module__ in (errors.__name__, problems.__name__)]

    assert len(kinds) > 25
    assert all(400 <= kind.http_status < 600 for kind in kinds)
    for kind in kinds:
        if "code" in vars(kind) and kind not in (problems.BadRequestError,):
            same = [one.__name__ for one in kinds if one.code == kind.code and "code" in vars(one)]
            assert len(same) == 1 or kind is errors.UsageError, same


def test_what_goes_wrong_inside_is_not_told():
    assert b"secret" not in problem(FastnstError("/home/secret/file.py failed"), "id")
    assert b"secret" in problem(errors.InputError("the secret is damaged"), "id")


def test_the_bound_grows_with_everything_that_is_allowed():
    usual = ServeLimits(workers=2)
    more = [
        ServeLimits(workers=3),
        ServeLimits(workers=2, queue=9),
        ServeLimits(workers=2, max_pixels=usual.max_pixels + 1),
        ServeLimits(workers=2, max_bytes=usual.max_bytes + 1),
    ]

    assert all(memory_bound(limits).total > memory_bound(usual).total for limits in more)
    assert memory_bound(ServeLimits(workers=1, queue=0, max_pixels=4_000_000)).total < 4_500_000_000

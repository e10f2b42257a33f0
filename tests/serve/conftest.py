"""A service that most tests share, and small pictures for it."""

from collections.abc import Iterator

import pytest
from helpers.photos import noise
from helpers.picture_files import encoded
from helpers.servers import Server, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The bundled styles, with the limits that a service has by default."""
    with serving("--workers", "1") as running:
        yield running


@pytest.fixture(scope="session")
def png() -> bytes:
    """A small picture."""
    return encoded(noise(32, 48))

"""The memory that the service takes at most, by what it is allowed to take at once."""

from dataclasses import dataclass, fields

from fastnst.config import ServeLimits
from fastnst.serve.line import LANES

WHOLE = 2_400_000_000  # bytes a picture may take to be painted whole; what needs more is painted in bands
_BASE = 1_200_000_000  # the service itself: packages, styles, the page, what it keeps of freed memory
_WORKER = 80_000_000  # a process that decodes, before it decodes anything
_JOB = 30  # bytes a pixel that decoding and encoding take; WebP with transparency takes 28
_BANDS = 90  # bytes a pixel that painting in bands takes: the smallest layer of a base style twice, and the pixels
_KEPT = 256 << 20  # and what it keeps of larger layers
_PICTURE = 20  # bytes a pixel of a request that is worked on: content, transparency, mask, painting, and its encoding
_SLACK = 128 << 20  # a decoder's threads and buffers


@dataclass(frozen=True)
class Bound:
    """Bytes of each part of the service, at most."""

    service: int
    workers: int
    requests: int
    pictures: int
    painting: int

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))

    @property
    def in_words(self) -> str:
        """The parts: service 1.2 GB, workers 3.4 GB, ..."""
        return ", ".join(f"{field.name} {getattr(self, field.name) / 1e9:.1f} GB" for field in fields(self))


def memory_bound(limits: ServeLimits) -> Bound:
    """The most bytes that all processes of the service hold together:

    - the service itself, 1.0 GB with the bundled styles and eight mixes of them, counted as 1.2;
    - each of `workers`: 80 MB, 30 bytes a pixel of the largest picture, and the request;
    - each request that has a place, `queue` and one more: its bytes, twice;
    - pictures that are decoded, `workers` and one more: 20 bytes a pixel;
    - the one that is painted: 2.4 GB, or 0.3 GB and 90 bytes a pixel of the largest picture, whichever is more.

    What is painted larger than it is, for small strokes or less strength, counts as large as it is painted.
    """
    return Bound(
        service=_BASE,
        workers=limits.workers * (_WORKER + worker_memory(limits)),
        requests=(limits.queue + LANES) * 2 * limits.max_bytes,
        pictures=pictures_at_once(limits) * _PICTURE * limits.max_pixels,
        painting=LANES * max(WHOLE, _KEPT + _BANDS * limits.max_pixels),
    )


def worker_memory(limits: ServeLimits) -> int:
    """Bytes that one process may take for its jobs, beyond what it has when it starts."""
    return _JOB * limits.max_pixels + 2 * limits.max_bytes + _SLACK


def pictures_at_once(limits: ServeLimits) -> int:
    """How many requests may hold decoded pictures: one that is painted, and one for each worker."""
    return limits.workers + LANES

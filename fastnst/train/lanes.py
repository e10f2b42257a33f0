"""Parts of a batch side by side, each on one core."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Part = TypeVar("Part")
T = TypeVar("T")


def lane_count(device: torch.device, photographs: int) -> int:
    """How many parts are computed at once: as many as torch has threads for, on a processor."""
    return min(torch.get_num_threads(), photographs) if device.type == "cpu" else 1


def in_lanes(work: Callable[[Part], T], parts: Sequence[Part], lanes: int) -> Iterator[T]:
    """Give work(part) of each, in order; `lanes` are done at a time, which share torch's threads evenly.

    Threads that share each operator wait for one another thousands of times a step, and all of them for the one whose
    core has something else to do. Lanes wait once a step.
    """
    if lanes == 1:
        yield from map(work, parts)
        return
    threads = torch.get_num_threads()
    try:
        # New threads each time: what a backward that ran out of memory leaves behind goes with its thread.
        with ThreadPoolExecutor(lanes, initializer=torch.set_num_threads, initargs=(max(threads // lanes, 1),)) as pool:
            yield from pool.map(work, parts)
    finally:
        torch.set_num_threads(threads)

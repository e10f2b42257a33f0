"""Stylize a clip with the identity; prints the peak memory after half of its frames and after all, MiB.

Arguments: clip, number of its frames, output.
"""

import re
import sys
from pathlib import Path

from fastnst.config import StylizeOptions
from fastnst.folder import Job
from fastnst.stylize import Stylizer
from fastnst.video.stylize import stylize_clip


def peak():
    # Not ru_maxrss, in which a process inherits the peak of the one that started it.
    return int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) >> 10


def identity(images):
    global seen
    seen += len(images)
    if seen >= half and not peaks:
        peaks.append(peak())
    return images


clip, frames, output = sys.argv[1:]
seen, half, peaks = 0, int(frames) // 2, []
stylize_clip(Stylizer(identity), Job(Path(clip), Path(output)), StylizeOptions(overwrite=True))
print(*peaks, peak())

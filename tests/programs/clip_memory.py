"""Stylize a clip with the identity; prints the peak memory, MiB.

Arguments: clip, output.
"""

import re
import sys
from pathlib import Path

from fastnst.config import StylizeOptions
from fastnst.folder import Job
from fastnst.stylize import Stylizer
from fastnst.video.stylize import stylize_clip

stylize_clip(Stylizer(lambda images: images), Job(Path(sys.argv[1]), Path(sys.argv[2])), StylizeOptions(overwrite=True))
# Not ru_maxrss, in which a process inherits the peak of the one that started it.
print(int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) >> 10)

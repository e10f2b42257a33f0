"""Stylize a clip with the identity; prints the peak memory, MiB.

Arguments: clip, output.
"""

import resource
import sys
from pathlib import Path

from fastnst.config import StylizeOptions
from fastnst.stylize import Job, Stylizer
from fastnst.video.paint import paint_clip

paint_clip(Stylizer(lambda images: images), Job(Path(sys.argv[1]), Path(sys.argv[2])), StylizeOptions(overwrite=True))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)

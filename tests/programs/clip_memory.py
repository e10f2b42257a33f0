"""Stylize a clip with the identity; prints the peak memory, MiB.

Arguments: clip, output.
"""

import resource
import sys
from pathlib import Path

from fastnst.config import StylizeOptions
from fastnst.folder import Job
from fastnst.stylize import Stylizer
from fastnst.video.stylize import stylize_clip

stylize_clip(Stylizer(lambda images: images), Job(Path(sys.argv[1]), Path(sys.argv[2])), StylizeOptions(overwrite=True))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)

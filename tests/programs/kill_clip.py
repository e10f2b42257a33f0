"""Run the command line, sending itself a signal after a number of frames.

Arguments: frames, signal's number, command line.
"""

import os
import sys

import fastnst.video.stylize as module
from fastnst.cli.main import run

frames, number = int(sys.argv[1]), int(sys.argv[2])
original = module.stylize_clip


def disturbed(stylizer, job, options, clip, on_frame):
    def heard(done, total):
        on_frame(done, total)
        if done == frames:
            os.kill(os.getpid(), number)

    return original(stylizer, job, options, clip, heard)


module.stylize_clip = disturbed
sys.argv[1:] = sys.argv[3:]
run()

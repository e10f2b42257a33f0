"""Train like the command line; rank 1 raises or sends itself a signal after a step.

Arguments: step, signal's number or raise, command line.
"""

import os
import signal
import sys

import torch

import fastnst.train.loop as module
from fastnst.cli import main

torch.set_num_threads(1)
run_training = module.train


def disturbed(config, on_step):
    def disturb(report):
        on_step(report)
        if report.step + 1 == int(sys.argv[1]) and os.environ["RANK"] == "1":
            if sys.argv[2] == "raise":
                raise RuntimeError("something is wrong with this machine")
            signal.raise_signal(int(sys.argv[2]))

    return run_training(config, disturb)


module.train = disturbed
sys.exit(main(sys.argv[3:]))

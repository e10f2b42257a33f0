"""Train like the command line, sending itself a signal after a step, once or more.

Arguments: step, signal's number, the number of times, command line.
"""

import signal
import sys

import torch

import fastnst.train.loop as module
from fastnst.cli import main

torch.set_num_threads(1)
run_training = module.train


def train_until_killed(config, on_step):
    def killer(report):
        on_step(report)
        if report.step + 1 == int(sys.argv[1]):
            for _ in range(int(sys.argv[3])):
                signal.raise_signal(int(sys.argv[2]))

    return run_training(config, killer)


module.train = train_until_killed
sys.exit(main(sys.argv[4:]))

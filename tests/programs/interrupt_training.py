"""Train like the command line, with a Ctrl-C at the first step."""

import signal
import sys

import fastnst.train.loop as module
from fastnst.cli import main

run_training = module.train


def interrupted(config, on_step):
    return run_training(config, lambda report: (on_step(report), signal.raise_signal(signal.SIGINT)))


module.train = interrupted
sys.exit(main(sys.argv[1:]))

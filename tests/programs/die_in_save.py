"""Save a checkpoint and its state a second time, in processes that each die at another of the calls to the system.

Prints as JSON how many calls there are, and for some of them, by number, how the process ended that died there; what it
left is in a folder of that name. Arguments: folder, number of calls to die at.
"""

import json
import os
import random
import signal
import sys
from pathlib import Path

import torch

from fastnst.checkpoint import CheckpointMeta, TrainState, save_checkpoint, save_state
from fastnst.nets.spec import NetConfig
from fastnst.nets.torch_net import TransformerNet


def main(folder, count):
    calls, ended = save_until(-1, folder / "whole")
    assert ended == 0
    moments = random.Random(0).sample(range(calls), min(count, calls))
    print(json.dumps({"calls": calls, "deaths": {call: save_until(call, folder / str(call))[1] for call in moments}}))


def save_until(last, folder):
    """How many calls there were, unless it died, and the exit status. A fork: importing torch takes longest."""
    folder.mkdir()
    if (child := os.fork()) == 0:
        save_twice(last, folder)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    counted = folder / "calls"
    return int(counted.read_text()) if counted.exists() else None, os.waitstatus_to_exitcode(status)


def save_twice(last, folder):
    calls = 0

    def deadly(call):
        def counted(*arguments, **options):
            nonlocal calls
            if calls == last:
                os.kill(os.getpid(), signal.SIGKILL)
            calls += 1
            return call(*arguments, **options)

        return counted

    torch.manual_seed(0)
    net = TransformerNet(NetConfig(channels=(4, 4, 4), blocks=1))

    def save(step):
        state = TrainState({"moment": torch.full((1000,), float(step))}, {"step": step, "config": {}})
        save_state(folder / "a.state.safetensors", state)
        save_checkpoint(folder / "a.safetensors", net, CheckpointMeta("custom", net.config.to_json(), {}, steps=step))

    save(1)
    for name in ("open", "write", "fsync", "close", "link", "unlink", "replace", "chmod", "fdopen"):
        setattr(os, name, deadly(getattr(os, name)))
    save(2)
    (folder / "calls").write_text(str(calls))


main(Path(sys.argv[1]), int(sys.argv[2]))

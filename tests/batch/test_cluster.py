"""How many processes fit into a cluster, and the program that ends what one leaves behind."""

import os
import subprocess
import sys
import time

import pytest

from fastnst.batch import guardian
from fastnst.batch.cluster import Cluster, shares
from fastnst.config import BatchOptions
from fastnst.errors import UsageError


@pytest.mark.parametrize(
    ("given", "resources", "wants_gpu", "expected"),
    [
        ({}, {"CPU": 8}, False, Cluster(8, 1, 0)),
        ({"cpus_per_actor": 0.5}, {"CPU": 2}, False, Cluster(4, 0.5, 0)),
        ({"cpus_per_actor": 3}, {"CPU": 8}, False, Cluster(2, 3, 0)),
        ({}, {"CPU": 8, "GPU": 2}, True, Cluster(2, 1, 1)),
        ({"gpus_per_actor": 0.25}, {"CPU": 8, "GPU": 1}, True, Cluster(4, 1, 0.25)),
        ({"gpus_per_actor": 0}, {"CPU": 8, "GPU": 2}, True, Cluster(8, 1, 0)),
        ({"actors": 5}, {"CPU": 2}, False, Cluster(5, 1, 0)),  # a cluster that grows
    ],
)
def test_how_many_fit(given, resources, wants_gpu, expected):
    assert shares(BatchOptions(**given), resources, wants_gpu=wants_gpu) == expected


def test_where_not_one_fits_it_says_what_there_is():
    with pytest.raises(UsageError, match=r'"GPU": 0.*1 cores and 1 GPUs'):
        shares(BatchOptions(), {"CPU": 2}, wants_gpu=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found by /proc")
def test_what_is_left_ends_with_its_owner_and_nothing_else(tmp_path):
    folder = tmp_path / "cluster"
    folder.mkdir()
    sleeping = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    named = subprocess.Popen(sleeping, stdout=subprocess.PIPE, env={**os.environ, "CLUSTER": str(folder)})
    with open(folder / "log", "wb") as log:
        opened = subprocess.Popen(sleeping, stdout=log)
    other = subprocess.Popen(sleeping, stdout=subprocess.PIPE)
    for process in (named, other):
        process.stdout.readline()

    watching = subprocess.Popen([sys.executable, "-I", "-S", guardian.__file__, folder], stdin=subprocess.PIPE)
    time.sleep(0.3)
    before = [process.poll() for process in (named, opened)]
    watching.communicate()

    assert before == [None, None]
    assert (named.wait(), opened.wait(), other.poll()) == (-9, -9, None)
    assert not folder.exists()
    other.kill()
    for process in (named, other):
        process.communicate()

"""The scripts that look for what breaks: a short run of each, and that they find what is wrong."""

import importlib.util
import json
import mmap
import subprocess
import sys

import pytest
from helpers.material import ROOT

from fastnst.errors import InputError


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fuzz, soak = script("fuzz"), script("soak")


def test_damaged_files_of_every_kind_are_read_or_refused():
    command = [sys.executable, ROOT / "scripts" / "fuzz.py", "--inputs", "600", "--seed", "1", "--json"]

    done = subprocess.run(command, capture_output=True, check=False)

    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert done.returncode == 0
    assert list(found["kinds"]) == list(fuzz.KINDS)
    assert all(counts["read"] > 0 and counts["refused"] > 0 for counts in found["kinds"].values())


def test_an_input_depends_on_seed_kind_and_number_alone(tmp_path):
    seeds = {"a.bin": bytes(range(256)) * 9, "b.bin": b"b" * 999}

    first, again, other = (
        fuzz.write_input(tmp_path, stem, seeds, 0, "pictures", number).read_bytes()
        for stem, number in [("x", 7), ("y", 7), ("z", 8)]
    )

    assert first == again != other


def refuse(path):
    raise InputError("damaged")


def fail(path):
    raise KeyError("missing")


def fill(path):
    with mmap.mmap(-1, 330 << 20) as memory:  # none that was freed before and is used again
        for _ in range(330):
            memory.write(bytes(1 << 20))


@pytest.mark.parametrize(
    ("target", "outcome"),
    [
        (str, "read"),
        (refuse, "refused"),
        (fail, "raised KeyError: 'missing'"),
        (fill, "large"),
    ],
)
def test_what_a_target_does_wrong_is_found(tmp_path, target, outcome):
    assert fuzz.tried(target, tmp_path, 3)[:2] == (3, outcome)


@pytest.mark.parametrize(
    ("leak", "flat"), [((0, 0, 0), True), ((1.5, 0, 0), False), ((0, 0.1, 0), False), ((0, 0, 0.1), False)]
)
def test_what_grows_is_not_flat(leak, flat):
    memory, threads, files = leak
    samples = [
        soak.Sample(60 * minute, 300 + minute * memory + minute % 3, 4 + int(minute * threads), 9 + int(minute * files))
        for minute in range(31)
    ]

    assert soak.verdict(samples)["flat"] is flat


def test_a_short_soak_prints_samples_and_a_verdict():
    command = [sys.executable, ROOT / "scripts" / "soak.py", "--minutes", "0.05", "--every", "0.5"]
    command += ["--style", "great-wave-tiny"]

    lines = subprocess.run(command, capture_output=True, check=False).stdout.splitlines()

    *samples, found = map(json.loads, lines)
    assert len(samples) >= 3
    assert set(samples[0]) == {"seconds", "mebibytes", "threads", "files"}
    assert found["stylized"] > 0
    assert found["refused"] > 0

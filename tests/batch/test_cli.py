"""The command line of batch: what it prints, and its exit status for what goes wrong."""

import json
import socket
import subprocess
import sys

import pytest
from helpers.batches import mixed
from helpers.photos import noise_file

from fastnst.cli import main

# The command line where some packages are not installed.
WITHOUT = """
import sys
for name in {names}:
    sys.modules[name] = None
from fastnst.cli import run
run()
"""
# The command line that waits for a cluster no longer than a test may.
IMPATIENT = """
import fastnst.batch.cluster
fastnst.batch.cluster.ANSWERS_WITHIN = 3
from fastnst.cli import run
run()
"""


def run_program(program, *words):
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def folder(tmp_path):
    return mixed(tmp_path / "in", 6, damaged=0.34)


def test_what_it_prints(folder, onnx_style, tmp_path, capfd):
    words = ["batch", str(folder), "-o", str(tmp_path / "out"), "--style", str(onnx_style), "--address", "none"]

    status = main(words)
    table, progress = capfd.readouterr()
    again = main([*words, "--json"])
    told, _ = capfd.readouterr()

    assert (status, again) == (1, 1)
    assert "painted" in table
    assert "failed: unusable_input" in table
    assert table.rstrip().endswith("out/manifest.jsonl")
    assert "painting picture 6/6" in progress
    assert "seconds" in progress
    outcome = json.loads(told)
    assert (outcome["painted"], outcome["already"], outcome["totals"]["painted"]) == (0, 6, 4)


def test_all_painted_is_status_0_and_quiet_is_quiet(onnx_style, tmp_path, capfd):
    noise_file(tmp_path / "in" / "a.png")

    status = main(
        f"batch {tmp_path}/in -o {tmp_path}/out -s {onnx_style} --address none --manifest {tmp_path}/m.jsonl -q".split()
    )

    assert (status, capfd.readouterr().err) == (0, "")
    assert (tmp_path / "m.jsonl").is_file()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("empty", 4, "no pictures in"),
        ("missing.txt", 4, "missing.txt is not there"),
        ("table.jsonl --column photo", 2, "has no column photo"),
        ("in other", 2, "would both become"),
        ("in --address ray://10.0.0.1:10001", 2, "Ray Data does not work"),
        ("in --address none --actors 2", 2, "--actors is for a cluster"),
        ("in --address none --cpus-per-actor 2", 2, "--cpus-per-actor is for a cluster"),
        ("in --manifest out.csv", 2, "must end with .jsonl or .parquet"),
        ("in --address none --frames all", 2, "--frames all"),
        ("in --address none --split 30s", 2, "--split is for clips"),
        ("in --address none --smooth 0.5", 2, "--smooth is for clips"),
        ("in --address none --start 3", 2, "--start and --end cut clips"),
        ("in --address none --shard 9/8", 2, "is no share"),
        ("in --address none --split never", 2, "is not a length of time"),
        ("s4://bucket/in --address none", 2, "begins with s4://"),
    ],
)
def test_what_is_refused(tmp_path, monkeypatch, capfd, onnx_style, words, status, said):
    monkeypatch.chdir(tmp_path)
    noise_file(tmp_path / "in" / "a.png")
    noise_file(tmp_path / "other" / "a.png", height=30)
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.jsonl").write_text('{"image": "a.png"}\n')

    assert main(["batch", *words.split(), "-o", "out", "--style", str(onnx_style)]) == status
    told = capfd.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_where_nothing_can_be_written(tmp_path, onnx_style, capfd):
    noise_file(tmp_path / "in" / "a.png")

    for place in ("/proc/out", f"{tmp_path}/in/a.png/out"):
        status = main(["batch", f"{tmp_path}/in", "-o", place, "--style", str(onnx_style), "--address", "none"])
        assert (status, "cannot" in capfd.readouterr().err) == (5, True)


def test_without_ray_it_says_what_to_install(tmp_path, onnx_style):
    noise_file(tmp_path / "in" / "a.png")

    done = run_program(
        WITHOUT.format(names=["ray"]), "batch", tmp_path / "in", "-o", tmp_path / "out", "-s", onnx_style
    )

    assert done.returncode == 3
    assert 'pip install "fastnst[batch]"' in done.stderr
    assert not list((tmp_path / "out").glob("*.png"))


def test_in_this_process_it_needs_none_of_its_packages(tmp_path, onnx_style):
    noise_file(tmp_path / "in" / "a.png")
    names = ["ray", "pyarrow", "fsspec", "torch"]

    words = ("batch", tmp_path / "in", "-o", tmp_path / "out", "-s", onnx_style, "--address", "none")
    done = run_program(WITHOUT.format(names=names), *words)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "a.png").is_file()


def test_a_cluster_that_does_not_answer(tmp_path, onnx_style):
    noise_file(tmp_path / "in" / "a.png")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"

        words = ("batch", tmp_path / "in", "-o", tmp_path / "out", "-s", onnx_style, "--address", address)
        done = run_program(IMPATIENT, *words)

    assert done.returncode == 3
    assert f"no Ray cluster answers at {address}" in done.stderr
    assert not list((tmp_path / "out").glob("*.png"))


def test_where_there_is_nothing_to_paint_no_cluster_is_started(tmp_path, onnx_style):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no picture")

    words = ("batch", tmp_path / "in", "-o", tmp_path / "out", "-s", onnx_style)
    done = run_program(WITHOUT.format(names=["ray"]), *words)

    assert done.returncode == 1, done.stderr
    assert json.loads((tmp_path / "out" / "manifest.jsonl").read_text())["code"] == "unsupported_format"

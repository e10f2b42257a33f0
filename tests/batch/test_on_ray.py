"""A batch on a Ray cluster of this machine: killed and interrupted anywhere, from and to a store, whatever dies."""

import io
import json
import os
import signal
import subprocess
import sys

import boto3
import pyarrow.parquet
import pytest
from filelock import FileLock
from helpers.batches import files, manifest, mixed, painted, paintings
from helpers.material import PROGRAMS, ROOT
from helpers.photos import noise_file
from PIL import Image

sys.path.append(str(ROOT / "scripts"))
from batch_load import actors, cluster_of, leftovers, rows_in, until

STYLE = ROOT / "checkpoints" / "great-wave.onnx"  # slow enough to be killed


@pytest.fixture(autouse=True)
def alone(tmp_path_factory):
    """Clusters start one after the other, whatever else is tested meanwhile."""
    with FileLock(tmp_path_factory.getbasetemp().parent / "ray.lock"):
        yield


def start(*words, **environment):
    command = [sys.executable, "-m", "fastnst", "batch", *map(str, words), "--actors", "2", "--json"]
    given = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=given)


def test_killed_it_goes_on_to_what_an_undisturbed_run_gives(tmp_path):
    folder, output = mixed(tmp_path / "in", 48, damaged=0.1), tmp_path / "out"
    journal = output / "manifest.jsonl.journal"
    expected = paintings(folder, tmp_path / "stylized", STYLE)
    painted(folder, tmp_path / "calm", STYLE)
    words = (folder, "-o", output, "--style", STYLE, "--block-size", "2")

    run = start(*words)
    until(lambda: rows_in(journal) >= 12, run)  # 6 are rows before anything is painted
    os.kill(until(lambda: actors(run.pid), run)[0], signal.SIGKILL)
    before = rows_in(journal)
    until(lambda: rows_in(journal) >= before + 6, run)
    cluster = cluster_of(run.pid)
    run.kill()
    run.communicate()
    assert leftovers(cluster) == []

    run, settled = start(*words), rows_in(journal)
    told, said = run.communicate()
    outcome = json.loads(told)
    assert run.returncode == 1, said.decode()
    assert outcome["already"] >= settled - 1
    assert outcome["already"] + outcome["painted"] + sum(outcome["failed"].values()) == 48
    assert files(output) == expected
    assert manifest(output) == manifest(tmp_path / "calm")
    assert leftovers(cluster, seconds=0) == []
    assert b"ray" not in said.lower()


@pytest.mark.long
def test_from_and_to_a_store_whatever_ends_its_process(tmp_path, onnx_style, bucket):
    store = boto3.client("s3").put_object
    for number in range(10):
        path = noise_file(tmp_path / f"{number}.png", height=20 + number % 3)
        store(Bucket=bucket[5:], Key=f"in/{number}.png", Body=path.read_bytes())
    data = io.BytesIO()
    Image.new("RGB", (32, 32)).save(data, "BMP")
    store(Bucket=bucket[5:], Key="in/3.png", Body=data.getvalue() + b"poison" * 3)
    store(Bucket=bucket[5:], Key="in/4.png", Body=b"no picture")

    words = (f"{bucket}/in", "-o", f"{bucket}/out", "--style", onnx_style, "--store", "parquet", "--part-size", "5")
    run = start(*words, "--dedup", PYTHONPATH=str(PROGRAMS / "poison"))
    told, said = run.communicate()

    assert run.returncode == 1, said.decode()
    outcome = json.loads(told)
    assert (outcome["painted"], outcome["failed"]) == (8, {"died": 1, "unsupported_format": 1})
    lines = boto3.client("s3").get_object(Bucket=bucket[5:], Key="out/manifest.jsonl")["Body"].read().splitlines()
    rows = {row["input"].rpartition("/")[2]: row for row in map(json.loads, lines)}
    assert {name for name, row in rows.items() if row.get("same_as")} == {"5.png", "6.png", "7.png", "8.png", "9.png"}
    assert "three times" in rows["3.png"]["error"]
    paintings = 0
    for part in {row["output"].partition("::")[0] for row in rows.values() if row["output"]}:
        body = boto3.client("s3").get_object(Bucket=bucket[5:], Key=f"out/{part}")["Body"].read()
        paintings += pyarrow.parquet.read_table(io.BytesIO(body)).num_rows
    assert paintings == 3

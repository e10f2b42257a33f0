"""Runs that learn from tars, here and on an S3 server, and from lists."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from helpers.photo_tars import encoded, write_tar
from helpers.runs import STEPS, Configure, assert_same_run, crash_in, killed, losses
from helpers.tars import tar_of

from fastnst.checkpoint import load_checkpoint
from fastnst.cli import main
from fastnst.config import SweepConfig
from fastnst.errors import StorageError, UsageError
from fastnst.train.loop import StepReport, train
from fastnst.train.report import write_report
from fastnst.train.sweep import sweep

TARS = {
    f"photos-{tar}.tar": {f"{tar}{number:02}.png": encoded(100 * tar + number, 128, "PNG") for number in range(12)}
    for tar in range(2)
}


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tars of twelve photos, which are more than two windows of half a MiB."""
    folder = tmp_path_factory.mktemp("tars")
    for name, files in TARS.items():
        write_tar(folder / name, files)
    return folder


@pytest.fixture(scope="module")
def of_tars(configure: Configure, tars: Path) -> Configure:
    """The config of a run of a second on the tars: of_tars(output, content=...)."""

    def make(output: Path, **options: object):
        return configure(output, **{"content": f"{tars}/photos-{{0..1}}.tar", "shuffle_buffer": 1, **options})

    return make


@pytest.fixture(scope="module")
def whole(of_tars: Configure, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run on the tars that nothing disturbed wrote."""
    return train(of_tars(tmp_path_factory.mktemp("whole") / "style.safetensors"))


def test_a_run_on_tars_of_a_store_that_is_killed_ends_like_one_on_local_ones(of_tars, whole, output, bucket):
    for name, files in TARS.items():
        boto3.client("s3").put_object(Bucket=bucket.removeprefix("s3://"), Key=f"sets/{name}", Body=tar_of(files))
    remote = of_tars(output, content=f"{bucket}/sets/photos-*.tar")
    options = ("--shuffle-buffer", 1, "--workers", 5)

    died = killed(remote, 7, signal.SIGKILL, *options)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    train(replace(remote, resume=True))

    assert_same_run(output, whole)
    assert load_checkpoint(output)[1].held_out == load_checkpoint(whole)[1].held_out != []


def test_tars_that_go_away_save_the_run_which_goes_on_when_they_are_back(of_tars, whole, output, tars, tmp_path):
    here, moved = shutil.copytree(tars, tmp_path / "here"), tmp_path / "moved"
    config = of_tars(output, content=f"{here}/photos-*.tar", save_every=100)

    def hide(report: StepReport) -> None:
        if report.step == 1:
            here.rename(moved)

    with pytest.raises(StorageError, match=r"photos-\d\.tar is not there.*stopped after step \d+ and saved; continue"):
        train(config, hide)
    assert 1 < load_checkpoint(output)[1].steps < STEPS
    moved.rename(here)
    train(replace(config, resume=True))

    assert_same_run(output, whole)


def test_a_tar_that_was_replaced_is_refused_and_named(of_tars, output, tars, tmp_path):
    shutil.copytree(tars, tmp_path, dirs_exist_ok=True)
    config = of_tars(output, content=f"{tmp_path}/photos-*.tar")
    crash_in(config, 6)
    before = output.read_bytes()

    write_tar(tmp_path / "photos-1.tar", {**TARS["photos-1.tar"], "more.png": encoded(1, 128, "PNG")})
    write_tar(tmp_path / "photos-2.tar", {"2.png": encoded(2)})
    with pytest.raises(UsageError, match=r"\(changed: photos-1\.tar; new: photos-2\.tar\); give those, or use --over"):
        train(replace(config, resume=True))
    with pytest.raises(UsageError, match="--shuffle-buffer was 1, is 2"):
        train(replace(config, content=f"{tars}/*.tar", shuffle_buffer=2, resume=True))

    assert output.read_bytes() == before
    train(replace(config, content=f"{tars}/*.tar", resume=True))
    assert len(losses(output)) == STEPS


def test_the_report_of_a_run_on_tars_shows_what_was_held_out_and_files_that_are_no_pictures_are_listed(
    of_tars, output, tmp_path
):
    files = {**TARS["photos-0.tar"], "damaged.jpg": encoded(3)[:1500], "0.json": b"{}", "none.png": b"none"}
    tar = write_tar(tmp_path / "photos.tar", files)
    config = of_tars(output, content=str(tar), steps=8, held_out=1)

    train(config)
    write_report(config)

    (held_out,) = load_checkpoint(output)[1].held_out
    assert held_out in (output.with_suffix("") / "report.html").read_text()
    bad = (output.with_suffix("") / "bad_images.txt").read_text().splitlines()
    assert [line.partition("\t")[0] for line in bad] == [f"{tar}::damaged.jpg", f"{tar}::none.png"]


def test_a_list_of_photographs_is_trained_on_like_their_folder_and_another_one_is_refused(
    configure, finished, material, output, tmp_path
):
    paths = sorted((material / "photos").iterdir())
    names = tmp_path / "list.txt"
    names.write_text("".join(f"{path}\n" for path in paths))
    config = configure(output, content=names)
    crash_in(config, 6)

    train(replace(config, resume=True))
    assert_same_run(output, finished)

    names.write_text("".join(f"{path}\n" for path in paths[1:]))
    with pytest.raises(UsageError, match=r"list\.txt has not the photographs of the interrupted run; give those"):
        train(replace(config, resume=True, steps=2 * STEPS))


def test_a_sweep_looks_through_tars_once(of_tars, tars, tmp_path):
    run = of_tars(tmp_path / "none.safetensors")
    options = {name: getattr(run, name) for name in ("content", "shuffle_buffer", "preset", "size", "style_layers")}
    config = SweepConfig(
        run.style,
        **options,
        output=tmp_path / "sheet.png",
        content_layers=run.content_layers,
        precision="fp32",
        device="cpu",
        steps=1,
        style_size=(64,),
        style_weight=(1, 4),
        tile_size=64,
        batch_size=1,
    )

    assert sweep(config).path.exists()

    (index,) = (tmp_path / "sheet").glob("photographs-*.npz")
    (checkpoint, _) = sorted((tmp_path / "sheet").glob("*style-size-64.safetensors"))
    assert index.stat().st_mtime_ns <= checkpoint.stat().st_mtime_ns
    assert load_checkpoint(checkpoint)[1].held_out == ["photos-0.tar::006.png", "photos-1.tar::106.png"]
    assert json.loads((tmp_path / "sheet" / "sweep.json").read_text())["--content"] == "photos-{0..1}.tar"


def test_an_address_without_its_package_and_a_folder_that_is_none_end_as_elsewhere(material, tmp_path, capsys):
    style = str(material / "painting.png")

    assert main(["train", style, "--content", "gs://nobody/a.tar", "-o", str(tmp_path / "a.safetensors")]) == 3
    assert "pip install gcsfs" in capsys.readouterr().err
    assert main(["train", style, "--content", str(tmp_path / "b"), "-o", str(tmp_path / "a.safetensors")]) == 4

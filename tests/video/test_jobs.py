import json
from pathlib import Path

import pytest
from helpers.clips import make_clip, read
from helpers.material import ROOT
from helpers.photos import noise_file

from fastnst.cli import main

pytest.importorskip("av", reason="PyAV reads and writes video")

STYLE = ROOT / "checkpoints" / "great-wave-tiny.onnx"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()


def stylize(*arguments: object) -> int:
    return main(["stylize", *map(str, arguments), "--style", str(STYLE)])


@pytest.mark.parametrize("how", ["folder", "pattern", "list"])
def test_clips_among_pictures_are_painted_with_them(how, capsys):
    make_clip(Path("in/a.mp4"), frames=2)
    make_clip(Path("in/b.avi"), frames=2)
    noise_file(Path("in/c.png"))
    Path("in/d.mp4").write_bytes(Path("in/a.mp4").read_bytes()[:300])
    inputs = {"folder": ["in"], "pattern": ["in/*"], "list": sorted(Path("in").iterdir())}

    status = stylize(*inputs[how], "-o", "out", "--json", "--max-size", 32)

    said = json.loads(capsys.readouterr().out)
    assert (status, said["written"]) == (1, ["out/a.mp4", "out/b.mp4", "out/c.png"])
    assert [failed["input"] for failed in said["failed"]] == ["in/d.mp4"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.mp4", "b.mp4", "c.png"]
    assert len(read(Path("out/b.mp4"))) == 2


def test_options_of_clips_need_one_among_the_files(capsys):
    noise_file(Path("in/a.png"))

    assert stylize("in", "-o", "out", "--end", 0.2) == 2
    assert "--start and --end cut clips" in capsys.readouterr().err
    make_clip(Path("in/b.mp4"), frames=8)
    assert stylize("in", "-o", "out", "--end", 0.2, "--max-size", 32) == 0
    assert 1 <= len(read(Path("out/b.mp4"))) < 8


def test_a_clip_that_is_cut_off_is_written_and_reported(capsys):
    clip = make_clip(Path("in/a.mkv"), frames=40)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])

    assert stylize("in", "-o", "out", "--json", "--max-size", 32) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["written"], [failed["input"] for failed in said["failed"]]) == (["out/a.mkv"], ["in/a.mkv"])


def test_fail_fast_stops_at_a_clip_too():
    Path("in/a.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(99))
    noise_file(Path("in/b.png"))

    assert stylize("in", "-o", "out", "--fail-fast") == 1
    assert not Path("out").exists()

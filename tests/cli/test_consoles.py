"""Consoles that have no characters for a name: results are printed all the same, and nothing ends in a traceback."""

import io
import json
import os
import sys
from pathlib import Path

import pytest
from helpers.material import ROOT
from helpers.photos import noise_file

from fastnst.cli import main

STYLE = "état ✓.onnx"
PHOTO = os.fsdecode("photo é ✓ ".encode() + b"\xff.png")
COMMANDS = [
    (["stylize", PHOTO, "-o", "één ✓.png", "-s", STYLE], 0),
    (["stylize", "in é", "-o", "out ✓", "-s", STYLE, "-v"], 1),
    (["stylize", "missing ✓.jpg", "-o", "b.png", "-s", STYLE], 4),
    (["sheet", PHOTO, "-o", "sheet ✓.png", "-s", STYLE, "--tile-size", "32"], 0),
    (["info", STYLE], 0),
    (["styles"], 0),
    (["--help"], 0),
    (["train", "--help"], 0),
    (["frobnicate ✓"], 2),
    (["train", PHOTO, "--content", "nowhere ✓", "-o", "a.safetensors"], 4),
    (
        [
            "evaluate",
            "great-wave-tiny",
            "--content",
            "in é",
            "--style-image",
            PHOTO,
            "--size",
            "32",
            "--style-size",
            "64",
        ],
        1,
    ),
]


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(STYLE).write_bytes((ROOT / "checkpoints" / "great-wave-tiny.onnx").read_bytes())
    noise_file(Path(PHOTO), 64, 64)
    noise_file(Path("in é") / PHOTO, 64, 64)
    (Path("in é") / "damaged ✓.jpg").write_bytes(b"")


@pytest.fixture
def on_console(monkeypatch):
    """Run a command line on a console of an encoding, as strict as Python makes them: status, stdout and stderr."""

    def run(encoding, *words):
        streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
        for name, stream in zip(("stdout", "stderr"), streams, strict=True):
            monkeypatch.setattr(sys, name, stream)
        status = main(list(words))
        for stream in streams:
            stream.flush()
        return status, *(stream.buffer.getvalue().decode(encoding) for stream in streams)

    return run


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp1252"])
@pytest.mark.parametrize(("words", "status"), COMMANDS, ids=[words[0] for words, _ in COMMANDS])
def test_names_that_it_cannot_show_are_escaped(encoding, words, status, on_console):
    found, out, err = on_console(encoding, *words)

    assert (found, "Traceback" in out + err, "bug" in err) == (status, False, False)
    assert out or "\\u2713" in err


def test_the_name_of_a_result_is_still_told_and_json_is_exact(on_console):
    assert on_console("ascii", *COMMANDS[0][0])[1] == "\\xe9\\xe9n \\u2713.png\n"
    assert json.loads(on_console("ascii", "info", STYLE, "--json")[1])["file"] == STYLE
    assert on_console("utf-8", "info", STYLE)[1].startswith(f"file: {STYLE}\n")


def test_a_process_in_the_locale_c(fastnst, monkeypatch):
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)

    done = fastnst("stylize", "in é", "-o", "out ✓", "-s", STYLE)

    assert (done.returncode, b"Traceback" in done.stderr) == (1, False)
    assert done.stdout.isascii()
    assert done.stdout.startswith(b"out ")
    assert len(list(Path("out ✓").iterdir())) == 1

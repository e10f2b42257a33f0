from pathlib import Path

import pytest
from helpers.photos import noise_file

from fastnst.cli import main


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """What a command line that names no command is told."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        assert main(list(words)) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert (err.count("\n"), err.startswith("fastnst: ")) == (1, True)
        return err

    return run


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["photo.jpg"], "fastnst stylize photo.jpg -o painting.jpg"),
        (["my photo.HEIC"], "fastnst stylize 'my photo.HEIC' -o painting.jpg"),
        (["portrait"], "fastnst stylize portrait -o painting.jpg"),
        (["photos"], "fastnst stylize photos -o paintings"),
        (["clip.mov"], "fastnst stylize clip.mov -o painting.mp4"),
        (["-"], "fastnst stylize - -o -"),
        (["a.jpg", "-o", "b.png", "--strength", "0.5"], "fastnst stylize a.jpg -o b.png --strength 0.5"),
        (["-o", "b.png", "a.jpg"], "fastnst stylize -o b.png a.jpg"),
        (["-s", "great-wave", "a.jpg"], "fastnst stylize a.jpg -o painting.jpg"),
        (["candy.onnx"], "fastnst info candy.onnx"),
        (["great-wave"], "fastnst stylize photo.jpg -o painting.jpg --style great-wave"),
    ],
)
def test_a_name_without_a_command_gets_the_one_it_needs(words, command, said):
    noise_file(Path("portrait"), format="JPEG")
    Path("photos").mkdir()

    assert said(*words).endswith(f", not a command; type: {command}\n")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["stylise", "a.jpg"], "stylise is no command of fastnst; did you mean fastnst stylize?"),
        (["version"], "did you mean fastnst --version?"),
        (["benchmark", "photo"], "photo is no command of fastnst benchmark; give one of stylize, train"),
        (["visualize", "filter"], "did you mean fastnst visualize filters?"),
        (
            ["frobnicate"],
            "give one of batch, benchmark, dream, evaluate, export, finetune, import, info, merge, optimize",
        ),
        (["help", "frobnicate"], "frobnicate is no command of fastnst; give one of"),
        (["--frobnicate", "x"], "--frobnicate comes before any command; begin with one of batch, benchmark"),
        (["https://example.org/a.jpg"], "https://example.org/a.jpg is an address, and addresses are not fetched"),
    ],
)
def test_an_unknown_command_gets_the_closest_or_all(words, hint, said):
    assert hint in said(*words)


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        (["help"], "fastnst COMMAND"),
        (["help", "stylize"], "fastnst stylize"),
        (["stylize", "help"], "fastnst stylize"),
        (["help", "benchmark", "train"], "fastnst benchmark train"),
        (["visualize", "help"], "fastnst visualize COMMAND"),
    ],
)
def test_help_is_a_command(words, usage, capsys):
    assert main(words) == 0
    assert f"Usage: {usage}" in capsys.readouterr().out

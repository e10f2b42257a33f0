"""Everything the README tells a user to type works, in the order in which it stands there."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import PAINTINGS, PHOTOS, ROOT, Run

BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
# Three steps on small crops instead of an evening's training.
QUICK = shlex.split("--steps 3 --size 48 --batch-size 2 --preset fast --style-size 96 --precision fp32")


def test_readme_commands_work_in_order(tmp_path: Path, fastnst: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(PHOTOS / "red-panda.jpg", tmp_path / "photo.jpg")
    shutil.copy(PAINTINGS / "village-street.jpg", tmp_path / "my-painting.jpg")
    (tmp_path / "photos").mkdir()
    for name in ("owl", "cow", "lemur"):
        shutil.copy(PHOTOS / f"{name}.jpg", tmp_path / "photos")
    monkeypatch.chdir(tmp_path)

    ran = 0
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block, "README.md", "exec"), {})
            ran += 1
            continue
        for line in filter(None, map(str.strip, block.splitlines())):
            words = shlex.split(line, comments=True)
            if words[0] in ("pip", "scripts/demo", "scripts/test"):
                continue  # how this very environment was made, and what runs this test
            stdin = b""
            if words[0] == "cat":
                stdin, words = Path(words[1]).read_bytes(), words[3 : words.index(">")]
            assert words.pop(0) == "fastnst", line
            result = fastnst(*words, *(QUICK if words[0] in ("train", "sweep") else ()), stdin=stdin)
            assert result.returncode == 0, f"{line}\n{result.stderr.decode()}"
            ran += 1

    assert ran >= 12
    for name in ("painting.jpg", "wave.png", "sheet.jpg", "great-wave.png", "deployed.jpg", "painted.png"):
        assert (tmp_path / name).is_file(), name
    assert len(list((tmp_path / "paintings").glob("*.webp"))) == 3


def test_readme_names_every_command_and_file_it_links_to() -> None:
    text = (ROOT / "README.md").read_text()

    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / target).is_file(), target
    for command in ("train", "sweep", "stylize", "styles", "sheet", "export", "evaluate", "benchmark", "info"):
        assert f"fastnst {command}" in text

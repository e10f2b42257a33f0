"""Everything the README tells a user to type works, in the order in which it stands there."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from helpers.clips import make_animation, make_clip
from helpers.material import PAINTINGS, PHOTOS, ROOT, Run
from PIL import Image

BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
# Three steps on small crops instead of an evening's training, and little pictures.
TRAINING = "--steps 3 --size 48 --batch-size 2 --preset fast --style-size 96 --precision fp32"
QUICK = {
    "train": TRAINING,
    "sweep": TRAINING,
    "optimize": "--iterations 1 --size 288",
    **dict.fromkeys(["reconstruct", "tradeoff"], "--iterations 1 --size 48"),
    "dream": "--iterations 1 --max-size 96 --octaves 2",
    "visualize filters": "--iterations 1 --size 32 --filters 0-1",
}


def quick(words: list[str]) -> list[str]:
    """The same command with little to do; its own options of the same names are left out."""
    name = next((name for name in QUICK if words[: len(name.split())] == name.split()), None)
    options = shlex.split(QUICK[name]) if name else []
    kept: list[str] = []
    for word in words:
        if kept and kept[-1] in options:
            kept.pop()
        else:
            kept.append(word)
    return kept + options


def run_page(name: str, fastnst: Run) -> int:
    """How many commands of a page in docs were run."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / name).read_text(), flags=re.DOTALL)
    return sum(run_commands(block, fastnst) for block in blocks)


def run_commands(block: str, fastnst: Run) -> int:
    """How many commands of a block were run."""
    ran = 0
    for line in filter(None, map(str.strip, block.splitlines())):
        words = shlex.split(line, comments=True)
        if words[0] in ("pip", "scripts/demo", "scripts/test"):
            continue  # how this very environment was made, and what runs this test
        stdin = b""
        if words[0] == "cat":
            stdin, words = Path(words[1]).read_bytes(), words[3 : words.index(">")]
        assert words.pop(0) == "fastnst", line
        result = fastnst(*quick(words), stdin=stdin)
        assert result.returncode == 0, f"{line}\n{result.stderr.decode()}"
        ran += 1
    return ran


def test_readme_commands_work_in_order(tmp_path: Path, fastnst: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(PHOTOS / "red-panda.jpg", tmp_path / "photo.jpg")
    shutil.copy(PAINTINGS / "village-street.jpg", tmp_path / "my-painting.jpg")
    make_clip(tmp_path / "clip.mp4", frames=12, sound="aac")
    make_animation(tmp_path / "move.gif")
    make_mask(tmp_path)
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
        ran += run_commands(block, fastnst)

    assert ran >= 12
    for name in ("painting.jpg", "wave.png", "sheet.jpg", "great-wave.png", "deployed.jpg", "painted.png"):
        assert (tmp_path / name).is_file(), name
    assert len(list((tmp_path / "paintings").glob("*.webp"))) == 3


def make_mask(folder: Path) -> None:
    """A mask.png that fits photo.jpg: from black on the left to white on the right."""
    with Image.open(folder / "photo.jpg") as photo:
        Image.linear_gradient("L").rotate(90).resize(photo.size).save(folder / "mask.png")


def test_commands_of_painting_work_in_order(tmp_path: Path, fastnst: Run) -> None:
    shutil.copy(PAINTINGS / "village-street.jpg", tmp_path / "my-painting.jpg")
    make_clip(tmp_path / "clip.mp4", frames=8, sound="aac")
    make_animation(tmp_path / "move.gif")
    with Image.open(PHOTOS / "red-panda.jpg") as photo:
        photo.thumbnail((200, 200))
        photo.save(tmp_path / "photo.jpg")
        (tmp_path / "photos").mkdir()
        photo.save(tmp_path / "photos" / "red-panda.jpg")
    make_mask(tmp_path)

    assert run_page("painting.md", fastnst) >= 14
    for name in (
        "half.jpg",
        "bold.jpg",
        "two.jpg",
        "between.jpg",
        "print.png",
        "painted.mp4",
        "steady.mp4",
        "painted.gif",
    ):
        assert (tmp_path / name).is_file(), name


def test_commands_of_the_slow_way_work_in_order(tmp_path: Path, fastnst: Run) -> None:
    (tmp_path / "pairs").mkdir()
    for target, source in {
        "photo.jpg": PHOTOS / "castle.jpg",
        "my-painting.jpg": PAINTINGS / "village-street.jpg",
        "other-painting.jpg": PAINTINGS / "poppies.jpg",
        "silhouette.png": ROOT / "examples" / "masks" / "bison.png",
        "my-style.safetensors": ROOT / "checkpoints" / "great-wave-tiny.safetensors",
        "pairs/content_cat.jpg": PHOTOS / "cat.jpg",
        "pairs/style_poppies.jpg": PAINTINGS / "poppies.jpg",
    }.items():
        shutil.copy(source, tmp_path / target)
    make_mask(tmp_path)

    assert run_page("slow-way.md", fastnst) >= 15
    for name in (
        "gatys.png",
        "painted/cat--poppies.png",
        "silhouette.jpg",
        "depths.jpg",
        "zoom.gif",
        "octaves/octave-2.png",
    ):
        assert (tmp_path / name).is_file(), name


def test_pages_link_to_files_that_are_there() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).is_file(), f"{page.name}: {target}"


def test_readme_names_every_command_and_file_it_links_to() -> None:
    text = (ROOT / "README.md").read_text()

    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / target).is_file(), target
    commands = "train sweep stylize styles sheet export evaluate benchmark info optimize reconstruct tradeoff dream"
    for command in [*commands.split(), "visualize", "finetune", "import"]:
        assert f"fastnst {command}" in text

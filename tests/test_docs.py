"""What the README and the pages in docs tell a user to type works, in the order in which it stands there.

Bash and Python blocks are run; console blocks are only shown. The page on fine-tuning has its test in tests/finetune,
that on the service in tests/serve.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from helpers.clips import make_animation, make_clip
from helpers.material import PAINTINGS, PHOTOS, ROOT, Run
from PIL import Image

from fastnst.checkpoint import CheckpointMeta
from fastnst.cli import main
from fastnst.cli.app import app
from fastnst.errors import FastnstError
from fastnst.logs import StepReport
from fastnst.serve.runtime import runtime_folder

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md"))]
PAGES += [ROOT / "checkpoints" / "README.md"]

# Three steps on small crops instead of an evening's training, and little pictures.
TRAINING = "--steps 3 --size 48 --batch-size 2 --preset fast --style-size 96 --precision fp32"
QUICK = {
    "train": TRAINING,
    "sweep": TRAINING,
    "optimize --scales": "--iterations 1 --size 288",
    "optimize": "--iterations 1 --size 96",
    **dict.fromkeys(["reconstruct", "tradeoff"], "--iterations 1 --size 48"),
    "evaluate": "--size 64",
    "dream --zoom": "--iterations 1 --max-size 96 --octaves 2 --zoom 2",
    "dream": "--iterations 1 --max-size 96 --octaves 2",
    "visualize filters": "--iterations 1 --size 32 --filters 0-1",
}
# The same in Python.
QUICK_PYTHON = {"steps=400": "steps=3, size=48, batch_size=2, style_size=96, precision='fp32'"}


def quick(words: list[str]) -> list[str]:
    """The same command with little to do; its own options of the same names are left out."""
    name = next((name for name in QUICK if set(name.split()) <= set(words)), None)
    options = shlex.split(QUICK[name]) if name else []
    kept: list[str] = []
    for word in words:
        if kept and kept[-1] in options:
            kept.pop()
        else:
            kept.append(word)
    return kept + options


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each block that is to be run."""
    return re.findall(r"```(bash|python)\n(.*?)```", page.read_text(), flags=re.DOTALL)


def commands(block: str) -> list[str]:
    return list(filter(None, map(str.strip, block.replace("\\\n", " ").splitlines())))


def run_page(page: Path, fastnst: Run, elsewhere: Collection[str] = ()) -> list[str]:
    """Run the blocks of a page in order, those in Python in one namespace; the commands that were run.

    Those that other pages run to the letter need not run twice.
    """
    ran: list[str] = []
    namespace: dict[str, Any] = {"__name__": page.stem}
    for language, block in blocks(page):
        if language == "bash":
            ran += run_commands([line for line in commands(block) if line not in elsewhere], fastnst)
            continue
        for text, replacement in QUICK_PYTHON.items():
            block = block.replace(text, replacement)
        exec(compile(block, page.name, "exec"), namespace)
    return ran


def run_commands(lines: Iterable[str], fastnst: Run) -> Iterator[str]:
    """The commands, each when it was run."""
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[0] in ("pip", "scripts/demo", "scripts/test"):
            continue  # how this very environment was made, and what runs this test
        if words[:2] == ["fastnst", "site"] and runtime_folder() is None:
            continue  # which needs what npm installs
        stdin = b""
        if words[0] == "cat":
            stdin, words = Path(words[1]).read_bytes(), words[3 : words.index(">")]
        assert words.pop(0) == "fastnst", line
        result = fastnst(*quick(words), stdin=stdin)
        assert result.returncode == 0, f"{line}\n{result.stderr.decode()}"
        yield line


@pytest.fixture
def typed(fastnst: Run, capfd: pytest.CaptureFixture[str]) -> Run:
    """Like fastnst, but in this process, where torch is there already, unless something is piped in."""

    def run(*words: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        if stdin:
            return fastnst(*words, stdin=stdin)
        status = main(words)
        return subprocess.CompletedProcess(words, status, *(text.encode() for text in capfd.readouterr()))

    return run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the photos, the painting, the mask and the clips that the pages take for granted."""
    shutil.copy(PAINTINGS / "village-street.jpg", tmp_path / "my-painting.jpg")
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints")
    (tmp_path / "photos").mkdir()
    names = {f"photos/{name}": name for name in ("owl", "cow", "lemur")}
    for target, name in {**names, "photo": "red-panda"}.items():
        with Image.open(PHOTOS / f"{name}.jpg") as photo:
            photo.thumbnail((200, 200))
            photo.save(tmp_path / f"{target}.jpg")
    make_mask(tmp_path)
    make_clip(tmp_path / "clip.mp4", frames=8, sound="aac")
    make_animation(tmp_path / "move.gif")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_mask(folder: Path) -> None:
    """A mask.png that fits photo.jpg: from black on the left to white on the right."""
    with Image.open(folder / "photo.jpg") as photo:
        Image.linear_gradient("L").rotate(90).resize(photo.size).save(folder / "mask.png")


def missing(folder: Path, names: str) -> list[str]:
    return [name for name in names.split() if not (folder / name).is_file()]


def test_readme_works_in_order(folder: Path, fastnst: Run) -> None:
    shutil.copy(ROOT / "checkpoints" / "great-wave-tiny.safetensors", folder / "my-style.safetensors")
    pages = [DOCS / "page.md", DOCS / "painting.md", DOCS / "training.md"]
    elsewhere = [
        line for page in pages for language, block in blocks(page) if language == "bash" for line in commands(block)
    ]

    ran = run_page(ROOT / "README.md", fastnst, elsewhere)

    assert len(ran) >= 7
    assert missing(folder, "painting.jpg wave.png sheet.jpg great-wave.png deployed.jpg painted.png") == []


def test_page_works_in_order(folder: Path, typed: Run) -> None:
    if runtime_folder() is None:
        pytest.skip("onnxruntime-web is not installed here; run npm ci")

    assert len(run_page(DOCS / "page.md", typed)) == 2
    assert missing(folder, "public/index.html public/service-worker.js public/styles.json") == []


def test_painting_works_in_order(folder: Path, typed: Run) -> None:
    ran = run_page(DOCS / "painting.md", typed)

    assert len(ran) >= 16
    files = "half.jpg bold.jpg two.jpg between.jpg print.png painted.mp4 steady.mp4 painted.gif paintings/owl.webp"
    assert missing(folder, files) == []
    assert len(list((folder / "paintings").glob("*.jpg"))) == 3


def test_training_works_in_order(folder: Path, typed: Run) -> None:
    ran = run_page(DOCS / "training.md", typed)

    assert len(ran) >= 9
    files = "mine.jpg my-style/report.html my-style/metrics.jsonl quick.safetensors steady.safetensors weights.jpg"
    assert missing(folder, files) == []


def test_optimization_works_in_order(folder: Path, typed: Run) -> None:
    (folder / "pairs").mkdir()
    for target, source in {
        "photo.jpg": PHOTOS / "castle.jpg",
        "other-painting.jpg": PAINTINGS / "poppies.jpg",
        "silhouette.png": ROOT / "examples" / "masks" / "bison.png",
        "my-style.safetensors": ROOT / "checkpoints" / "great-wave-tiny.safetensors",
        "pairs/content_cat.jpg": PHOTOS / "cat.jpg",
        "pairs/style_poppies.jpg": PAINTINGS / "poppies.jpg",
    }.items():
        shutil.copy(source, folder / target)
    make_mask(folder)

    ran = run_page(DOCS / "optimization.md", typed)

    assert len(ran) >= 15
    files = "gatys.png painted/cat--poppies.png silhouette.jpg depths.jpg zoom.gif octaves/octave-2.png"
    assert missing(folder, files) == []


def test_python_works_in_order(folder: Path, typed: Run) -> None:
    run_page(DOCS / "python.md", typed)

    assert missing(folder, "great-wave.png my-style.safetensors my-style.onnx") == []


def test_reference_works_in_order(folder: Path, typed: Run) -> None:
    shutil.copy(ROOT / "checkpoints" / "great-wave-tiny.safetensors", folder / "my-style.safetensors")

    assert len(run_page(DOCS / "reference.md", typed)) == 2


def headings(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text()):
        linked = page.parent / target if target else page
        assert linked.is_file(), target
        assert not anchor or anchor in headings(linked), f"{target}#{anchor}"


def test_every_page_is_linked_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text()

    assert [page.name for page in DOCS.glob("*.md") if f"](docs/{page.name}" not in text] == []


def test_reference_names_every_command_exit_status_and_key() -> None:
    text = (DOCS / "reference.md").read_text()
    commands = [name for name in app if not name.startswith("-")]
    statuses = {kind.exit_status for kind in subclasses(FastnstError) if hasattr(kind, "exit_status")}
    keys = [field.name for kind in (CheckpointMeta, StepReport) for field in fields(kind)]

    assert len(commands) >= 16
    assert [name for name in commands if not re.search(rf"`{name}[` ]", text)] == []
    assert [status for status in statuses if f"| {status} |" not in text] == []
    assert [key for key in keys if f"`{key}`" not in text] == []


def subclasses(kind: type) -> Iterator[Any]:
    yield kind
    for one in kind.__subclasses__():
        yield from subclasses(one)


def test_architecture_names_every_module_and_nothing_else() -> None:
    rows = re.findall(r"^\| (`.+?) \|(.*)\|$", (DOCS / "architecture.md").read_text(), flags=re.MULTILINE)
    named = set()
    for first, second in rows:
        for name in re.findall(r"`([\w/]+)(?:\.py)?`", first):
            inside = re.findall(r"`(\w+)`", second) if name.endswith("/") else [""]
            named |= {(name + one).removesuffix(".py") for one in inside}
    package = ROOT / "fastnst"
    modules = {path.relative_to(package).with_suffix("").as_posix() for path in package.rglob("*.py")}

    assert named == {name for name in modules if not name.endswith(("__init__", "__main__"))}

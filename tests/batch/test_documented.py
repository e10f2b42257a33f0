"""What docs/batch.md says is so: its commands, its columns, its codes."""

import json
import re
import shlex
import tarfile
from dataclasses import fields

import pytest
from helpers.batches import files, manifest
from helpers.clips import make_clip
from helpers.material import PHOTOS, ROOT
from PIL import Image

from fastnst import errors
from fastnst.batch.rows import FINAL_CODES, Row
from fastnst.cli import main
from fastnst.cli.main import app

TEXT = (ROOT / "docs" / "batch.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)
SHOWN = [line for line in re.findall(r"^\$ (.*)$", TEXT, flags=re.MULTILINE) if line.startswith("fastnst")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the page takes for granted: photos, a list, a table and a tar of them, a clip."""
    (tmp_path / "photos").mkdir()
    names = [f"photos/{name}.jpg" for name in ("owl", "cow")]
    for name in names:
        with Image.open(PHOTOS / name[7:]) as photo:
            photo.thumbnail((96, 96))
            photo.save(tmp_path / name)
    (tmp_path / "list.txt").write_text("# both\n" + "\n".join(names))
    (tmp_path / "table.jsonl").write_text("".join(json.dumps({"image": name}) + "\n" for name in names))
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for name in names:
            tar.add(tmp_path / name, name[7:])
    make_clip(tmp_path / "clip.mp4", frames=6)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands_work_in_order(folder, capfd):
    """Without Ray, which test_on_ray starts, and with the smallest style."""
    lines = [line for block in BLOCKS for line in block.splitlines()]
    for line in lines:
        words = shlex.split(line.replace("--style great-wave", "--style great-wave-tiny"))[1:]
        if words[0] == "batch" and "--address" not in words:
            words += ["--address", "none"]
        assert main(words) == 0, (line, capfd.readouterr().err)

    assert len(lines) >= 13
    both = {"owl.jpg", "cow.jpg"}
    for name in ("paintings", "painted-here", "from-list", "from-table", "once", "shared"):
        assert {path.rpartition("/")[2] for path in files(folder / name) if path.endswith(".jpg")} == both
    assert files(folder / "from-tar").keys() == {f"photos/{name}" for name in both}
    assert len(list((folder / "as-tars").glob("*.tar"))) == len(list((folder / "as-parquet").glob("*.parquet"))) == 1
    assert (folder / "film" / "clip.mp4").is_file()
    assert {row["input"] for row in manifest(folder / "shared")} == {f"photos/{name}" for name in both}


@pytest.mark.parametrize("line", SHOWN)
def test_command_lines_are_understood(line):
    app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)


def test_every_column_and_code_is_told():
    table = TEXT[TEXT.index("| column |") : TEXT.index("`batch.json` says")]
    assert [field.name for field in fields(Row) if f"`{field.name}`" not in table] == []

    told = dict(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| [^|]+ \| ([^|]+) \|$", TEXT, flags=re.MULTILINE))
    told.pop("`code`")
    codes = {code: "--retry" not in again for names, again in told.items() for code in re.findall(r"\w+", names)}
    assert {code for code, again in codes.items() if not again} == FINAL_CODES
    others = {"died", "memory", errors.StorageError.code, "environment", "output", "internal"}
    assert codes.keys() - FINAL_CODES == others

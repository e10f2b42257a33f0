import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers.engines import GRAY, isolated
from helpers.material import PHOTOS, PROGRAMS, ROOT
from PIL import Image

from fastnst.engine import open_engine
from fastnst.errors import ModelError, UsageError
from fastnst.export import export
from fastnst.image import read_picture, to_array
from fastnst.info import describe
from fastnst.styles import DEFAULT_STYLE, bundled_names, bundled_style, bundled_styles, catalogue_folder

UNSAFE_NAMES = ["../../etc/passwd", "a/b", "A", "a" * 65, "a" * 300, "a\0b", "", ".", "..", "-a", "a b", "~", "\udcff"]


def test_there_are_at_least_ten_styles_and_the_default_is_one_of_them():
    names = bundled_names()

    assert len(names) >= 10
    assert names == sorted(set(names))
    assert DEFAULT_STYLE in names


def test_every_style_has_three_files_a_credit_and_its_own_name():
    for style in bundled_styles():
        meta = json.loads(bytes_of_header(style.checkpoint))
        assert style.checkpoint.is_file()
        assert style.onnx.is_file()
        with Image.open(style.preview) as preview:
            assert preview.format == "JPEG"
        assert style.credit.strip()
        assert meta["style"] == {"name": style.name, "credit": style.credit}
        assert meta["preset"] == style.preset
        assert (ROOT / "scripts" / "recipes" / f"{style.name}.sh").is_file()


def bytes_of_header(path: Path) -> str:
    """The text under `fastnst` in a checkpoint's header."""
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    text: str = header["__metadata__"]["fastnst"]
    return text


def test_there_are_no_files_of_styles_that_are_not_in_the_catalogue():
    stems = {path.stem for path in catalogue_folder().iterdir() if path.suffix in (".onnx", ".safetensors", ".jpg")}

    assert stems == set(bundled_names())


def test_both_engines_paint_every_style_alike():
    image = to_array(read_picture(PHOTOS / "red-panda.jpg", max_size=256).rgb)

    for name in bundled_names():
        painted = open_engine(name, "onnx", "cpu")(image)
        np.testing.assert_allclose(painted, open_engine(name, "torch", "cpu")(image), rtol=0, atol=GRAY, err_msg=name)
        assert painted.std() > 0.05, name  # a picture, not a plain color


def test_the_styles_paint_differently():
    image = to_array(read_picture(PHOTOS / "red-panda.jpg", max_size=128).rgb)
    paintings = [open_engine(name, "onnx", "cpu")(image) for name in bundled_names()]

    for i, one in enumerate(paintings):
        assert all(np.abs(one - other).mean() > 0.02 for other in paintings[:i])  # five gray levels


def test_without_a_name_the_default_style_opens():
    image = np.random.default_rng(0).random((1, 3, 32, 32), dtype=np.float32)

    np.testing.assert_array_equal(open_engine()(image), open_engine(DEFAULT_STYLE)(image))


def test_the_command_prints_one_style_a_line_with_its_name_first(fastnst):
    done = fastnst("styles")

    assert (done.returncode, done.stderr) == (0, b"")
    assert [line.split()[0] for line in done.stdout.decode().splitlines()] == bundled_names()


def test_the_command_prints_json(fastnst):
    done = fastnst("styles", "--json")

    found = json.loads(done.stdout)
    assert [style["name"] for style in found] == bundled_names()
    assert [style["name"] for style in found if style["default"]] == [DEFAULT_STYLE]


def test_an_unknown_name_suggests_the_closest():
    wrong = DEFAULT_STYLE[:-1]

    with pytest.raises(UsageError, match=f"no bundled style '{wrong}'; did you mean {DEFAULT_STYLE}"):
        bundled_style(wrong)


def test_a_name_like_no_other_lists_them_all():
    with pytest.raises(UsageError, match=f"choose from {', '.join(bundled_names())}"):
        bundled_style("zzzzzzzz")


@pytest.mark.parametrize("name", UNSAFE_NAMES)
def test_a_name_that_could_be_a_path_is_refused(name):
    with pytest.raises(UsageError):
        bundled_style(name)
    with pytest.raises((UsageError, ModelError)):
        open_engine(name)


def test_names_that_could_be_paths_open_nothing_outside_the_catalogue(tmp_path):
    done = isolated(PROGRAMS / "open_styles.py", json.dumps(UNSAFE_NAMES), cwd=tmp_path)

    statuses, opened = json.loads(done.stdout)
    assert len(statuses) == len(UNSAFE_NAMES)
    assert set(statuses) <= {2, 4}
    assert [path for path in opened if catalogue_folder() not in Path(path).parents] == []


def test_a_path_as_the_name_of_a_style_exits_with_one_sentence(fastnst, tmp_path):
    done = fastnst("stylize", PHOTOS / "cat.jpg", "-o", "out.png", "--style", "../../etc/passwd")

    assert done.returncode in (2, 4)
    assert done.stderr.count(b"\n") == 1
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("name", ["great-wave-tiny", "great-wave-tiny.safetensors"])
def test_export_takes_a_name_or_a_file(tmp_path, monkeypatch, name):
    style = bundled_style("great-wave-tiny")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "great-wave-tiny.safetensors").write_bytes(style.checkpoint.read_bytes())

    report = export(name, "a.onnx")

    assert describe(report.path)["style"]["name"] == style.name
    image = to_array(read_picture(PHOTOS / "red-panda.jpg", max_size=64).rgb)
    np.testing.assert_allclose(
        open_engine("a.onnx", "onnx", "cpu")(image), open_engine(style.onnx, "onnx", "cpu")(image), rtol=0, atol=GRAY
    )


def test_info_and_export_know_the_names_of_stylize(fastnst, tmp_path):
    done = fastnst("info", "great-wave", "--json")

    assert json.loads(done.stdout) == describe(bundled_style("great-wave").onnx) == describe("great-wave")
    for command in (["info"], ["export", "-o", "a.onnx"], ["stylize", PHOTOS / "cat.jpg", "-o", "a.png", "--style"]):
        done = fastnst(*command, "great-wav")
        assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
        assert b"no bundled style 'great-wav'; did you mean great-wave, or give a" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["stylize", "ADDRESS", "-o", "a.png"],
        ["stylize", "ADDRESS", "-o", "folder"],
        ["stylize", PHOTOS / "cat.jpg", "-o", "ADDRESS"],
        ["stylize", PHOTOS / "cat.jpg", "-o", "a.png", "--style", "ADDRESS"],
        ["info", "ADDRESS"],
        ["export", "ADDRESS", "-o", "a.onnx"],
    ],
)
def test_a_web_address_is_not_fetched_and_told_unchanged(fastnst, arguments):
    address = "https://example.org/a//b.jpg?size=1&x=2"

    done = fastnst(*(address if word == "ADDRESS" else word for word in arguments))

    assert done.returncode == 2
    assert done.stderr.decode() == (
        f"fastnst: {address} is an address, and addresses are not fetched or written to; give a file\n"
    )


def test_tracked_files_stay_under_80_mib():
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, check=False)
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name] or list(ROOT.glob("[a-z]*/**/*"))
    files = [path for path in files if "node_modules" not in path.parts]  # where there is no git to ask

    assert sum(path.stat().st_size for path in files if path.is_file()) < 80 << 20

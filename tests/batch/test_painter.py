"""One process that paints: what it writes is what `fastnst stylize` writes, and a bad picture is a row."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from helpers.batches import files, mixed, paintings
from helpers.photos import noise_file
from PIL import Image

from fastnst.batch.items import Item
from fastnst.batch.painter import Painter
from fastnst.batch.spec import spec_of
from fastnst.batch.tasks import Contents, Copies, Pictures, Task, blocks
from fastnst.config import ClipOptions, StylizeOptions
from fastnst.errors import InputError, OutputError, UsageError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return mixed(tmp_path_factory.mktemp("pictures"), 18)


def items(folder):
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(Item(str(path), str(path), path.relative_to(folder).as_posix()) for path in paths)


def painter(output, style, clip=None, **options):
    return Painter(spec_of(str(output), [str(style)], StylizeOptions(**options), clip or ClipOptions(), "files"))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"format": "png", "strength": 0.5, "preserve_color": "luma"},
        {"max_size": 64, "stroke": 2.0, "quality": 50},
        {"allow_truncated": True, "format": "webp"},
    ],
    ids=["plain", "half", "small", "truncated"],
)
def test_files_are_those_of_stylize_byte_for_byte(folder, onnx_style, tmp_path, options):
    expected = paintings(folder, tmp_path / "stylized", onnx_style, StylizeOptions(**options))

    rows = list(painter(tmp_path / "painted", onnx_style, **options).paint(items(folder)))

    assert files(tmp_path / "painted") == expected
    assert len(expected) >= 14
    assert {row.output for row in rows if row.painted} == expected.keys()
    assert len(rows) == 18


def test_blocks_without_a_pause_give_the_same_rows(folder, onnx_style, tmp_path):
    some = items(folder)
    one = list(painter(tmp_path / "one", onnx_style).paint(some))

    many = list(painter(tmp_path / "many", onnx_style).paint_blocks(list(blocks(some, 5))))

    assert [len(rows) for rows in many] == [5, 5, 5, 3]
    told = [row.without_seconds() for rows in many for row in rows]
    assert sorted(map(str, told)) == sorted(str(row.without_seconds()) for row in one)


def test_pictures_of_one_size_are_painted_together(onnx_style, tmp_path):
    for number in range(9):
        noise_file(tmp_path / "in" / f"{number}.png", height=40, width=48 if number % 3 else 56)
    (tmp_path / "in" / "4.png").write_bytes(b"no picture")
    one = painter(tmp_path / "one", onnx_style)
    list(one.paint(items(tmp_path / "in")))

    together = painter(tmp_path / "many", onnx_style, ClipOptions(batch_size=4))
    rows = list(together.paint(items(tmp_path / "in")))

    assert sorted((row.input[-5:], row.painted) for row in rows) == [(f"{n}.png", n != 4) for n in range(9)]
    for name in files(tmp_path / "one"):
        a, b = (np.asarray(Image.open(tmp_path / kind / name), dtype=int) for kind in ("one", "many"))
        assert abs(a - b).max() <= 1


def test_a_damaged_picture_is_a_row_with_what_stylize_says(folder, onnx_style, tmp_path):
    rows = list(painter(tmp_path, onnx_style).paint(items(folder)))

    failed = {row.code: row.error for row in rows if not row.painted}
    assert failed.keys() >= {"unusable_input", "unsupported_format"}
    assert all(str(folder) in error for error in failed.values())
    assert all(row.sha256 is None and row.output is None for row in rows if not row.painted)


def test_what_cannot_be_encoded_is_a_row(onnx_style, tmp_path):
    noise_file(tmp_path / "in" / "long.png", height=16, width=16_384)  # WebP has 16,383 at most
    noise_file(tmp_path / "in" / "short.png")

    long, short = sorted(painter(tmp_path / "out", onnx_style, format="webp").paint(items(tmp_path / "in")), key=str)

    assert (long.code, short.painted) == ("output", True)
    assert "16384x16" in long.error


def test_other_machines_need_no_file_of_the_user(onnx_style, tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (48, 48), "teal").save(tmp_path / "in" / "a.png")
    Image.linear_gradient("L").resize((48, 48)).save(tmp_path / "mask.png")
    style = tmp_path / "style.onnx"
    style.write_bytes(onnx_style.read_bytes())
    spec = spec_of(
        str(tmp_path / "out"), [str(style)], StylizeOptions(mask=tmp_path / "mask.png"), ClipOptions(), "files"
    )
    list(Painter(spec).paint(items(tmp_path / "in")))
    expected = files(tmp_path / "out")

    sent = pickle.dumps(spec.carried(1, 0))
    style.unlink()
    (tmp_path / "mask.png").unlink()
    other = Painter(replace(pickle.loads(sent), output=str(tmp_path / "there")))
    list(other.paint(items(tmp_path / "in")))
    other.close()

    assert files(tmp_path / "there") == expected
    assert len(expected) == 1


def test_pictures_one_by_one_are_told_before_and_may_be_refused(onnx_style, tmp_path):
    for number in range(3):
        noise_file(tmp_path / "in" / f"{number}.png")
    begun = []

    def mark(number):
        begun.append(number)
        return number != 1

    done = painter(tmp_path / "out", onnx_style).do(Task(7, Pictures(items(tmp_path / "in"))), mark)

    assert (done.number, begun) == (7, [0, 1, 2])
    assert [row.code for row in done.rows] == [None, "died", None]
    assert sorted(files(tmp_path / "out")) == ["0.png", "2.png"]


def test_contents_and_copies(onnx_style, tmp_path):
    first = noise_file(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes(first.read_bytes())
    noise_file(tmp_path / "in" / "c.png", height=30)
    a, b, c = items(tmp_path / "in")
    gone = Item("gone.png", str(tmp_path / "gone.png"), "gone.png")
    one = painter(tmp_path / "out", onnx_style)

    digests = one.do(Task(0, Contents((a, b, c, gone)))).digests
    (row,) = one.do(Task(1, Pictures((a,)))).rows
    (copy,) = one.do(Task(2, Copies(((b, row),)))).rows

    assert digests[0] == digests[1] != digests[2]
    assert digests[3] is None
    assert (copy.input, copy.output, copy.same_as, copy.sha256) == (b.key, "b.png", a.key, row.sha256)
    written = files(tmp_path / "out")
    assert written["a.png"] == written["b.png"]


def test_what_concerns_all_pictures_is_raised(onnx_style, tmp_path):
    noise_file(tmp_path / "in" / "a.png")
    with pytest.raises(OutputError):
        list(painter("/proc/nowhere", onnx_style).paint(items(tmp_path / "in")))
    (tmp_path / "damaged.onnx").write_bytes(b"no style")
    with pytest.raises(InputError):
        list(painter(tmp_path / "there", tmp_path / "damaged.onnx").paint(items(tmp_path / "in")))
    with pytest.raises(UsageError, match="frames all"):
        spec_of("out", [], StylizeOptions(frames="all"), ClipOptions(), "files")
    with pytest.raises(UsageError, match="goes to a folder"):
        spec_of("-", [], StylizeOptions(), ClipOptions(), "files")

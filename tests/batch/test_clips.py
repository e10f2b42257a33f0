import hashlib
import pickle
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
from helpers.clips import decoded, make_animation, make_clip

from fastnst.batch import clips
from fastnst.batch.clips import Piece
from fastnst.batch.items import Item
from fastnst.batch.rows import Row
from fastnst.batch.tars import items_of_tars
from fastnst.cli import main
from fastnst.config import ClipOptions, StylizeOptions
from fastnst.errors import InputError, StorageError
from fastnst.storage.addresses import exists, read, remove, write
from fastnst.stylize import Stylizer
from fastnst.video.stylize import Job, stylize_clip

NEGATIVE = Stylizer(lambda images: 1 - images)
OPTIONS = StylizeOptions()
WHOLE = ClipOptions()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 frames with sound, and a key frame after every 8."""
    keys = {"g": "8", "keyint_min": "8", "sc_threshold": "0", "bf": "2"}
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return make_clip(path, size=(128, 96), frames=24, rate=25, sound="aac", encoding=keys)


@pytest.fixture(scope="module")
def painted(clip: Path) -> bytes:
    """What becomes of it in one go."""
    return stylize_clip(NEGATIVE, Job(clip, clip.with_name("one.mp4")), OPTIONS, WHOLE).path.read_bytes()


def item_of(place: object, kept: str = "a/clip.mp4") -> Item:
    return Item(str(place), str(place), kept, clip=True)


def pieces_of(item: Item, seconds: float | None = 0.3, settings: str = "") -> list[Piece]:
    """As they travel to actors."""
    return [pickle.loads(pickle.dumps(piece)) for piece in clips.cut(item, WHOLE, seconds, settings)]


def paint(pieces: list[Piece], output: str) -> list[Row | None]:
    return [clips.paint(NEGATIVE, piece, output, OPTIONS, WHOLE) for piece in pieces]


def names_below(output: str) -> list[str]:
    """All files there, hidden ones, too."""
    if "://" not in output:
        return sorted(path.relative_to(output).as_posix() for path in Path(output).rglob("*") if path.is_file())
    store, folder = fsspec.url_to_fs(output)
    return sorted(name.removeprefix(folder + "/") for name in store.find(folder))


def check_row(row: Row | None, item: Item, painted: bytes) -> None:
    assert row is not None
    assert row.seconds > 0
    assert row.without_seconds() == {
        "input": item.key,
        "output": "a/clip.mp4",
        "status": "painted",
        "error": None,
        "code": None,
        "sha256": hashlib.sha256(painted).hexdigest(),
        "same_as": None,
        "frames": 24,
        "problem": None,
    }


@pytest.fixture(params=["local", "remote"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.getfixturevalue("memory") + "/out" if request.param == "remote" else str(tmp_path / "out")


@pytest.fixture(params=["local", "remote"])
def item(request: pytest.FixtureRequest, clip: Path, memory: str) -> Item:
    if request.param == "local":
        return item_of(clip)
    write(f"{memory}/in/clip.mp4", clip.read_bytes())
    return item_of(f"{memory}/in/clip.mp4")


def test_a_clip_is_painted_whole(item, output, painted):
    pieces = pieces_of(item, None)
    assert pieces == [Piece(item)]
    assert clips.missing(pieces, output) == pieces

    (row,) = paint(pieces, output)

    check_row(row, item, painted)
    assert read(f"{output}/a/clip.mp4") == painted
    assert names_below(output) == ["a/clip.mp4"]


def test_parts_are_painted_anywhere_and_joined(item, output, painted):
    pieces = pieces_of(item)

    assert len(pieces) == 3
    assert clips.missing(pieces, output) == pieces
    assert paint(pieces[::2], output) == [None, None]
    assert clips.missing(pieces, output) == [pieces[1]]
    assert paint([pieces[1]], output) == [None]
    row = clips.join(pieces, output, OPTIONS, WHOLE)

    check_row(row, item, painted)
    assert read(f"{output}/a/clip.mp4") == painted
    assert names_below(output) == ["a/clip.mp4"]
    assert "://" in output or not Path(output, ".parts").exists()


def test_a_clip_on_s3_is_cut_and_joined_there(clip, bucket, painted):
    write(f"{bucket}/in/clip.mp4", clip.read_bytes())
    item = item_of(f"{bucket}/in/clip.mp4")
    pieces = pieces_of(item)

    paint(pieces, f"{bucket}/out")
    row = clips.join(pieces, f"{bucket}/out", OPTIONS, WHOLE)

    check_row(row, item, painted)
    assert names_below(f"{bucket}/out") == ["a/clip.mp4"]
    assert read(f"{bucket}/out/a/clip.mp4") == painted


def test_a_part_that_is_there_is_not_painted_again(clip, tmp_path):
    pieces = pieces_of(item_of(clip))
    paint(pieces[:1], str(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*-*")}

    paint(pieces[:1], str(tmp_path))

    assert len(before) == 1
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*-*")} == before


def test_parts_of_another_file_or_with_other_settings_are_others(clip, tmp_path):
    copy = tmp_path / "clip.mp4"
    copy.write_bytes(clip.read_bytes())
    first = pieces_of(item_of(copy))
    assert pieces_of(item_of(copy)) == first
    paint(first, str(tmp_path / "out"))

    other = pieces_of(item_of(copy), settings="another style")
    assert clips.missing(other, str(tmp_path / "out")) == other
    copy.write_bytes(clip.read_bytes() + bytes(8))
    replaced = pieces_of(item_of(copy))
    assert clips.missing(replaced, str(tmp_path / "out")) == replaced

    # The clip once in place, none of them is needed.
    paint(pieces_of(item_of(copy), None), str(tmp_path / "out"))
    assert names_below(str(tmp_path / "out")) == ["a/clip.mp4"]


def test_parts_of_other_clips_stay(clip, tmp_path):
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(clip.read_bytes())
    pieces, others = pieces_of(item_of(clip)), pieces_of(item_of(copy, "copy.mp4"))
    paint([*pieces, *others], str(tmp_path / "out"))

    clips.join(pieces, str(tmp_path / "out"), OPTIONS, WHOLE)

    assert clips.missing(others, str(tmp_path / "out")) == []


def test_a_clip_in_a_tar_is_cut_and_joined(clip, tmp_path, painted):
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        tar.add(clip, "0001.mp4")
    (item,) = items_of_tars([str(tmp_path / "shard.tar")], lambda _: True)
    pieces = pieces_of(item)

    paint(pieces, str(tmp_path / "out"))
    row = clips.join(pieces, str(tmp_path / "out"), OPTIONS, WHOLE)

    assert item.clip
    assert len(pieces) == 3
    assert (tmp_path / "out" / str(row.output)).read_bytes() == painted


def test_animations_are_not_cut(tmp_path):
    source = make_animation(tmp_path / "a.gif", [100] * 9)

    assert clips.cut(item_of(source), WHOLE, 0.3) == [Piece(item_of(source))]


def test_what_is_no_clip_is_an_input_error(tmp_path):
    (tmp_path / "a.mp4").write_bytes(bytes(1000))
    item = item_of(tmp_path / "a.mp4", "a.mp4")

    with pytest.raises(InputError, match=r"a\.mp4 is neither a clip nor a picture"):
        clips.cut(item, WHOLE, 1)
    with pytest.raises(InputError, match=r"a\.mp4 is neither a clip nor a picture"):
        paint([Piece(item)], str(tmp_path / "out"))
    with pytest.raises(InputError, match=r"cannot read .*b\.mp4"):
        clips.cut(item_of(tmp_path / "b.mp4"), WHOLE, 1)

    assert not exists(str(tmp_path / "out" / "a.mp4"))


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_a_part_that_is_gone_or_damaged_is_painted_again(clip, output, painted, harm):
    pieces = pieces_of(item_of(clip))
    paint(pieces, output)
    place = f"{output}/{pieces[1].name}"
    remove(place) if harm == "gone" else write(place, read(place)[:-100])

    with pytest.raises(StorageError, match="run the same again"):
        clips.join(pieces, output, OPTIONS, WHOLE)

    assert not exists(f"{output}/a/clip.mp4")
    assert clips.missing(pieces, output) == [pieces[1]]
    paint([pieces[1]], output)
    clips.join(pieces, output, OPTIONS, WHOLE)
    assert read(f"{output}/a/clip.mp4") == painted


def test_nothing_is_left_of_a_clip_that_is_interrupted(clip, tmp_path):
    calls = iter(range(100))

    def stopped(images: np.ndarray) -> np.ndarray:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return images

    with pytest.raises(KeyboardInterrupt):
        clips.paint(Stylizer(stopped), Piece(item_of(clip)), str(tmp_path), OPTIONS, WHOLE)

    assert names_below(str(tmp_path)) == []


def test_the_command_paints_a_clip_in_parts_as_it_does_in_one_go(clip, tmp_path, onnx_style):
    style = ["--style", str(onnx_style), "-q"]

    one = main(["stylize", str(clip), "-o", str(tmp_path / "one.mp4"), *style])
    parts = main(["batch", str(clip), "-o", str(tmp_path / "out"), "--split", "0.3", "--address", "none", *style])

    assert (one, parts) == (0, 0)
    assert (tmp_path / "out" / "clip.mp4").read_bytes() == (tmp_path / "one.mp4").read_bytes()
    assert decoded(tmp_path / "out" / "clip.mp4") == 24
    assert names_below(str(tmp_path / "out")) == ["batch.json", "clip.mp4", "manifest.jsonl"]

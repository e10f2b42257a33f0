"""A batch in this process: nothing lost, nothing twice, wherever the pictures are and whatever ends it."""

import json
import tarfile
from io import BytesIO

import fsspec
import pytest
from helpers.batches import files, manifest, mixed, painted, paintings
from helpers.clips import make_clip
from helpers.photos import noise_file

from fastnst.batch.run import Hooks
from fastnst.config import BatchOptions
from fastnst.errors import InputError, OutputError, UsageError

SMALL = {"address": "none", "block_size": 4, "part_size": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return mixed(tmp_path_factory.mktemp("pictures"), 20)


@pytest.fixture(scope="module")
def expected(folder, onnx_style, tmp_path_factory):
    return paintings(folder, tmp_path_factory.mktemp("stylized"), onnx_style)


def stopping_after(rows):
    """Hooks that end the run once there are so many rows, as Ctrl-C does."""
    seen = []

    def on_rows(some):
        seen.extend(some)
        if len(seen) >= rows:
            raise KeyboardInterrupt

    return Hooks(on_rows=on_rows)


def test_everything_good_is_painted_and_everything_bad_is_a_row(folder, expected, onnx_style, tmp_path):
    heard = []
    hooks = Hooks(on_plan=lambda *given: heard.append(given), on_rows=lambda rows: heard.append(len(rows)))

    outcome = painted(folder, tmp_path / "out", onnx_style, hooks=hooks)

    assert files(tmp_path / "out") == expected
    rows = manifest(tmp_path / "out")
    assert (outcome.painted, sum(outcome.failed.values()), outcome.settled) == (len(expected), 20 - len(expected), 0)
    assert {row["output"] for row in rows if row["status"] == "painted"} == expected.keys()
    assert (heard[0], sum(heard[1:])) == ((20, 0), 20)
    assert outcome.totals.painted == len(expected)


def test_an_interrupted_batch_goes_on_to_the_same_manifest(folder, expected, onnx_style, tmp_path):
    painted(folder, tmp_path / "calm", onnx_style)
    with pytest.raises(KeyboardInterrupt):
        painted(folder, tmp_path / "out", onnx_style, hooks=stopping_after(9))
    assert not (tmp_path / "out" / "manifest.jsonl").exists()

    outcome = painted(folder, tmp_path / "out", onnx_style)

    assert 9 <= outcome.settled < 20
    assert outcome.settled + outcome.painted + sum(outcome.failed.values()) == 20
    assert manifest(tmp_path / "out") == manifest(tmp_path / "calm")
    assert files(tmp_path / "out") == expected


def test_a_second_run_does_nothing_and_a_new_picture_is_all_that_is_done(folder, onnx_style, tmp_path):
    mixed(tmp_path / "in", 6, damaged=0.34)
    painted(tmp_path / "in", tmp_path / "out", onnx_style)
    before = (tmp_path / "out" / "manifest.jsonl").read_bytes()

    again = painted(tmp_path / "in", tmp_path / "out", onnx_style)
    unchanged = (tmp_path / "out" / "manifest.jsonl").read_bytes()
    noise_file(tmp_path / "in" / "new.png")
    more = painted(tmp_path / "in", tmp_path / "out", onnx_style)

    assert (again.painted, again.failed, again.settled, unchanged) == (0, {}, 6, before)
    assert (more.painted, more.settled, more.totals.painted) == (1, 6, again.totals.painted + 1)


def test_a_painting_that_was_removed_is_painted_again_and_nothing_else(folder, expected, onnx_style, tmp_path):
    painted(folder, tmp_path / "out", onnx_style)
    before = manifest(tmp_path / "out")
    gone = sorted(expected)[3]
    (tmp_path / "out" / gone).unlink()

    outcome = painted(folder, tmp_path / "out", onnx_style)

    assert (outcome.painted, sum(outcome.failed.values()), outcome.settled) == (1, 0, 19)
    assert files(tmp_path / "out") == expected
    assert manifest(tmp_path / "out") == before


def test_damaged_pictures_are_tried_again_if_asked(onnx_style, tmp_path):
    noise_file(tmp_path / "in" / "a.png")
    picture = noise_file(tmp_path / "in" / "b.png")
    whole = picture.read_bytes()
    picture.write_bytes(whole[:300])
    first = painted(tmp_path / "in", tmp_path / "out", onnx_style)
    picture.write_bytes(whole)

    plain = painted(tmp_path / "in", tmp_path / "out", onnx_style)
    retried = painted(
        tmp_path / "in", tmp_path / "out", onnx_style, batch=BatchOptions(address="none", retry_failed=True)
    )

    assert (first.painted, first.failed) == (1, {"unusable_input": 1})
    assert (plain.painted, plain.totals.failed) == (0, {"unusable_input": 1})
    assert (retried.painted, retried.totals.painted, retried.totals.failed) == (1, 2, {})


@pytest.mark.parametrize("store", ["tar", "parquet"])
def test_parts_have_what_files_would_be(folder, expected, onnx_style, tmp_path, store):
    with pytest.raises(KeyboardInterrupt):
        painted(folder, tmp_path, onnx_style, batch=BatchOptions(**SMALL, store=store), hooks=stopping_after(7))

    painted(folder, tmp_path, onnx_style, batch=BatchOptions(**SMALL, store=store))

    parts = sorted(tmp_path.glob(f"part-*.{store}"))
    assert len(parts) >= 3
    found = {}
    for part in parts:
        if store == "tar":
            with tarfile.open(part) as tar:
                found |= {(part.name, one.name): tar.extractfile(one).read() for one in tar}
        else:
            import pyarrow.parquet

            rows = pyarrow.parquet.read_table(part).to_pylist()
            found |= {(part.name, str(number)): row["bytes"] for number, row in enumerate(rows)}
    named = {tuple(row["output"].split("::")): row["input"] for row in manifest(tmp_path) if row["output"]}
    assert named.keys() == found.keys()
    assert sorted(found.values()) == sorted(expected.values())


def test_pictures_of_the_same_content_are_painted_once_if_asked(onnx_style, tmp_path):
    for number in range(9):
        noise_file(tmp_path / "in" / f"{number}.png", height=20 + number % 3)
    (tmp_path / "in" / "5.png").write_bytes(b"\x89PNG damaged")
    (tmp_path / "in" / "8.png").write_bytes(b"\x89PNG damaged")
    painted(tmp_path / "in", tmp_path / "plain", onnx_style)
    options = BatchOptions(address="none", block_size=2, dedup=True)

    with pytest.raises(KeyboardInterrupt):
        painted(tmp_path / "in", tmp_path / "out", onnx_style, batch=options, hooks=stopping_after(3))
    painted(tmp_path / "in", tmp_path / "out", onnx_style, batch=options)

    assert files(tmp_path / "out") == files(tmp_path / "plain")
    rows = {row["input"][-5:-4]: row for row in manifest(tmp_path / "out")}
    same = {name: row["same_as"][-5:-4] for name, row in rows.items() if row.get("same_as")}
    assert same == {"3": "0", "6": "0", "4": "1", "7": "1"}
    assert [name for name, row in rows.items() if row["status"] == "failed"] == ["5", "8"]
    assert len({row["sha256"] for row in rows.values()}) == 4  # three paintings, and none


def test_in_parts_the_same_content_is_there_once(onnx_style, tmp_path):
    for number in range(4):
        noise_file(tmp_path / "in" / f"{number}.png", height=20 + number % 2)

    painted(tmp_path / "in", tmp_path / "out", onnx_style, batch=BatchOptions(address="none", store="tar", dedup=True))

    (part,) = (tmp_path / "out").glob("*.tar")
    with tarfile.open(part) as tar:
        assert len(tar.getnames()) == 2
    outputs = [row["output"] for row in manifest(tmp_path / "out")]
    assert (outputs[0], outputs[1]) == (outputs[2], outputs[3])


def test_from_and_to_the_memory_of_the_process(folder, expected, onnx_style, memory):
    store = fsspec.filesystem("memory")
    for path in folder.rglob("*"):
        if path.is_file():
            store.pipe_file(f"{memory}/in/{path.relative_to(folder).as_posix()}", path.read_bytes())

    outcome = painted(f"{memory}/in", f"{memory}/out", onnx_style)

    found = {name: store.cat_file(f"{memory}/out/{name}") for name in expected}
    assert found == expected
    assert (outcome.painted, outcome.totals.failed.total()) == (len(expected), 20 - len(expected))
    rows = [json.loads(line) for line in store.cat_file(f"{memory}/out/manifest.jsonl").splitlines()]
    assert len(rows) == 20
    assert painted(f"{memory}/in", f"{memory}/out", onnx_style).settled == 20


def test_from_a_tar_and_a_table_and_a_list(onnx_style, tmp_path):
    import pyarrow
    import pyarrow.parquet

    pictures = [noise_file(tmp_path / "in" / f"{number}.png", height=20 + number) for number in range(6)]
    with tarfile.open(tmp_path / "two.tar", "w") as tar:
        for path in pictures[:2]:
            tar.add(path, path.name)
    table = pyarrow.table({"image": [path.read_bytes() for path in pictures[2:4]], "n": [1, 2]})
    pyarrow.parquet.write_table(table, tmp_path / "table.parquet")
    (tmp_path / "list.txt").write_text("in/4.png\nin/5.png\n")

    inputs = [tmp_path / "two.tar", tmp_path / "table.parquet", tmp_path / "list.txt"]
    outcome = painted(inputs, tmp_path / "out", onnx_style)

    direct = paintings(tmp_path / "in", tmp_path / "stylized", onnx_style)
    assert (outcome.painted, outcome.failed) == (6, {})
    assert sorted(files(tmp_path / "out").values()) == sorted(direct.values())


def test_shards_are_all_and_disjoint_and_merge(folder, expected, onnx_style, tmp_path):
    from fastnst.batch.merge import merge_manifests

    painted(folder, tmp_path / "whole", onnx_style)
    counts = [painted(folder, tmp_path / "out", onnx_style, shard=f"{number}/3").painted for number in range(3)]

    parts = [str(path) for path in (tmp_path / "out").glob("manifest-*-of-3.jsonl")]
    merge_manifests(parts, str(tmp_path / "out" / "manifest.jsonl"))
    assert len(parts) == 3
    assert all(counts)
    assert sum(counts) == len(expected)
    assert manifest(tmp_path / "out") == manifest(tmp_path / "whole")
    again = painted(folder, tmp_path / "out", onnx_style)
    assert (again.settled, again.painted) == (20, 0)


def test_clips_among_pictures_whole_or_in_parts_give_the_same(onnx_style, tmp_path):
    (tmp_path / "in").mkdir()
    make_clip(tmp_path / "in" / "a.mp4", frames=24, rate=8, sound="aac")
    noise_file(tmp_path / "in" / "b.png")
    (tmp_path / "in" / "c.mp4").write_bytes((tmp_path / "in" / "a.mp4").read_bytes()[:900])

    whole = painted(tmp_path / "in", tmp_path / "whole", onnx_style)
    parts = painted(tmp_path / "in", tmp_path / "parts", onnx_style, batch=BatchOptions(address="none", split=1))

    assert whole.painted == parts.painted == 2
    assert whole.failed == parts.failed
    rows = {row["input"][-5:]: row for row in manifest(tmp_path / "parts")}
    assert (
        rows["a.mp4"]["frames"] == {row["input"][-5:]: row for row in manifest(tmp_path / "whole")}["a.mp4"]["frames"]
    )
    assert sorted(files(tmp_path / "parts")) == ["a.mp4", "b.png"]


def test_the_first_failure_ends_it_if_asked(onnx_style, tmp_path):
    for number in range(12):
        noise_file(tmp_path / "in" / f"{number:02}.png")
    (tmp_path / "in" / "05.png").write_bytes(b"\x89PNG damaged")

    outcome = painted(
        tmp_path / "in", tmp_path / "out", onnx_style, batch=BatchOptions(address="none", block_size=1), fail_fast=True
    )

    assert sum(outcome.failed.values()) == 1
    assert outcome.painted < 11


def test_files_that_are_there_stay_or_are_left_out_or_replaced(onnx_style, tmp_path):
    noise_file(tmp_path / "in" / "a.png")
    noise_file(tmp_path / "in" / "b.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_text("mine")

    with pytest.raises(OutputError, match=r"a\.png exists already"):
        painted(tmp_path / "in", tmp_path / "out", onnx_style)
    skipped = painted(tmp_path / "in", tmp_path / "out", onnx_style, skip_existing=True)
    kept = (tmp_path / "out" / "a.png").read_bytes()
    anew = painted(tmp_path / "in", tmp_path / "out", onnx_style, overwrite=True)

    assert (skipped.painted, kept) == (1, b"mine")
    assert (anew.painted, len(files(tmp_path / "out")["a.png"]) > 100) == (2, True)


def test_a_folder_belongs_to_one_style_and_one_way_of_painting(onnx_style, tmp_path):
    noise_file(tmp_path / "in" / "a.png")
    painted(tmp_path / "in", tmp_path / "out", onnx_style)

    with pytest.raises(UsageError, match="--strength"):
        painted(tmp_path / "in", tmp_path / "out", onnx_style, strength=0.5)
    other = tmp_path / "other.onnx"
    other.write_bytes(onnx_style.read_bytes() + b"\x7a\x01a")  # an unknown field
    with pytest.raises((UsageError, InputError)):
        painted(tmp_path / "in", tmp_path / "out", other)


def test_bad_inputs_leave_nothing(onnx_style, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.jsonl").write_text('{"image": "a.png", "label": 1}\n')
    noise_file(tmp_path / "in" / "a.png")
    noise_file(tmp_path / "other" / "a.png", height=30)
    refused = [
        (tmp_path / "empty", None, InputError, "no pictures"),
        (tmp_path / "table.jsonl", "picture", UsageError, "no column picture"),
        ([tmp_path / "in", tmp_path / "other"], None, UsageError, "would both become"),
    ]

    for inputs, column, kind, said in refused:
        with pytest.raises(kind, match=said):
            painted(inputs, tmp_path / "out", onnx_style, batch=BatchOptions(address="none", column=column))
        assert not (tmp_path / "out").exists()


def test_a_picture_of_bytes_in_a_tar_is_called_by_its_name(onnx_style, tmp_path):
    with tarfile.open(tmp_path / "some.tar", "w") as tar:
        info = tarfile.TarInfo("x.png")
        info.size = 5
        tar.addfile(info, BytesIO(b"wrong"))

    painted(tmp_path / "some.tar", tmp_path / "out", onnx_style)

    (row,) = manifest(tmp_path / "out")
    assert row["input"] == f"{tmp_path / 'some.tar'}::x.png"
    assert row["status"] == "failed"

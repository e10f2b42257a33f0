import hashlib
import io
import os
import pickle
import random
import subprocess
import sys
import tarfile
import time
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fastnst.batch.journal import Journal, Totals
from fastnst.batch.manifest import manifests_in, read_rows
from fastnst.batch.paintings import Painting
from fastnst.batch.parts import parts_in, refuse_parts, remove_orphans, tag_of
from fastnst.batch.rows import failed
from fastnst.batch.stores import open_store
from fastnst.errors import InputError, OutputError
from fastnst.storage.addresses import exists, list_files, read

KINDS = ("files", "tar", "parquet")


def encoded(seed=0, format="JPEG", size=(24, 16)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def paintings():
    return [
        Painting("in/a.jpg", "a.jpg", encoded(1), 0.25),
        Painting("in/x/b.c.png", "x/b.c.png", encoded(2, "PNG", (10, 12)), 0.1234567),
        Painting("in/bad.jpg", "bad.jpg", InputError("in/bad.jpg is damaged"), 0.5),
        Painting("in/\udcff.webp", "\udcff.webp", encoded(3, "WEBP")),
    ]


def contents(output, rows):
    """The bytes that the rows of paintings lead to."""
    found = {}
    for row in rows:
        if row.output is None:
            continue
        part, _, inside = row.output.partition("::")
        data = read(f"{output}/{part}")
        if part.endswith(".tar"):
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                data = tar.extractfile(inside).read()
        elif part.endswith(".parquet"):
            data = pq.read_table(io.BytesIO(data))["bytes"][int(inside)].as_py()
        assert hashlib.sha256(data).hexdigest() == row.sha256
        found[row.input] = data
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
def test_each_painting_is_where_its_row_says(kind, remote, tmp_path, memory):
    output = memory if remote else str(tmp_path / "new" / "out")
    store = pickle.loads(pickle.dumps(open_store(kind, output)))

    rows = list(store.put(iter(paintings())))

    assert contents(output, rows) == {one.key: one.content for one in paintings() if isinstance(one.content, bytes)}
    assert [row.input for row in rows] == [one.key for one in paintings()]
    assert rows[2] == failed("in/bad.jpg", "in/bad.jpg is damaged", "unusable_input", 0.5)
    assert [row.seconds for row in rows] == [0.25, 0.123, 0.5, 0.0]
    if kind == "files":
        assert [row.output for row in rows] == ["a.jpg", "x/b.c.png", None, "\udcff.webp"]
    else:
        assert len(parts_in(output)) == 1
    if not remote:
        assert not [name for name in os.listdir(output) if name.startswith(".")]


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_taken_as_bytes_are(kind, tmp_path):
    clip = tmp_path / "clip.tmp"
    clip.write_bytes(b"a video" * 1000)

    (row,) = open_store(kind, str(tmp_path / "out")).put(
        [Painting("c.mp4", "c.mp4", clip, frames=9, problem="cut off")]
    )

    assert contents(tmp_path / "out", [row]) == {"c.mp4": clip.read_bytes()}
    assert (row.frames, row.problem, row.painted) == (9, "cut off", True)
    assert clip.exists()


def test_a_file_that_is_in_place_stays_there(tmp_path):
    (tmp_path / "c.mp4").write_bytes(b"a video")
    before = (tmp_path / "c.mp4").stat()

    (row,) = open_store("files", str(tmp_path)).put([Painting("c.mp4", "c.mp4", tmp_path / "c.mp4")])

    assert (tmp_path / "c.mp4").stat() == before
    assert row.sha256 == hashlib.sha256(b"a video").hexdigest()


def test_a_row_comes_as_soon_as_its_file_is_there(tmp_path):
    def drawn():
        for one in paintings():
            taken.append(one.key)
            yield one

    taken: list[str] = []
    rows = open_store("files", str(tmp_path)).put(drawn())

    assert taken == []
    assert next(rows).input == "in/a.jpg"
    assert (taken, (tmp_path / "a.jpg").read_bytes()) == (["in/a.jpg"], encoded(1))


@pytest.mark.parametrize("name", ["n" * 300 + ".jpg", "a.jpg/b.jpg", "folder", "../out.jpg", "/etc/x.jpg", "a\0.jpg"])
def test_a_name_that_the_disk_refuses_is_a_row(name, tmp_path):
    (tmp_path / "out" / "folder").mkdir(parents=True)
    some = [Painting("1", "a.jpg", b"1"), Painting("2", name, b"2"), Painting("3", "c.jpg", b"3")]

    rows = list(open_store("files", str(tmp_path / "out")).put(some))

    assert [(row.status, row.code) for row in rows] == [("painted", None), ("failed", "output"), ("painted", None)]
    assert not rows[1].is_settled(retry_failed=False)  # another folder may take it
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_paintings_of_an_output_that_cannot_be_written_are_an_error_of_the_run(tmp_path):
    (tmp_path / "out").write_bytes(b"a file")

    for kind in ("tar", "parquet"):
        with pytest.raises(OutputError):
            list(open_store(kind, str(tmp_path / "out")).put(paintings()))


FILLER = """
import os, resource, signal, sys
from fastnst.batch.paintings import Painting
from fastnst.batch.stores import open_store
from fastnst.errors import OutputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for kind in ("files", "tar", "parquet"):
    store = open_store(kind, sys.argv[1])
    warm = list(open_store(kind, sys.argv[1] + "/" + kind).put([Painting("0", "0.jpg", b"0")]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
    try:
        print(*(row.input for row in store.put(Painting(str(n), f"{n}.jpg", os.urandom(n)) for n in (4000, 6000, 10))))
    except OutputError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


def test_a_full_disk_ends_the_run_and_leaves_no_half(tmp_path):
    child = subprocess.run([sys.executable, "-c", FILLER, tmp_path], capture_output=True, text=True, check=True)

    lines = child.stdout.splitlines()
    assert len(lines) == 3
    assert all("cannot write" in line and "File too large" in line for line in lines), lines
    assert sorted(os.listdir(tmp_path)) == ["4000.jpg", "files", "parquet", "tar"]


def test_tars_are_samples_of_webdataset_and_the_same_bytes_each_time(tmp_path):
    names = ["a.b.jpg", "a_b.jpg", "x/a.jpg", "x/a.png", ".hidden.jpg", "n" * 150 + "/" + "ü" * 90 + ".jpg"]
    some = [Painting(f"in/{name}", name, name.encode()) for name in names]
    first, second = (list(open_store("tar", str(tmp_path / name)).put(some)) for name in ("1", "2"))

    assert first == second
    (part,) = parts_in(str(tmp_path / "1"))
    assert (tmp_path / "1" / part).read_bytes() == (tmp_path / "2" / part).read_bytes()
    with tarfile.open(tmp_path / "1" / part) as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == [
        *("a_b.jpg", "a_b_2.jpg", "x/a.jpg", "x/a_2.png", "_hidden.jpg", names[-1])
    ]
    assert {(m.mtime, m.uid, m.gid, m.mode, m.uname) for m in members} == {(0, 0, 0, 0o644, "")}
    assert [row.output for row in first] == [f"{part}::{member.name}" for member in members]


def test_parquet_has_columns_for_other_programs(tmp_path, monkeypatch):
    monkeypatch.setattr("fastnst.batch.parts._GROUP", 500)  # several row groups
    rows = list(open_store("parquet", str(tmp_path)).put([*paintings(), Painting("v.mp4", "v.mp4", b"a video")]))

    (part,) = parts_in(str(tmp_path))
    table = pq.read_table(tmp_path / part).to_pylist()
    assert pq.ParquetFile(tmp_path / part).num_row_groups > 1
    assert list(table[0]) == ["input", "name", "bytes", "width", "height", "sha256"]
    assert [(row["name"], row["width"], row["height"]) for row in table] == [
        *(("a.jpg", 24, 16), ("x/b.c.png", 10, 12), ("\\udcff.webp", 24, 16), ("v.mp4", None, None))
    ]
    assert [row.output for row in rows if row.painted] == [f"{part}::{n}" for n in range(4)]


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_a_part_is_called_by_what_is_in_it_and_by_its_shard(kind, tmp_path):
    def put(some, tag=""):
        before = set(parts_in(str(tmp_path)))
        list(open_store(kind, str(tmp_path), tag).put(some))
        return sorted(set(parts_in(str(tmp_path))) - before)

    (first,) = put(paintings())
    assert put(paintings()[::-1][::-1]) == []  # the same again
    assert put([one for one in paintings() if isinstance(one.content, bytes)]) == []
    assert len(put(paintings()[:1])) == 1
    (sharded,) = put(paintings(), "3-of-8")
    assert (tag_of(first), tag_of(sharded)) == ("", "3-of-8")
    assert put(paintings()[2:3]) == []  # nothing but failures
    assert put([]) == []


@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
def test_only_parts_of_this_run_that_no_row_speaks_of_are_removed(remote, tmp_path, memory):
    output = memory if remote else str(tmp_path)
    known = list(open_store("tar", output).put(paintings()[:1]))
    list(open_store("tar", output).put(paintings()[1:]))
    list(open_store("parquet", output, "1-of-2").put(paintings()))
    list(open_store("files", output).put(paintings()))
    if not remote:
        (tmp_path / ".part-0123456789ab.tmp").write_bytes(b"half")
        (tmp_path / ".part-2-of-2-0123456789ab.tmp").write_bytes(b"another shard is at it")
    with Journal(output, f"{output}/manifest.jsonl") as journal:
        journal.add(known)
        assert journal.parts == {known[0].output.partition("::")[0]}

    with Journal(output, f"{output}/manifest.jsonl") as journal:
        assert remove_orphans(output, "", journal.parts) == (1 if remote else 2)

    assert sorted(map(tag_of, parts_in(output))) == ["", "1-of-2", *["2-of-2"] * (not remote)]
    assert contents(output, known)
    assert exists(f"{output}/a.jpg")


def test_parts_in_a_folder_that_nothing_is_known_of_are_in_the_way(tmp_path):
    refuse_parts(str(tmp_path))
    refuse_parts(str(tmp_path / "none"))
    list(open_store("tar", str(tmp_path)).put(paintings()))

    with pytest.raises(OutputError, match=r"part-.*already, but no batch.json"):
        refuse_parts(str(tmp_path))


RUNNER = """
import sys
from fastnst.batch.journal import Journal
from fastnst.batch.paintings import Painting
from fastnst.batch.parts import remove_orphans
from fastnst.batch.stores import open_store
blocks = [[f"{block:03d}-{number}" for number in range(4)] for block in range(25)]
print("begun", flush=True)
for kind in ("tar", "files", "parquet"):
    output = sys.argv[1] + "/" + kind
    with Journal(output, output + "/manifest.jsonl") as journal:
        remove_orphans(output, "", journal.parts)
        store = open_store(kind, output)
        for block in blocks:
            left = [key for key in block if not journal.is_settled(key)]
            assert kind == "files" or len(left) in (0, 4)
            rows = store.put(Painting(key, f"x/{key}.jpg", key.encode() * 3000, 0.1) for key in left)
            for some in [[row] for row in rows] if kind == "files" else [list(rows)]:
                journal.add(some)
        journal.finish()
        remove_orphans(output, "", journal.parts)
"""


def test_a_run_killed_at_any_moment_and_begun_again_ends_as_one_that_was_not(tmp_path):
    run = [sys.executable, "-c", RUNNER]
    began = time.monotonic()
    subprocess.run([*run, tmp_path / "whole"], check=True, stdout=subprocess.DEVNULL)
    taken = time.monotonic() - began
    rng = random.Random(3)
    for _ in range(3):
        child = subprocess.Popen([*run, tmp_path / "out"], stdout=subprocess.PIPE)
        child.stdout.readline()
        time.sleep(rng.uniform(0.0, taken / 4))
        child.kill()
        child.communicate()

    subprocess.run([*run, tmp_path / "out"], check=True, stdout=subprocess.DEVNULL)

    # What a killed process had begun may be left under a hidden name for a minute.
    whole, out = ({name for name in _files(tmp_path / name) if ".fastnst." not in name} for name in ("whole", "out"))
    assert out == whole
    for name in whole:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    for kind in KINDS:
        rows = list(read_rows(str(tmp_path / "out" / kind / "manifest.jsonl")))
        assert len(contents(tmp_path / "out" / kind, rows)) == 100


def _files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_everything_on_s3(bucket):
    some, undecodable = paintings()[:3], paintings()[3]
    for kind in KINDS:
        output = f"{bucket}/{kind}"
        with Journal(output, f"{output}/manifest.jsonl") as journal:
            rows = list(open_store(kind, output).put(some))
            journal.add(rows)
        assert manifests_in(output) == [f"{output}/manifest.jsonl.journal"]
        list(open_store("tar", output).put(some[:1]))  # nobody tells of it

        with Journal(output, f"{output}/manifest.jsonl") as journal:
            assert remove_orphans(output, "", journal.parts) == 1
            assert [journal.is_settled(row.input) for row in rows] == [True] * 3
            assert journal.finish() == Totals(2, Counter(unusable_input=1))

        assert list(read_rows(f"{output}/manifest.jsonl")) == sorted(rows, key=lambda row: row.input)
        assert len(contents(output, rows)) == 2
        assert len(list(list_files(output))) == (3 if kind == "files" else 2)
    (row,) = open_store("files", bucket).put([undecodable])
    assert row.code == "output"  # a name that addresses cannot have
    for kind in KINDS:
        with pytest.raises(OutputError, match="no-such-bucket"):
            list(open_store(kind, "s3://no-such-bucket/out").put(some))


SENDER = """
from fastnst.batch.paintings import Painting
from fastnst.batch.stores import open_store
from fastnst.errors import InputError
bad = Painting("bad", "bad.jpg", InputError("bad is damaged"))
for row in open_store("tar", "s3://bucket/out").put([Painting("a", "a.jpg", b"a"), bad]):
    print(row.input, row.code)
"""


def test_paintings_that_a_store_does_not_take_now_are_for_another_time(bucket):
    gone = {**os.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}  # where nobody listens

    child = subprocess.run([sys.executable, "-c", SENDER], env=gone, capture_output=True, text=True, check=True)

    assert child.stdout.split("\n") == ["a storage", "bad unusable_input", ""]

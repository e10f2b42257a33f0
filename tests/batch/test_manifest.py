import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from fastnst.batch import sorting
from fastnst.batch.journal import Journal, Totals, manifest_name
from fastnst.batch.lease import only_batch
from fastnst.batch.lines import RemoteLines
from fastnst.batch.manifest import manifests_in, read_rows, write_manifest
from fastnst.batch.rows import Row, better, failed, to_line
from fastnst.batch.settings import begin, save
from fastnst.batch.settled import Settled
from fastnst.batch.sorting import best_rows
from fastnst.errors import InputError, OutputError, UsageError
from fastnst.storage.addresses import exists, read, write


def painted(key, output=None, **values):
    return Row(key, output or key, "painted", None, None, 0.5, "0" * 64, **values)


NAMES = ["a.jpg", "ä/ö.png", "b\\u0041.jpg", "\udcff\udcfe.jpg", "with\nline.jpg", "s3://bucket/x.jpg", "日本.webp"]
ROWS = [
    *map(painted, NAMES),
    failed("bad.jpg", InputError("bad.jpg is damaged"), "unusable_input", 0.25),
    painted("clip.mp4", frames=250, problem="it was cut off"),
    painted("copy.jpg", "part-0123456789ab.tar::a.jpg", same_as="a.jpg"),
]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_manifest_read_back_has_the_same_rows(suffix, tmp_path):
    place = str(tmp_path / f"manifest.{suffix}")

    write_manifest(place, map(to_line, ROWS))

    assert list(read_rows(place)) == ROWS


def test_a_line_has_the_values_that_every_row_has_and_only_those_others_that_it_has():
    assert json.loads(to_line(painted("a"))) == {
        **{"input": "a", "output": "a", "status": "painted", "error": None, "code": None, "seconds": 0.5},
        "sha256": "0" * 64,
    }
    assert json.loads(to_line(painted("a", frames=3)))["frames"] == 3


def test_a_parquet_manifest_is_a_table_for_others(tmp_path):
    import pyarrow.parquet as pq

    write_manifest(str(tmp_path / "m.parquet"), map(to_line, ROWS))

    table = pq.read_table(tmp_path / "m.parquet")
    assert table["status"].to_pylist().count("failed") == 1
    assert table["input"][2].as_py() == "b\\u005cu0041.jpg"  # a name with a literal \u, which marks undecodable bytes
    assert table["input"][3].as_py() == "\\udcff\\udcfe.jpg"


BAD_LINES = {
    b"{": "is not JSON",
    b"\xff\xfe": "is not JSON",
    b"3": "is not a row",
    b"[" * 100_000: "is not",
    b'{"input": "a"}': "has no 'output'",
    to_line(painted("a")).replace(b"painted", b"half"): "status 'half'",
    to_line(painted("a")).replace(b"0.5", b'"0.5"'): "'seconds' of another type",
    to_line(painted("a")).replace(b"0.5", b"true"): "'seconds' of another type",
    to_line(painted("a")).replace(b'"output": "a"', b'"output": null'): "has no output",
    to_line(painted("a")).replace(b"}", b', "color": 1}'): "'color', which this version of fastnst does not know",
}


@pytest.mark.parametrize("line", BAD_LINES, ids=BAD_LINES.values())
def test_a_damaged_line_is_named(line, tmp_path):
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(to_line(painted("first")) + line.rstrip(b"\n") + b"\n" + to_line(painted("last")))

    with pytest.raises(InputError, match=f"line 2 of .*manifest.jsonl .*{BAD_LINES[line]}") as caught:
        list(read_rows(str(path)))

    assert caught.value.exit_status == 4
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_what_editors_do_to_lines_is_no_damage(tmp_path):
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([to_line(row).rstrip() for row in ROWS[:3]]) + b"\r\n\r\n \n")
    assert list(read_rows(str(path))) == ROWS[:3]

    path.write_bytes(to_line(ROWS[0]).rstrip())  # without the last end of a line

    assert list(read_rows(str(path))) == ROWS[:1]


def test_files_that_are_no_manifests_are_refused_in_one_sentence(tmp_path):
    (tmp_path / "m.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(InputError, match=r"m.parquet"):
        list(read_rows(str(tmp_path / "m.parquet")))
    with pytest.raises(UsageError, match=r"must end with .jsonl or .parquet"):
        list(read_rows(str(tmp_path / "m.csv")))
    with pytest.raises(InputError, match=r"not there"):
        list(read_rows(str(tmp_path / "m.jsonl")))
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"input": ["a"], "label": [3]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match=r"row 1 of .*other.parquet has 'label'"):
        list(read_rows(str(tmp_path / "other.parquet")))


def test_of_several_rows_of_an_input_the_last_counts_but_painted_ones_first():
    storage, damaged, done = failed("a", "x", "storage"), failed("a", "y", "unusable_input"), painted("a")

    assert better(storage, damaged) is damaged
    assert better(done, damaged) is done
    assert better(damaged, done) is done
    later = painted("a", "b")
    assert better(done, later) is later


def many(count, seed=0):
    """Rows of few inputs in random order, many of them several times, each with a number that tells the last one."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        key = f"{rng.randrange(count // 3):05d}.jpg"
        good = rng.random() < 0.3
        rows.append(painted(key, str(number)) if good else failed(key, str(number), "storage"))
    return rows


def test_sorting_in_files_gives_what_sorting_in_memory_does(tmp_path, monkeypatch):
    rows, beside = many(2000), str(tmp_path / "m.jsonl")
    with best_rows(rows, beside) as records:
        wanted = list(records)
    expected: dict[str, Row] = {}
    for row in rows:
        expected[row.input] = better(expected[row.input], row) if row.input in expected else row
    assert [record[3] for record in wanted] == [to_line(expected[key]) for key in sorted(expected)]

    monkeypatch.setattr(sorting, "_CHUNK", 7)
    monkeypatch.setattr(sorting, "_WIDTH", 3)  # six levels
    monkeypatch.setattr(sorting, "_AT_ONCE", 2)

    with best_rows(rows, beside) as records:
        assert list(records) == wanted
    assert list(tmp_path.iterdir()) == []


def run_over(output, rows, **options):
    with Journal(str(output), str(output / "manifest.jsonl"), **options) as journal:
        for row in rows:
            journal.add([row])
        return journal.finish()


def test_the_manifest_is_the_same_in_whatever_order_rows_came(tmp_path):
    rows = [painted(f"{n}.jpg") if n % 7 else failed(f"{n}.jpg", "x", "storage") for n in range(300)]

    for name, seed in [("a", 1), ("b", 2)]:
        shuffled = random.Random(seed).sample(rows, len(rows))
        totals = run_over(tmp_path / name, shuffled[:100])
        totals = run_over(tmp_path / name, shuffled[100:])
        assert totals == Totals(257, Counter(storage=43))

    content = (tmp_path / "a" / "manifest.jsonl").read_bytes()
    assert content == (tmp_path / "b" / "manifest.jsonl").read_bytes()
    assert [row.input for row in read_rows(str(tmp_path / "a" / "manifest.jsonl"))] == sorted(r.input for r in rows)
    assert os.listdir(tmp_path / "a") == ["manifest.jsonl"]


def test_a_journal_cut_off_at_any_byte_has_its_whole_lines_and_goes_on(tmp_path):
    journal, place = tmp_path / "manifest.jsonl.journal", str(tmp_path / "manifest.jsonl")
    rows = [failed("ä", "x", "unusable_input"), *(Row(key, key, "painted") for key in ("b", "\udcff"))]
    with Journal(str(tmp_path), place) as whole:
        whole.add(rows[:1])
        whole.add(rows[1:])
    content = journal.read_bytes()
    ends = [n + 1 for n, byte in enumerate(content) if byte == 10]
    assert len(ends) == 2

    for cut in range(len(content) + 1):  # also followed by zeros, which a power cut leaves on some disks
        journal.write_bytes(content[:cut] + b"\0" * (37 * (cut % 5 == 0)))
        there = [*rows[:1] * (cut >= ends[0]), *rows[1:] * (cut >= ends[1])]
        with Journal(str(tmp_path), place) as after:
            assert [row for row in rows if after.is_settled(row.input)] == there
            after.add([painted("more")])
        assert list(read_rows(str(journal))) == [*there, painted("more")]


def test_zeros_with_ends_of_lines_among_them_are_no_rows(tmp_path):
    journal = tmp_path / "manifest.jsonl.journal"
    journal.write_bytes(to_line(ROWS[0]) + b'{"input": "b\0\0\0\n')

    assert list(read_rows(str(journal))) == ROWS[:1]

    journal.write_bytes(to_line(ROWS[0]) + b'{"input": "b\0\0\0\n' + to_line(ROWS[1]))
    with pytest.raises(InputError, match=r"line 2"):
        list(read_rows(str(journal)))


ADDER = """
import sys
from fastnst.batch.journal import Journal
from fastnst.batch.rows import Row
output, first = sys.argv[1], int(sys.argv[2])
for turn in range(1000):
    with Journal(output, output + "/manifest.jsonl") as journal:
        for number in range(50):
            key = f"{first + 50 * turn + number:06d}"
            journal.add([Row(key + side, key + side, "painted", seconds=1.0, sha256="0" * 64) for side in "ab"])
            print(key, flush=True)
        journal.finish()
"""


def test_a_process_killed_at_any_moment_loses_no_row_that_it_had_added(tmp_path):
    acknowledged: list[str] = []
    rng = random.Random(5)
    for attempt in range(6):
        first = 100_000 * attempt
        child = subprocess.Popen([sys.executable, "-c", ADDER, tmp_path, str(first)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        acknowledged.append(child.stdout.readline().strip())  # it is at work
        time.sleep(rng.uniform(0.0, 0.25))
        child.kill()
        acknowledged += child.communicate()[0].split()

    with Journal(str(tmp_path), str(tmp_path / "manifest.jsonl")) as journal:
        journal.finish()

    keys = [row.input for row in read_rows(str(tmp_path / "manifest.jsonl"))]
    assert keys == sorted(set(keys))
    assert {key + side for key in acknowledged for side in "ab"} <= set(keys)
    assert all(key[:-1] + "b" in keys for key in keys if key.endswith("a"))  # rows added together are there together
    assert len(keys) <= 2 * len(acknowledged) + 12  # but for one call of each process, which it could not tell of
    left = {name for name in os.listdir(tmp_path) if not (name.startswith(".fastnst.") and name.endswith(".tmp"))}
    assert left == {"manifest.jsonl"}


FILLER = """
import resource, signal, sys
from fastnst.batch.journal import Journal
from fastnst.batch.rows import Row
from fastnst.errors import OutputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
output = sys.argv[1]
with Journal(output, output + "/manifest.jsonl") as journal:
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    try:
        for number in range(1000):
            journal.add([Row(f"{number:04d}", "x", "painted", seconds=1.0, sha256="0" * 64)])
            print(number)
    except OutputError as error:
        print(error, file=sys.stderr)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        journal.add([Row("after", "y", "painted", seconds=1.0, sha256="0" * 64)])
        sys.exit(5)
"""


def test_a_full_disk_spoils_no_line(tmp_path):
    child = subprocess.run([sys.executable, "-c", FILLER, tmp_path], capture_output=True, text=True, check=False)

    assert child.returncode == 5, child.stderr
    assert "manifest.jsonl.journal" in child.stderr
    assert "run it again" in child.stderr
    keys = [row.input for row in read_rows(str(tmp_path / "manifest.jsonl.journal"))]
    assert keys == [*(f"{int(number):04d}" for number in child.stdout.split()), "after"]


def test_what_is_settled_is_left_alone_and_what_may_go_well_is_tried_again(tmp_path):
    rows = [
        painted("good"),
        *(failed(code, "x", code) for code in ("unusable_input", "image_dimensions", "unsupported_format")),
        *(failed(code, "x", code) for code in ("storage", "died", "output", "internal", "environment")),
        failed("twice", "x", "unusable_input"),
        failed("twice", "x", "storage"),
        painted("still"),
        failed("still", "x", "storage"),
    ]
    run_over(tmp_path, rows)

    def left(retry_failed):
        with Journal(str(tmp_path), str(tmp_path / "manifest.jsonl"), retry_failed=retry_failed) as journal:
            return [row.input for row in dict.fromkeys(rows) if not journal.is_settled(row.input)]

    assert left(False) == ["storage", "died", "output", "internal", "environment", "twice", "twice"]
    assert set(left(True)) == {row.input for row in rows} - {"good", "still"}


def test_a_run_that_does_nothing_leaves_the_manifest_as_it_is(tmp_path):
    run_over(tmp_path, ROWS)
    before = (tmp_path / "manifest.jsonl").stat()

    totals = run_over(tmp_path, [])

    assert totals == Totals(9, Counter(unusable_input=1))
    assert (tmp_path / "manifest.jsonl").stat() == before
    assert os.listdir(tmp_path) == ["manifest.jsonl"]


def test_a_run_without_rows_in_a_new_folder_makes_an_empty_manifest(tmp_path):
    assert run_over(tmp_path / "new", []) == Totals()

    assert (tmp_path / "new" / "manifest.jsonl").read_bytes() == b""


def test_a_shard_reads_the_manifests_of_all_and_writes_its_own(tmp_path):
    def shard(tag, rows):
        with Journal(str(tmp_path), str(tmp_path / manifest_name(tag)), whole=not tag) as journal:
            for row in rows:
                journal.add([row])
            return journal, journal.finish()

    shard("1-of-2", [painted("a"), failed("x", "x", "storage")])
    journal, totals = shard("2-of-2", [painted("b")])
    assert (journal.is_settled("a"), totals) == (True, Totals(1))
    with Journal(str(tmp_path), str(tmp_path / manifest_name("1-of-3")), whole=False) as died:
        died.add([painted("c")])

    _, totals = shard("", [])

    assert totals == Totals(3, Counter(storage=1))
    assert [row.input for row in read_rows(str(tmp_path / "manifest.jsonl"))] == ["a", "b", "c", "x"]
    names = ["manifest-1-of-2.jsonl", "manifest-1-of-3.jsonl.journal", "manifest-2-of-2.jsonl", "manifest.jsonl"]
    assert [Path(name).name for name in manifests_in(str(tmp_path))] == names


def test_other_files_of_the_output_folder_are_no_manifests(tmp_path):
    for name in ("manifest.txt", "manifest-old.jsonl", "manifest.jsonl.bak", "manifest.jpg", "my-manifest.jsonl"):
        (tmp_path / name).write_bytes(b"anything")

    assert manifests_in(str(tmp_path)) == []


def test_an_output_of_another_input_is_refused(tmp_path):
    run_over(tmp_path, [painted("photos/a.jpg", "a.jpg"), painted("dup.jpg", "a.jpg", same_as="photos/a.jpg")])

    with Journal(str(tmp_path), str(tmp_path / "manifest.jsonl")) as journal:
        journal.refuse_taken("photos/a.jpg", "a.jpg")
        journal.refuse_taken("other/b.jpg", "b.jpg")
        with pytest.raises(UsageError, match=r"other/a.jpg would become a.jpg, .* painted from photos/a.jpg"):
            journal.refuse_taken("other/a.jpg", "a.jpg")


def test_a_folder_that_was_moved_stays_true(tmp_path):
    run_over(tmp_path / "here", [painted("a.jpg")])
    (tmp_path / "here").rename(tmp_path / "there")

    with Journal(str(tmp_path / "there"), str(tmp_path / "there" / "manifest.jsonl")) as journal:
        assert journal.is_settled("a.jpg")


def test_a_manifest_elsewhere_and_as_parquet_is_gone_on_with(tmp_path):
    place = tmp_path / "logs" / "run.parquet"
    for rows in (ROWS[:5], ROWS[5:]):
        with Journal(str(tmp_path / "out"), str(place)) as journal:
            assert journal.is_settled(ROWS[0].input) is (rows[0] != ROWS[0])
            journal.add(rows)
            journal.finish()

    assert {row.input for row in read_rows(str(place))} == {row.input for row in ROWS}
    assert os.listdir(tmp_path / "logs") == ["run.parquet"]


def test_of_two_runs_with_one_manifest_the_second_is_refused(tmp_path):
    place = str(tmp_path / "manifest.jsonl")

    with only_batch(place):
        with pytest.raises(OutputError, match=r"another run is writing .*manifest.jsonl"), only_batch(place):
            pass
        with only_batch(str(tmp_path / "manifest-1-of-2.jsonl")):
            pass
    with only_batch(place):
        pass


def test_a_journal_where_nothing_can_be_written_is_an_output_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(OutputError, match=r"folder"):
        Journal(str(tmp_path / "file"), str(tmp_path / "file" / "manifest.jsonl"))


def test_what_is_kept_of_a_row_is_small():
    count = 100_000
    settled = Settled(painted(f"s3://bucket/photos/{n:08d}.jpg", f"photos/{n:08d}.jpg") for n in range(count))

    assert settled.nbytes == 33 * count  # and nothing else
    names = ["s3://bucket/photos/00000000.jpg", "x", "s3://bucket/photos/00099999.jpg"]
    assert list(settled.among(names)) == [(True, True), (False, False), (True, True)]
    assert not settled.is_taken("s3://bucket/photos/00000007.jpg", "photos/00000007.jpg")
    assert settled.is_taken("other.jpg", "photos/00000007.jpg")


# At addresses, where nothing can be appended to or locked.


def test_a_remote_journal_is_gone_on_with_and_removed(memory):
    place = f"{memory}/manifest.jsonl"
    with Journal(memory, place) as journal:
        journal.add(ROWS[:2])
    assert manifests_in(memory) == [f"{place}.journal"]

    with Journal(memory, place) as journal:
        assert [journal.is_settled(row.input) for row in ROWS[:3]] == [True, True, False]
        journal.add(ROWS[2:])
        assert journal.finish() == Totals(9, Counter(unusable_input=1))

    assert list(read_rows(place)) == sorted(ROWS, key=lambda row: row.input)
    assert manifests_in(memory) == [place]


def test_objects_hold_a_thousand_rows_or_what_came_in_some_seconds(memory):
    now = [0.0]
    lines = RemoteLines(f"{memory}/manifest.jsonl.journal", clock=lambda: now[0])
    for number in range(2500):
        lines.append(to_line(painted(str(number))), 1)
    assert len(lines.objects()) == 2
    now[0] += 16
    lines.append(to_line(painted("late")), 1)

    assert len(lines.objects()) == 3
    lines.close()
    rows = list(read_rows(f"{memory}/manifest.jsonl.journal"))
    assert [row.input for row in rows] == [*map(str, range(2500)), "late"]


def test_rows_at_an_address_are_kept_as_time_passes(memory):
    lines = RemoteLines(f"{memory}/manifest.jsonl.journal", seconds=0.05)

    lines.append(to_line(ROWS[0]), 1)
    end = time.monotonic() + 30
    while not lines.objects() and time.monotonic() < end:
        time.sleep(0.01)

    assert len(lines.objects()) == 1
    lines.close()


def test_rows_of_a_second_run_at_an_address_survive_the_end_of_the_first(memory):
    place = f"{memory}/manifest.jsonl"
    with Journal(memory, place) as first, Journal(memory, place) as second:
        first.add(ROWS[:2])
        second.add(ROWS[2:4])
        first.finish()
        second.add(ROWS[4:6])
        second.finish()

    assert {row.input for row in read_rows(place)} == {row.input for row in ROWS[:6]}


def test_a_second_run_at_an_address_is_refused(memory):
    place = f"{memory}/manifest.jsonl"

    with only_batch(place):
        with pytest.raises(OutputError, match="another run is writing"), only_batch(place):
            pass
        assert manifests_in(memory) == []
        assert exists(f"{place}.lock")
    assert not exists(f"{place}.lock")
    with only_batch(place):
        pass


@pytest.mark.parametrize("alive", [True, False])
def test_a_run_of_another_machine_is_one_as_long_as_it_says_so(alive, memory):
    place, ended = f"{memory}/manifest.jsonl", threading.Event()
    owner = {"machine": "elsewhere", "process": 1, "run": "0", "times": 0}

    def stay():
        while not ended.wait(0.05):
            owner["times"] += 1
            write(f"{place}.lock", json.dumps(owner).encode())

    write(f"{place}.lock", json.dumps(owner).encode())
    other = threading.Thread(target=stay)
    if alive:
        other.start()
        with pytest.raises(OutputError, match="another run is writing"), only_batch(place, every=30):
            pass
        ended.set()
        other.join()
    else:
        with only_batch(place, every=0.1):
            assert b"elsewhere" not in read(f"{place}.lock")


def test_what_a_run_of_this_machine_left_at_an_address_is_taken_at_once(bucket):
    script = (
        "import sys; from fastnst.batch.lease import only_batch\n"
        "with only_batch(sys.argv[1]): print('in', flush=True); sys.stdin.read()"
    )
    place = f"{bucket}/manifest.jsonl"
    run = [sys.executable, "-c", script, place]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "in\n"
        child.kill()
    assert exists(f"{place}.lock")

    with only_batch(place, every=1000):
        pass


# batch.json

SETTINGS = {"style": "candy", "--strength": 1.0, "--mix": (0.7, 0.3), "--quality": 92}


def begun(output, settings=SETTINGS, tag="", **options):
    return begin(str(output), settings, place=str(Path(output) / manifest_name(tag)), tag=tag, **options)


def test_other_settings_are_refused_and_named(tmp_path):
    assert begun(tmp_path) is None
    assert list(tmp_path.iterdir()) == []  # what is there must be looked at first
    save(str(tmp_path), SETTINGS)

    assert begun(tmp_path) is not None
    with pytest.raises(UsageError, match=r"--strength \(1\.0, now 0\.5\).*choose another folder, or add --overwrite"):
        begun(tmp_path, {**SETTINGS, "--strength": 0.5})
    with pytest.raises(UsageError, match=r"--stroke \(null, now 2\), style \(candy, now mosaic\)"):
        begun(tmp_path, {**SETTINGS, "style": "mosaic", "--stroke": 2})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is damaged"),
        (b"[]", "is damaged"),
        (b'{"format": 2, "fastnst": "9.1"}', "newer fastnst, 9.1"),
        (b'{"format": 1}', "no settings"),
    ],
)
def test_a_settings_file_that_cannot_be_used_is_an_input_error(content, said, tmp_path):
    (tmp_path / "batch.json").write_bytes(content)

    with pytest.raises(InputError, match=said):
        begun(tmp_path)


def test_beginning_anew_removes_what_earlier_runs_wrote_and_nothing_else(tmp_path):
    save(str(tmp_path), SETTINGS)
    run_over(tmp_path, ROWS[:1])
    for name in ("part-0123456789ab.tar", "part-1-of-2-0123456789ab.tar", "photo.jpg", "part-mine.tar"):
        (tmp_path / name).write_bytes(b"")
    for tag in ("1-of-2", "2-of-2"):
        with Journal(str(tmp_path), str(tmp_path / manifest_name(tag)), whole=False) as journal:
            journal.add(ROWS[1:2])

    begun(tmp_path, tag="1-of-2", overwrite=True)
    assert "manifest-1-of-2.jsonl.journal" not in os.listdir(tmp_path)
    assert {"manifest-2-of-2.jsonl.journal", "manifest.jsonl", "part-0123456789ab.tar"} <= set(os.listdir(tmp_path))
    assert "part-1-of-2-0123456789ab.tar" not in os.listdir(tmp_path)

    assert begun(tmp_path, {"style": "mosaic"}, tag="1-of-2", overwrite=True) is not None
    assert sorted(os.listdir(tmp_path)) == ["batch.json", "part-mine.tar", "photo.jpg"]
    begun(tmp_path, {"style": "mosaic"})


def test_nothing_is_begun_anew_under_a_run_that_goes_on(tmp_path):
    save(str(tmp_path), SETTINGS)
    with only_batch(str(tmp_path / "manifest-2-of-2.jsonl")):
        with Journal(str(tmp_path), str(tmp_path / "manifest-2-of-2.jsonl"), whole=False) as journal:
            journal.add(ROWS[:1])

        with pytest.raises(OutputError, match=r"another run is writing .*manifest-2-of-2"):
            begun(tmp_path, overwrite=True)
        begun(tmp_path, tag="1-of-2", overwrite=True)

    assert "manifest-2-of-2.jsonl.journal" in os.listdir(tmp_path)


def test_settings_at_an_address(memory):
    assert begin(memory, SETTINGS, place=f"{memory}/manifest.jsonl") is None
    save(memory, SETTINGS)
    write(f"{memory}/part-0123456789ab.tar", b"")

    with pytest.raises(UsageError, match=r"--quality"):
        begin(memory, {**SETTINGS, "--quality": 80}, place=f"{memory}/manifest.jsonl")
    begin(memory, {**SETTINGS, "--quality": 80}, place=f"{memory}/manifest.jsonl", overwrite=True)
    assert begin(memory, {**SETTINGS, "--quality": 80}, place=f"{memory}/manifest.jsonl") is not None

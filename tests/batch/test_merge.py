import json
import os
import random
from collections import Counter

import pytest

from fastnst.batch.journal import Journal, Totals, manifest_name
from fastnst.batch.manifest import read_rows, write_manifest
from fastnst.batch.merge import merge_manifests
from fastnst.batch.rows import Row, failed, to_line
from fastnst.cli.main import main
from fastnst.errors import InputError, OutputError, UsageError


def painted(key, output=None, seconds=0.5, **values):
    return Row(key, output or key, "painted", None, None, seconds, "0" * 64, **values)


def shards(folder, rows, count=4, suffix="jsonl"):
    """The manifests of runs that share rows."""
    places = []
    for index in range(count):
        places.append(f"{folder}/manifest-{index + 1}-of-{count}.{suffix}")
        write_manifest(places[-1], map(to_line, sorted(rows[index::count], key=lambda row: row.input)))
    return places


ROWS = [painted(f"{n:03d}.jpg") if n % 5 else failed(f"{n:03d}.jpg", "x", "storage") for n in range(100)]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
def test_the_manifests_of_shards_make_that_of_a_run_that_was_none(suffix, remote, tmp_path, memory):
    folder = memory if remote else str(tmp_path)
    rows = random.Random(0).sample(ROWS, len(ROWS))

    totals = merge_manifests(shards(folder, rows, suffix=suffix), f"{folder}/all.{suffix}")
    by_pattern = merge_manifests([f"{folder}/manifest-*-of-4.{suffix}"], f"{folder}/again.{suffix}")

    assert totals == by_pattern == Totals(80, Counter(storage=20))
    assert list(read_rows(f"{folder}/all.{suffix}")) == ROWS
    assert list(read_rows(f"{folder}/again.{suffix}")) == ROWS


def test_painted_counts_before_failed_in_whatever_order_manifests_are_given(tmp_path):
    first, second = f"{tmp_path}/1.jsonl", f"{tmp_path}/2.jsonl"
    write_manifest(first, map(to_line, [painted("a"), failed("b", "x", "died")]))
    write_manifest(
        second, map(to_line, [failed("a", "x", "storage"), painted("b"), failed("c", "x", "unusable_input")])
    )

    for number, places in enumerate([(first, second), (second, first), (first, second, first)]):
        merge_manifests(places, f"{tmp_path}/all-{number}.jsonl")
        rows = list(read_rows(f"{tmp_path}/all-{number}.jsonl"))
        assert [(row.input, row.painted) for row in rows] == [("a", True), ("b", True), ("c", False)]


def test_what_a_run_that_died_left_can_be_merged_too(tmp_path):
    with Journal(str(tmp_path), f"{tmp_path}/{manifest_name('1-of-2')}", whole=False) as journal:
        journal.add(ROWS[:10])
    left = tmp_path / "manifest-1-of-2.jsonl.journal"
    left.write_bytes(left.read_bytes() + b'{"input": "half')

    merge_manifests([str(left)], f"{tmp_path}/all.jsonl")

    assert list(read_rows(f"{tmp_path}/all.jsonl")) == ROWS[:10]
    with pytest.raises(InputError, match="not there"):
        merge_manifests([f"{tmp_path}/other.jsonl.journal"], f"{tmp_path}/other.jsonl")


def test_two_inputs_for_one_output_are_refused_unless_they_are_the_same_picture(tmp_path):
    write_manifest(
        f"{tmp_path}/1.jsonl", map(to_line, [painted("one/a.jpg", "a.jpg"), painted("twin.jpg", "a.jpg", same_as="x")])
    )
    write_manifest(f"{tmp_path}/2.jsonl", map(to_line, [painted("two/a.jpg", "a.jpg")]))

    merge_manifests([f"{tmp_path}/1.jsonl"], f"{tmp_path}/fine.jsonl")
    with pytest.raises(UsageError, match=r"one/a.jpg and two/a.jpg were both painted as a.jpg"):
        merge_manifests([f"{tmp_path}/1.jsonl", f"{tmp_path}/2.jsonl"], f"{tmp_path}/all.jsonl")

    assert sorted(os.listdir(tmp_path)) == ["1.jsonl", "2.jsonl", "fine.jsonl"]


def test_what_cannot_be_merged_is_said_in_a_sentence(tmp_path, memory):
    (tmp_path / "m.jsonl").write_bytes(to_line(ROWS[0]) + b"{}\n")
    (place,) = shards(str(tmp_path), ROWS, 1)

    with pytest.raises(InputError, match=r"line 2 of .*m.jsonl has no 'input'"):
        merge_manifests([f"{tmp_path}/m.jsonl"], f"{tmp_path}/all.jsonl")
    with pytest.raises(InputError, match="not there"):
        merge_manifests([f"{tmp_path}/none.jsonl"], f"{tmp_path}/all.jsonl")
    with pytest.raises(InputError, match="no manifests fit"):
        merge_manifests([f"{tmp_path}/none-*.jsonl"], f"{tmp_path}/all.jsonl")
    with pytest.raises(UsageError, match=r"must end with .jsonl or .parquet"):
        merge_manifests([place], f"{tmp_path}/all.csv")
    with pytest.raises(OutputError, match="exists already"):
        merge_manifests([place], place)
    merge_manifests([place], f"{memory}/all.jsonl")
    with pytest.raises(OutputError, match="exists already"):
        merge_manifests([place], f"{memory}/all.jsonl")
    with pytest.raises(OutputError, match="folder"):
        merge_manifests([place], f"{tmp_path}/m.jsonl/all.jsonl")


def test_the_command_counts_and_replaces_only_if_asked(tmp_path, capsys):
    places = shards(str(tmp_path), ROWS)
    whole = f"{tmp_path}/manifest.jsonl"

    assert main(["merge", *places, "-o", whole]) == 0
    assert capsys.readouterr().out == f"{whole}: 80 painted, 20 failed (20 storage)\n"
    assert main(["merge", *places, "-o", whole]) == 5
    assert "--overwrite" in capsys.readouterr().err
    assert main(["merge", *places, whole, "-o", whole, "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        **{"manifest": whole, "painted": 80, "failed": 20, "codes": {"storage": 20}}
    }
    assert list(read_rows(whole)) == ROWS
    assert main(["merge", "-o", whole]) == 2

import base64
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.photos import noise
from helpers.picture_files import encoded

from fastnst.batch import parquet
from fastnst.batch.items import Item
from fastnst.batch.tables import items_of_table, known_error, read_item
from fastnst.errors import InputError, UsageError
from fastnst.storage.addresses import join, write

PNG, JPEG = encoded(noise()), encoded(noise(), "JPEG")
PICTURES = [encoded(noise(seed=seed), "JPEG") for seed in range(100)]
TEXT = base64.b64encode(JPEG).decode()


def everybody(_):
    return True


def items_of(place, column=None):
    return list(items_of_table(str(place), column, everybody))


def contents(items):
    return {item.kept: read_item(item, 10**7) for item in items}


def parquet_file(place, columns, schema=None, **options):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=schema), sink, **options)
    write(str(place), sink.getvalue().to_pybytes())
    return str(place)


def json_file(place, rows, ends="\n", start=b""):
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    write(str(place), start + b"".join(line + ends.encode() for line in lines))
    return str(place)


@pytest.fixture(params=["parquet", "jsonl"])
def table(request, tmp_path):
    """Writes columns as a table of each kind."""

    def file(columns, name="t"):
        place = tmp_path / f"{name}.{request.param}"
        if request.param == "parquet":
            return parquet_file(place, columns)
        names = list(columns)
        return json_file(place, [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)])

    return file


def test_paths_are_below_the_folder_of_the_table(table, tmp_path):
    names = ["a.jpg", "d/ü %#.png", f"{tmp_path}/e.jpg", "/elsewhere/f.jpg", "s3://bucket/g/h.jpg", "film.mp4"]
    names += [f"file://{tmp_path}/x.jpg", "https://host/p/i.jpg?size=3/4", "../up.jpg"]

    items = items_of(table({"path": names, "label": list(range(len(names)))}))

    above = tmp_path.parent
    assert [(item.place, item.kept) for item in items] == [
        (f"{tmp_path}/a.jpg", "a.jpg"),
        (f"{tmp_path}/d/ü %#.png", "d/ü %#.png"),
        (f"{tmp_path}/e.jpg", "e.jpg"),
        ("/elsewhere/f.jpg", "elsewhere/f.jpg"),
        ("s3://bucket/g/h.jpg", "bucket/g/h.jpg"),
        (f"{tmp_path}/film.mp4", "film.mp4"),
        (f"{tmp_path}/x.jpg", "x.jpg"),
        ("https://host/p/i.jpg?size=3/4", "host/p/i-size=3-4.jpg"),
        (f"{above}/up.jpg", f"{above}/up.jpg".lstrip("/")),
    ]
    assert [item.key for item in items] == [item.place for item in items]
    assert [item.kept for item in items if item.clip] == ["film.mp4"]


@pytest.mark.parametrize("store", ["memory", "bucket"])
def test_remote_tables_have_remote_paths(store, request):
    folder = request.getfixturevalue(store)
    place = json_file(f"{folder}/d/t.jsonl", [{"path": "a.jpg"}, {"path": "../b.jpg"}, {"path": "../../../../c.jpg"}])

    items = items_of(place)

    assert [item.place for item in items[:2]] == [f"{folder}/d/a.jpg", f"{folder}/b.jpg"]
    assert items[0].kept == "a.jpg"
    assert all(".." not in item.kept for item in items)


@pytest.mark.parametrize("column", ["image", "PATH", "url", "file_name"])
def test_the_only_likely_column_is_taken(column, table):
    assert [item.kept for item in items_of(table({"id": [1], column: ["a.jpg"], "caption": ["a cat"]}))] == ["a.jpg"]


def test_another_column_can_be_named(table):
    place = table({"path": ["a.jpg"], "url": ["b.jpg"], "what": ["c.jpg"], "id": [1], "tags": [["a", "b"]]})

    assert [item.kept for item in items_of(place, "what")] == ["c.jpg"]
    with pytest.raises(UsageError, match="several columns that may be meant: path, url; add --column"):
        items_of(place)
    with pytest.raises(UsageError, match="has no column nothing; give one of those that it has: path, url, what, id"):
        items_of(place, "nothing")
    for column in ("id", "tags"):
        with pytest.raises(UsageError, match=f"the column {column} of .* has neither paths nor bytes"):
            items_of(place, column)


def test_a_table_without_a_likely_column_names_all(table):
    with pytest.raises(UsageError, match=r"known by its name; add --column, one of: caption, id"):
        items_of(table({"caption": ["x"], "id": [1]}))


def test_rows_without_a_path_are_reported(table):
    place = table({"path": ["a.jpg", None, "", "b.jpg", " "]})

    items = items_of(place)

    assert [item.kept for item in items if not item.error] == ["a.jpg", "b.jpg"]
    assert [item.key for item in items if item.error] == [f"{place}::{row}" for row in (1, 2, 4)]
    assert "row 1 of" in items[1].error
    assert "has no path" in items[1].error


def test_rows_whose_path_is_none_are_reported(table):
    items = items_of(table({"path": ["a\0.jpg", "zip://x::s3://y/z.zip", "a.jpg"]}))

    assert [bool(item.error) for item in items] == [True, True, False]


def test_bytes_in_parquet_are_read(tmp_path):
    place = parquet_file(tmp_path / "shop.parquet", {"image": PICTURES, "id": range(100)}, row_group_size=30)

    items = items_of(place)

    assert contents(items) == {f"shop/{row:07}.jpg": data for row, data in enumerate(PICTURES)}
    assert [items[row].row for row in (0, 29, 30, 99)] == [(0, 0), (0, 29), (1, 0), (3, 9)]
    assert items[17].key == f"{place}::17"
    order = np.random.default_rng(0).permutation(100)
    assert [read_item(items[row], 10**7) for row in order] == [PICTURES[row] for row in order]


@pytest.mark.parametrize("store", ["memory", "bucket"])
def test_bytes_in_remote_tables_are_read(store, request, monkeypatch):
    monkeypatch.setattr(parquet, "_BUFFER", 1000)
    place = join(request.getfixturevalue(store), "t.parquet")
    parquet_file(place, {"image": PICTURES[:20]}, row_group_size=7)

    assert list(contents(items_of(place)).values()) == PICTURES[:20]


def test_pictures_of_hugging_face_have_their_names(tmp_path):
    rows = [{"bytes": PNG, "path": "d/a.png"}, {"bytes": JPEG, "path": None}, {"bytes": None, "path": "out.jpg"}]
    rows += [{"bytes": PNG, "path": "../../x.png"}, {"bytes": PNG, "path": "/abs/y.png"}, {"bytes": None, "path": None}]
    place = parquet_file(tmp_path / "hf.parquet", {"image": [*rows, None]})
    (tmp_path / "out.jpg").write_bytes(PICTURES[5])

    items = items_of(place)

    assert [item.kept for item in items] == [
        *("hf/d/a.png", "hf/0000001.png", "hf/out.jpg", "hf/0000003.png", "hf/abs/y.png", "hf/0000005.png"),
        "hf/0000006.png",
    ]
    assert [read_item(items[row], 10**7) for row in (0, 1, 2, 4)] == [PNG, JPEG, PICTURES[5], PNG]
    assert "leads out" in items[3].error
    for row in (5, 6):
        with pytest.raises(InputError, match=f"hf.parquet::{row} has no picture"):
            read_item(items[row], 10**7)


def test_nulls_among_bytes_are_reported_when_they_are_read(tmp_path):
    items = items_of(parquet_file(tmp_path / "t.parquet", {"image": [None, PNG, b""]}))

    assert [item.kept for item in items] == ["t/0000000.png", "t/0000001.png", "t/0000002.png"]
    with pytest.raises(InputError, match="has no picture"):
        read_item(items[0], 100)
    assert [read_item(one, 10**6) for one in items[1:]] == [PNG, b""]


@pytest.mark.parametrize(
    "kind",
    [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
    ids=["large", "view", "dictionary"],
)
def test_texts_of_any_kind_are_paths(kind, tmp_path):
    column = pa.array(["a.jpg", "b.jpg", "a.jpg"]).cast(kind)

    assert [item.kept for item in items_of(parquet_file(tmp_path / "t.parquet", {"path": column}))] == [
        *("a.jpg", "b.jpg", "a.jpg"),
    ]


def test_columns_of_numbers_lists_and_other_structs_are_none(tmp_path):
    columns = {"image": [[1, 2]], "path": [3], "file": [{"x": 1}], "url": [[PNG]]}

    with pytest.raises(UsageError, match="add --column, one of: image, path, file, url"):
        items_of(parquet_file(tmp_path / "t.parquet", columns))


def test_an_empty_table_has_no_items(tmp_path):
    place = parquet_file(tmp_path / "t.parquet", {"image": pa.array([], pa.binary())})

    assert items_of(place) == []


@pytest.mark.parametrize("data", [b"", b"no table", b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_no_parquet_is_told(data, tmp_path):
    (tmp_path / "t.parquet").write_bytes(data)

    with pytest.raises(InputError, match="no Parquet"):
        items_of(tmp_path / "t.parquet")


def test_damage_within_a_table_is_told_when_it_is_read(tmp_path):
    place = Path(parquet_file(tmp_path / "t.parquet", {"image": PICTURES}, compression="zstd"))
    items = items_of(place)
    data = bytearray(place.read_bytes())
    data[2000 : len(data) - 2000] = bytes(len(data) - 4000)
    place.write_bytes(data)

    with pytest.raises(InputError, match="is damaged"):
        [read_item(item, 10**7) for item in items]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_lines_of_json_may_be_broken(start, ends, tmp_path):
    rows = [{"image": "a.jpg"}, b"{broken", b"", b"[1]", b'{"image": "b.jpg"', b"\xff\xfe", {"x": 1}, {"image": 7}]
    place = json_file(tmp_path / "t.jsonl", [*rows, {"image": ["x"]}, {"image": "ü.jpg"}], ends, start)

    items = items_of(place)

    assert [item.kept for item in items if not item.error] == ["a.jpg", "ü.jpg"]
    assert [item.key for item in items if item.error] == [f"{place}::{row}" for row in range(1, 8)]
    assert "is no object in JSON" in items[1].error


def test_bytes_in_json_are_base64(tmp_path):
    url = base64.urlsafe_b64encode(PNG).decode().rstrip("=")
    lines = "\n".join(TEXT[at : at + 76] for at in range(0, len(TEXT), 76))
    rows = [{"image": TEXT}, {"image": f"data:image/jpeg;base64,{TEXT}"}, {"image": url}, {"image": lines}]
    rows += [{"image": {"bytes": TEXT, "path": "d/x.jpeg"}}, {"image": {"bytes": None, "path": "y.jpg"}}]
    place = json_file(tmp_path / "t.jsonl", rows, "\r\n", b"\xef\xbb\xbf")

    items = items_of(place)

    assert contents(items[:5]) == {
        "t/0000000.jpg": JPEG,
        "t/0000001.jpg": JPEG,
        "t/0000002.png": PNG,
        "t/0000003.jpg": JPEG,
        "t/d/x.jpeg": JPEG,
    }
    assert items[5].place == f"{tmp_path}/y.jpg"


def test_paths_that_look_like_base64_are_paths(tmp_path):
    long = "/".join(["abcd"] * 40)
    place = json_file(tmp_path / "t.jsonl", [{"path": "9jABCDEF"}, {"path": long}])

    assert [item.kept for item in items_of(place)] == ["9jABCDEF", long]


def test_damaged_base64_is_told_when_it_is_read(tmp_path):
    place = json_file(tmp_path / "t.jsonl", [{"bytes": "no base64!"}, {"bytes": TEXT[:100] + "*" + TEXT[101:]}])

    for item in items_of(place):
        with pytest.raises(InputError, match="is no base64"):
            read_item(item, 10**6)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"no json\nat all\n", b"[1, 2]\n", b"7\n"])
def test_what_is_no_table_in_json_is_told(data, tmp_path):
    (tmp_path / "t.ndjson").write_bytes(data)

    with pytest.raises(InputError, match="has no rows of JSON"):
        items_of(tmp_path / "t.ndjson")


def test_only_what_is_ours_is_kept(table):
    place = table({"path": ["a.jpg", "b.jpg"]})

    assert [item.kept for item in items_of_table(place, None, "b.jpg".__eq__)] == ["b.jpg"]


def test_files_are_read_up_to_a_limit(tmp_path, memory):
    for place in (f"{tmp_path}/a.jpg", f"{memory}/a.jpg"):
        write(place, b"x" * 1000)
        assert read_item(Item(place, place, "a.jpg"), 1000) == b"x" * 1000
        assert read_item(Item(place, place, "a.jpg"), 10) == b"x" * 11


def test_an_item_with_an_error_has_no_bytes():
    error = known_error(Item("a", "a", "a", error="it is too large", code="image_dimensions"))

    assert (str(error), error.code) == ("it is too large", "image_dimensions")

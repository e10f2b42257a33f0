import gzip
import tarfile

import pytest
from helpers.tars import special, tar_of

from fastnst.errors import InputError
from fastnst.storage import tars
from fastnst.storage.addresses import join, read, write
from fastnst.storage.tars import is_packed, members

CONTENTS = {
    "a.jpg": b"1" * 700,
    "d/b.png": b"22",
    "empty.jpg": b"",
    "c.json": b"{}" * 1000,
    "x" * 180 + ".jpg": b"long",
}


def contents_of(place):
    """What the members are, read by their ranges; and the error in the end, if any."""
    found, error = {}, None
    try:
        for member in members(place):
            content = read(place, member.start, member.length)
            assert content.startswith(member.head)
            assert bool(member.head) == bool(content)
            found[member.name] = member.problem or content
    except InputError as raised:
        error = str(raised)
    return found, error


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path):
    folder = str(tmp_path) if request.param == "local" else request.getfixturevalue("memory")
    return join(folder, "photos 100%.tar")


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_where_they_are_said_to_be(format, place):
    contents = {name: data for name, data in CONTENTS.items() if format != tarfile.USTAR_FORMAT or len(name) < 100}
    write(place, tar_of(contents, format))

    assert contents_of(place) == (contents, None)


def test_tars_on_s3_are_read_in_pieces(bucket, monkeypatch):
    monkeypatch.setattr(tars, "_AHEAD", 100_000)
    contents = {f"{number:04}.jpg": bytes([number]) * 50_000 for number in range(20)}
    write(f"{bucket}/x.tar", tar_of(contents))

    assert contents_of(f"{bucket}/x.tar") == (contents, None)


@pytest.mark.parametrize(
    "name", ["ü 日本.jpg", "../x.jpg", "/etc/x.jpg", "a\\b.jpg", "\udcff.jpg", "#?%.jpg", "-r.jpg"]
)
def test_names_are_as_they_are_in_the_tar(name, place):
    write(place, tar_of({name: b"1"}, tarfile.GNU_FORMAT))

    assert contents_of(place) == ({name: b"1"}, None)


def test_links_have_the_bytes_of_what_they_lead_to(place):
    links = {
        "hard.jpg": special("hard.jpg", tarfile.LNKTYPE, "d/b.png"),
        "d/soft.jpg": special("d/soft.jpg", tarfile.SYMTYPE, "../a.jpg"),
        "gone.jpg": special("gone.jpg", tarfile.SYMTYPE, "/etc/passwd"),
    }
    write(place, tar_of(links | CONTENTS))

    found, error = contents_of(place)

    assert error is None
    assert found.pop("hard.jpg") == b"22"
    assert found.pop("d/soft.jpg") == CONTENTS["a.jpg"]
    assert found.pop("gone.jpg") == "is a link to /etc/passwd, which the tar does not have; add it"
    assert found == CONTENTS


def test_folders_devices_and_pipes_are_no_files(place):
    others = {kind: special(f"x{kind}.jpg", kind) for kind in (tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)}
    write(place, tar_of({**others, "a.jpg": b"1"}))

    assert contents_of(place) == ({"a.jpg": b"1"}, None)


def test_files_with_holes_are_told(place, tmp_path):
    # As `tar --sparse` writes them: a map of the data, of which there are 4 bytes at 1000.
    header = bytearray(special("holes.jpg", tarfile.REGTYPE).tobuf(tarfile.GNU_FORMAT))
    header[124:136], header[156:157] = b"00000000004\0", b"S"
    header[386:410], header[483:495] = b"00000001750\x0000000000004\0", b"00000001754\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    write(place, bytes(header) + b"data".ljust(512, b"\0") + tar_of({"a.jpg": b"1"}))

    found, error = contents_of(place)

    assert found == {"holes.jpg": "is stored with holes; write the tar without --sparse", "a.jpg": b"1"}
    assert error is None


@pytest.mark.parametrize("kept", [100, 512, 600, 1023, 1024 + 100, 1024 + 1536, 1024 + 512 + 20])
def test_of_a_tar_that_was_cut_off_there_is_what_is_whole(kept, place):
    whole = {"a.jpg": b"1" * 500, "b.jpg": b"2" * 500, "c.jpg": b"3" * 500}
    write(place, tar_of(whole)[:kept])

    found, error = contents_of(place)

    assert found == dict(list(whole.items())[: max(0, kept // 1024 if kept >= 1024 else int(kept >= 1012))])
    assert "cut off" in error or "no tar" in error


def test_what_is_before_damage_is_taken(place):
    data = bytearray(tar_of({"a.jpg": b"1" * 500, "b.jpg": b"2" * 500, "c.jpg": b"3" * 500}))
    data[1024:1100] = b"\xff" * 76
    write(place, bytes(data))

    found, error = contents_of(place)

    assert list(found) == ["a.jpg"]
    assert "is damaged at byte 1024" in error


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no tar"),
        (b"no tar at all", "no tar"),
        (bytes(range(256)) * 8, "no tar"),
        (gzip.compress(b"x", mtime=0), "gunzip"),
        (b"\x28\xb5\x2f\xfd123", "unzstd"),
    ],
)
def test_what_is_no_tar_is_told(data, words, place):
    write(place, data)

    assert contents_of(place)[0] == {}
    assert words in contents_of(place)[1]


def test_an_empty_tar_has_nothing(place):
    write(place, tar_of({}))

    assert contents_of(place) == ({}, None)


def test_a_tar_that_is_not_there_is_told(place):
    with pytest.raises(InputError, match="is not there"):
        next(members(place))


@pytest.mark.parametrize("name", ["a.tar.gz", "s3://b/A.TGZ", "x.tar.zst", "x.tar.bz2", "x.txz"])
def test_compressed_tars_are_told_by_their_names(name):
    assert is_packed(name)


@pytest.mark.parametrize("name", ["a.tar", "a.gz", "a.tar/b.jpg", "tar.gz.jpg", "a.jpg"])
def test_others_are_not(name):
    assert not is_packed(name)

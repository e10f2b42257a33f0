import os
import subprocess
import sys

import pytest
from helpers.material import PROGRAMS

from fastnst.errors import Interrupted, OutputError
from fastnst.files import atomic_write, check_output, is_folder, make_folder, printable, write_bytes


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_write_bytes_makes_the_folders_and_leaves_one_file(tmp_path):
    write_bytes(tmp_path / "new" / "er" / "a.bin", b"data")

    assert (tmp_path / "new/er/a.bin").read_bytes() == b"data"
    assert tree(tmp_path) == ["new", "new/er", "new/er/a.bin"]


def test_written_file_has_the_permissions_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a.bin", b"data")
    finally:
        os.umask(before)

    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o640


def test_file_appears_only_at_the_end_of_the_block(tmp_path):
    with atomic_write(tmp_path / "a.bin") as file:
        file.write(b"data")
        file.flush()

        assert not (tmp_path / "a.bin").exists()

    assert tree(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_failed_write_keeps_the_old_file_and_leaves_no_other(failure, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"old")

    def write_half():
        with atomic_write(tmp_path / "a.bin") as file:
            file.write(b"half of the new")
            raise failure

    with pytest.raises(failure):
        write_half()

    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert tree(tmp_path) == ["a.bin"]


def test_full_disk_is_an_output_error_that_keeps_the_old_file_and_leaves_no_other(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"old")

    command = [sys.executable, PROGRAMS / "limited_write.py", tmp_path / "a.bin"]
    done = subprocess.run(command, capture_output=True, check=False, text=True)

    assert done.stdout == f"cannot write {tmp_path / 'a.bin'}: File too large\n"
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert tree(tmp_path) == ["a.bin"]


def test_name_too_long_is_an_output_error_that_leaves_no_file(tmp_path):
    with pytest.raises(OutputError, match="File name too long"):
        write_bytes(tmp_path / ("a" * 256), b"data")

    assert tree(tmp_path) == []


def test_name_as_long_as_it_may_be_can_be_written(tmp_path):
    write_bytes(tmp_path / ("a" * 255), b"data")

    assert (tmp_path / ("a" * 255)).read_bytes() == b"data"


def test_folder_below_a_file_cannot_be_made(tmp_path):
    (tmp_path / "a").write_bytes(b"")

    with pytest.raises(OutputError, match=r"cannot make the folder .*a/b: Not a directory"):
        make_folder(tmp_path / "a" / "b")


def test_check_output_makes_nothing(tmp_path):
    check_output(tmp_path / "new" / "er" / "a.png", overwrite=False)

    assert tree(tmp_path) == []


def test_check_output_refuses_an_existing_file_unless_it_may_be_overwritten(tmp_path):
    (tmp_path / "a.png").write_bytes(b"old")

    check_output(tmp_path / "a.png", overwrite=True)
    with pytest.raises(OutputError, match=r"a\.png exists already; add --overwrite or choose another name"):
        check_output(tmp_path / "a.png", overwrite=False)


def test_check_output_refuses_a_broken_link(tmp_path):
    (tmp_path / "a.png").symlink_to("nothing")

    with pytest.raises(OutputError, match="exists already"):
        check_output(tmp_path / "a.png", overwrite=False)


@pytest.mark.parametrize("overwrite", [False, True])
def test_check_output_refuses_a_folder(overwrite, tmp_path):
    with pytest.raises(OutputError, match="is a folder; give the name of a file"):
        check_output(tmp_path, overwrite=overwrite)


def test_check_output_refuses_a_folder_below_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"")

    with pytest.raises(OutputError, match="a is not a folder; choose another"):
        check_output(tmp_path / "a" / "b" / "c.png", overwrite=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every folder")
@pytest.mark.parametrize("name", ["a.png", "new/a.png"])
def test_check_output_refuses_a_read_only_folder(name, tmp_path):
    tmp_path.chmod(0o555)

    with pytest.raises(OutputError, match="cannot write to the folder"):
        check_output(tmp_path / name, overwrite=False)


def test_is_folder_is_false_for_names_no_file_can_have(tmp_path):
    assert is_folder(tmp_path)
    assert not any(map(is_folder, [tmp_path / "missing", "a" * 300, "a\0b"]))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("photo.jpg", "photo.jpg"),
        ("Straße 🎨.jpg", "Straße 🎨.jpg"),
        ("a\nb\x1b[31m.jpg", "a\\nb\\x1b[31m.jpg"),
        (b"\xff.jpg", "\\udcff.jpg"),
    ],
)
def test_show_escapes_what_cannot_be_printed_and_nothing_else(name, shown):
    assert printable(name) == shown


def stop_writing(target, part):
    with atomic_write(target, part) as file:
        file.write(b"new")
        raise Interrupted("stopped", 2)


def test_interrupted_write_is_kept_under_its_other_name(tmp_path):
    target, part = tmp_path / "a.bin", tmp_path / "a.part.bin"
    target.write_bytes(b"old")

    with pytest.raises(Interrupted):
        stop_writing(target, part)

    assert (target.read_bytes(), part.read_bytes()) == (b"old", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.part.bin"]


def test_interrupted_write_without_another_name_leaves_nothing(tmp_path):
    with pytest.raises(Interrupted):
        stop_writing(tmp_path / "a.bin", None)

    assert list(tmp_path.iterdir()) == []

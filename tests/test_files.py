import errno
import os
import subprocess
import sys
import threading

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


REFUSALS = [errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP]
FAILURES = [errno.EIO, errno.ENOSPC]


def failing(number):
    def call(*_, **__):
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("old", [None, b"a longer old file"])
@pytest.mark.parametrize("call", ["fsync", "chmod", "fchmod", "utime", "replace", "rename"])
@pytest.mark.parametrize("number", REFUSALS)
def test_what_a_drive_refuses_costs_no_file(number, call, old, tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    if old is not None:
        path.write_bytes(old)
    monkeypatch.setattr(os, call, failing(number))

    write_bytes(path, b"new")

    assert path.read_bytes() == b"new"
    assert tree(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", FAILURES)
def test_what_a_full_or_broken_disk_says_is_an_error_that_keeps_the_old_file(number, call, tmp_path, monkeypatch):
    (tmp_path / "a.bin").write_bytes(b"old")
    monkeypatch.setattr(os, call, failing(number))

    with pytest.raises(OutputError, match=os.strerror(number)):
        write_bytes(tmp_path / "a.bin", b"new")

    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert tree(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV])
def test_a_file_that_is_mounted_alone_is_written_in_its_place(number, tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_bytes(b"a longer old file")
    inode = path.stat().st_ino
    monkeypatch.setattr(os, "replace", failing(number))

    write_bytes(path, b"new")

    assert (path.read_bytes(), path.stat().st_ino) == (b"new", inode)


def test_a_copy_that_fails_leaves_no_file_that_was_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", failing(errno.EPERM))
    broken = iter([None, failing(errno.ENOSPC)])  # the temporary file is fine, the copy is not
    monkeypatch.setattr(os, "fsync", lambda file: (next(broken) or (lambda: None))())

    with pytest.raises(OutputError, match="No space left"):
        write_bytes(tmp_path / "a.bin", b"new")

    assert tree(tmp_path) == []


@pytest.mark.parametrize("leads", ["beside", "into a folder", "absolute", "over another", "to nothing yet"])
def test_the_target_of_a_link_is_written_and_the_link_stays(leads, tmp_path):
    (tmp_path / "folder").mkdir()
    target = tmp_path / ("real.bin" if leads == "beside" else "folder/real.bin")
    if leads != "to nothing yet":
        target.write_bytes(b"old")
    link = tmp_path / "link.bin"
    if leads == "over another":
        (tmp_path / "folder" / "second.bin").symlink_to("real.bin")
        link.symlink_to("folder/second.bin")
    else:
        link.symlink_to(target if leads == "absolute" else target.relative_to(tmp_path))
    before = tree(tmp_path)

    check_output(link, overwrite=True)
    write_bytes(link, b"new")

    assert target.read_bytes() == b"new"
    assert link.is_symlink()
    assert not target.is_symlink()
    assert tree(tmp_path) == sorted({*before, target.relative_to(tmp_path).as_posix()})


@pytest.mark.parametrize(
    "write", [lambda path: check_output(path, overwrite=True), lambda path: write_bytes(path, b"")]
)
def test_links_in_a_circle_are_an_output_error(write, tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    with pytest.raises(OutputError, match="a: it is a link that leads back to itself; remove it"):
        write(tmp_path / "a")

    assert tree(tmp_path) == ["a", "b"]


def test_other_names_of_a_file_keep_what_they_had(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"old")
    (tmp_path / "b.bin").hardlink_to(tmp_path / "a.bin")

    write_bytes(tmp_path / "a.bin", b"new")

    assert [(tmp_path / name).read_bytes() for name in ("a.bin", "b.bin")] == [b"new", b"old"]


def test_a_pipe_gets_the_file_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    received = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_bytes()))
    reader.start()

    write_bytes(tmp_path / "pipe", b"data")

    reader.join()
    assert received == [b"data"]
    assert tree(tmp_path) == ["pipe"]
    assert not (tmp_path / "pipe").is_file()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every folder")
def test_a_file_in_a_read_only_folder_is_written_if_it_may_be(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"old")
    tmp_path.chmod(0o555)

    check_output(tmp_path / "a.bin", overwrite=True)
    write_bytes(tmp_path / "a.bin", b"new")

    assert (tmp_path / "a.bin").read_bytes() == b"new"

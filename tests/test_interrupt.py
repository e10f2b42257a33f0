import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest
import torch

from fastnst.errors import OutputError
from fastnst.interrupt import Deadline, caught_signals, is_out_of_memory, only_run, until_signal


def test_an_allocation_beyond_all_memory_is_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 46, dtype=torch.uint8)

    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError())
    assert not is_out_of_memory(RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"))


def test_second_run_is_refused_while_the_first_goes_on(tmp_path):
    path = tmp_path / "runs" / ".lock"

    with only_run(path, "runs"):
        with pytest.raises(OutputError, match="another run is writing runs") as caught, only_run(path, "runs"):
            pass
        assert caught.value.exit_status == 5
    with only_run(path, "runs"):
        pass

    assert list(tmp_path.iterdir()) == []  # folders made for the lock alone go with it


def test_lock_of_a_killed_process_holds_nobody_up(tmp_path):
    path = tmp_path / ".lock"
    script = (
        "import os, signal, sys; from pathlib import Path; from fastnst.interrupt import only_run\n"
        "with only_run(Path(sys.argv[1]), 'it'): os.kill(os.getpid(), signal.SIGKILL)"
    )

    killed = subprocess.run([sys.executable, "-c", script, path], check=False)

    assert killed.returncode == -signal.SIGKILL
    assert path.exists()
    with only_run(path, "it"):
        pass
    assert not path.exists()


def test_lock_in_a_folder_that_is_a_file_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(OutputError, match="folder"), only_run(tmp_path / "file" / ".lock", "it"):
        pass


NO_LOCKS = [errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK]


@pytest.mark.parametrize("number", NO_LOCKS)
@pytest.mark.parametrize("call", [(fcntl, "flock"), (os, "fchmod"), (os, "chmod")], ids=lambda call: call[1])
def test_a_drive_without_locks_or_permissions_holds_nobody_up(number, call, tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*call, refused)

    with only_run(tmp_path / "runs" / ".lock", "runs"):
        pass

    assert list(tmp_path.iterdir()) == []


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_deadline_leaves_time_for_the_longest_step_and_twice_the_longest_save():
    clock = Clock()
    deadline = Deadline(30, clock)

    clock.now = 104  # the longest step took 4 seconds
    deadline.step()
    assert not deadline.near
    with deadline.saving():
        clock.now = 107
    clock.now = 108
    deadline.step()
    assert not deadline.near
    clock.now = 119  # another took 11 with all that is around it: 19 + 11 + 6 are more than 30
    deadline.step()
    assert deadline.near
    clock.now = 108
    assert not Deadline(None, clock).near


def test_asking_whether_a_deadline_is_near_changes_nothing():
    clock = Clock()
    deadline = Deadline(30, clock)

    clock.now = 110
    assert [deadline.near, deadline.near] == [False, False]

    assert deadline.longest_step == 0


def test_deadline_that_cannot_be_met_is_near_from_the_start():
    assert Deadline(0.5).near


def test_items_end_with_the_one_during_which_a_signal_came():
    received = []

    seen = []
    for item in until_signal(range(5), received):
        seen.append(item)
        if item == 2:
            received.append(signal.SIGINT)

    assert seen == [0, 1, 2]


def test_only_the_first_signal_is_caught_and_handlers_are_put_back():
    before = signal.getsignal(signal.SIGUSR1)

    with caught_signals() as received:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert received == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL

    assert signal.getsignal(signal.SIGUSR1) is before

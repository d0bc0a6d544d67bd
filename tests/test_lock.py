import os

import pytest

from specialize.errors import OutputError
from specialize.lock import locked


def test_a_second_holder_is_told_and_may_refuse(tmp_path):
    path = tmp_path / "runs" / "first" / ".lock"

    def refuse():
        raise OutputError("busy")

    with locked(path, on_busy=refuse):
        with pytest.raises(OutputError, match="busy"), locked(path, on_busy=refuse):
            pass
        assert path.exists()
    with locked(path, on_busy=refuse):
        pass


def test_what_is_made_for_the_lock_is_removed_unless_it_is_used(tmp_path):
    for kept in (False, True):
        with locked(tmp_path / "runs" / "first" / ".lock", on_busy=pytest.fail):
            if kept:
                (tmp_path / "runs" / "file").write_text("mine")
        assert [path.name for path in tmp_path.rglob("*")] == (["runs", "file"] if kept else [])


def test_a_lock_that_is_waited_for(tmp_path):
    """While it is waited for, the holder removes the file: the lock is then taken on a new one."""
    path = tmp_path / ".lock"
    held = locked(path, on_busy=pytest.fail)
    held.__enter__()
    told = []

    def wait():
        told.append(path.stat().st_ino)
        held.__exit__(None, None, None)

    with locked(path, on_busy=wait), pytest.raises(OutputError), locked(path, on_busy=refuse_again):
        pass
    assert len(told) == 1


def refuse_again():
    raise OutputError("busy")


def test_a_lock_where_none_can_be_made(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"file: could not be created \(.+\); choose another folder"):
        locked(tmp_path / "file" / ".lock", on_busy=pytest.fail).__enter__()
    os.symlink(tmp_path / "elsewhere", tmp_path / ".lock")
    with pytest.raises(OutputError, match="could not be created"):
        locked(tmp_path / ".lock", on_busy=pytest.fail).__enter__()
    assert not (tmp_path / "elsewhere").exists()

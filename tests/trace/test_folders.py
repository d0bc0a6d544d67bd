"""Folders that are whole or absent, and what a failure says of them."""

import errno
import os

import pytest

from specialize.atomic import write_text
from specialize.errors import OutputError, TraceError
from specialize.trace.folders import whole_folder


def test_a_disk_that_is_full_does_not_say_that_something_is_kept(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write():
        with whole_folder(tmp_path / "run") as folder:
            write_text(folder / "first", "1")
            monkeypatch.setattr(os, "fsync", full)
            write_text(folder / "second", "2")

    with pytest.raises(OutputError) as caught:
        write()
    monkeypatch.undo()
    assert str(caught.value).startswith(f"{tmp_path / 'run'}: could not be written (No space left on device); nothing")
    assert "is kept" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [TraceError("wrong input"), KeyboardInterrupt(), OutputError("not of a file")])
def test_another_failure_says_what_it_says(tmp_path, error):
    def write():
        with whole_folder(tmp_path / "run") as folder:
            write_text(folder / "first", "1")
            raise error

    with pytest.raises(type(error)) as caught:
        write()
    assert caught.value is error
    assert list(tmp_path.iterdir()) == []

import fcntl
import os

import pytest

from specialize.atomic import replacing, write_text
from specialize.errors import OutputError
from specialize.trace.folders import whole_folder


def test_a_failure_keeps_the_old_file_and_leaves_no_part(tmp_path):
    path = tmp_path / "new folder" / "result.txt"
    write_text(path, "old")

    def fail_half_way() -> None:
        with replacing(path) as partial:
            partial.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["result.txt"]


def test_a_full_disk_is_one_line_that_says_what_to_do(tmp_path):
    path = tmp_path / "result.txt"
    with pytest.raises(OutputError) as caught, replacing(path):
        raise OSError(28, "No space left on device")
    assert str(caught.value) == (
        f"{path}: could not be written (No space left on device); what was written before is kept: make room and run "
        "the same command again to resume"
    )
    assert not path.exists()


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="could not be written"):
        write_text(tmp_path / "file" / "result.txt", "")


def test_what_a_killed_process_left_is_replaced(tmp_path):
    """A process that is killed leaves its part behind, and no lock on it."""
    (tmp_path / ".result.txt.partial").write_text("much longer than what is written now")
    write_text(tmp_path / "result.txt", "new")
    left = tmp_path / ".run.partial"
    (left / "trace").mkdir(parents=True)
    (left / "trace" / "half").write_text("")
    (left / "link").symlink_to(tmp_path)
    with whole_folder(tmp_path / "run") as folder:
        assert list(folder.iterdir()) == []
        write_text(folder / "first", "1")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "result.txt", "run", "run/first",
    ]  # fmt: skip
    assert (tmp_path / "result.txt").read_text() == "new"


def test_a_file_that_a_living_process_writes_is_left_alone(tmp_path):
    with replacing(tmp_path / "file") as partial:  # a lock of one file descriptor holds against any other
        partial.write_text("first")
        write_text(tmp_path / "file", "second")
        assert (tmp_path / "file").read_text() == "second"
    assert (tmp_path / "file").read_text() == "first"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_a_living_process_writes_is_left_alone(tmp_path):
    def write_in_the_middle() -> None:
        with whole_folder(tmp_path / "folder") as outer:
            write_text(outer / "name", "first")
            with whole_folder(tmp_path / "folder") as inner:
                write_text(inner / "name", "second")

    with pytest.raises(OutputError, match="could not be created"):
        write_in_the_middle()
    assert (tmp_path / "folder" / "name").read_text() == "second"
    assert os.listdir(tmp_path) == ["folder"]


def test_a_link_in_place_of_a_part_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("data")
    (tmp_path / ".result.txt.partial").symlink_to("precious")
    write_text(tmp_path / "result.txt", "new")
    assert (tmp_path / "precious").read_text() == "data"
    assert (tmp_path / "result.txt").read_text() == "new"
    assert not (tmp_path / "result.txt").is_symlink()


def test_without_locks_files_are_whole_too(tmp_path, monkeypatch):
    def unavailable(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unavailable)
    (tmp_path / ".result.txt.partial").write_text("perhaps of a living process")
    write_text(tmp_path / "result.txt", "new")
    assert sorted(os.listdir(tmp_path)) == [".result.txt.partial", "result.txt"]

import os

import pytest

from specialize.atomic import replacing, write_text
from specialize.errors import OutputError


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

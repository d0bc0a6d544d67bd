"""Character positions of imported tokens lie in the texts; archives that cannot be routing are refused."""

import zipfile

import numpy as np
import pytest

from specialize.errors import TraceError
from specialize.trace.imports import import_trace, source

EXPERTS = np.arange(8).reshape(2, 2, 2)


def write(folder, **arrays):
    folder.mkdir()
    for name, array in {"experts": EXPERTS, **arrays}.items():
        np.save(folder / f"{name}.npy", np.asarray(array))
    return folder


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ([0, 4], [3, 9], r"token 1: expected char_start and char_end in the text of 8 characters, .* got 4 to 9"),
        ([0, 5], [3, 4], r"token 1: .*, or -1 for both, got 5 to 4"),
        ([-1, 0], [3, 3], r"token 0: .* got -1 to 3"),
    ],
)
def test_places_outside_the_text_are_refused(tmp_path, start, end, message):
    (tmp_path / "documents.jsonl").write_text('{"text": "One two."}\n')
    folder = write(tmp_path / "in", char_start=start, char_end=end)
    with pytest.raises(TraceError, match=message):
        import_trace("arrays", folder, tmp_path / "run", documents=tmp_path / "documents.jsonl")
    assert not (tmp_path / "run").exists()


def test_a_start_alone_is_refused(tmp_path):
    with pytest.raises(TraceError, match="expected char_start and char_end, got char_start alone"):
        import_trace("arrays", write(tmp_path / "in", char_start=[0, 1]), tmp_path / "run")


def test_places_that_are_not_known_are_kept(tmp_path):
    trace = import_trace("arrays", write(tmp_path / "in", char_start=[-1, 70], char_end=[-1, 80]), tmp_path / "run")
    assert trace.tokens()["char_end"].tolist() == [-1, 80]


def test_an_archive_of_zeros_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", experts=np.zeros((2**22, 2, 2), np.int8))
    with pytest.raises(TraceError, match="expands more than 200-fold"):
        import_trace("arrays", tmp_path / "a.npz", tmp_path / "run")


def test_an_array_that_occurs_twice_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", experts=EXPERTS)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("experts.npy", archive.read("experts.npy"))
    with pytest.raises(TraceError, match=r"two members 'experts\.npy'"):
        import_trace("arrays", tmp_path / "a.npz", tmp_path / "run")


def test_a_line_that_is_null_does_not_end_the_process(tmp_path):
    (tmp_path / "a.jsonl").write_text("null\n")
    with pytest.raises(TraceError, match=r"a\.jsonl, line 1: expected one JSON object .*a line that is no object"):
        import_trace("olmoe", tmp_path / "a.jsonl", tmp_path / "run")


@pytest.mark.parametrize(
    ("format_name", "name"), [("esft", "expert_weights_0.txt"), ("olmoe", "a.jsonl"), ("sglang", "a.jsonl")]
)
def test_a_line_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch, format_name, name):
    monkeypatch.setattr(source, "_LONGEST_LINE", 1000)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(b"\n" + b"1\t" * 501)
    with pytest.raises(TraceError, match=r"line 2: expected at most 1\.0 kB, got a longer line"):
        import_trace(format_name, tmp_path / "in", tmp_path / "run", top_k=1, num_layers=1)

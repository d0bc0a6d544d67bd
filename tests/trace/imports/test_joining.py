"""Several inputs in one run: tokens in the order of the inputs, whose names are a label and part of the ids."""

import numpy as np
import pytest

from listening import Listener
from planted.dumps import NUM_EXPERTS, Planted, write_esft
from specialize.errors import TraceError
from specialize.trace import validate_trace
from specialize.trace.imports import import_trace


def write_arrays(folder, seed, *, documents=None, **others):
    folder.mkdir()
    experts = np.random.default_rng(seed).random((6, 2, 5)).argsort(axis=2)[:, :, :2]
    arrays = {"experts": experts, "document": np.repeat([1, 0], 3), "num_experts": np.array(5), **others}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    if documents is not None:
        documents.to_parquet(folder / "documents.parquet", index=False)
    return experts


def test_inputs_follow_one_another(tmp_path, planted):
    halves = {"law": Planted(planted.experts[:2], planted.weights[:2]),
              "intent": Planted(planted.experts[2:], planted.weights[2:])}  # fmt: skip
    inputs = {name: write_esft(tmp_path / name, half) for name, half in halves.items()}
    listener = Listener()
    trace = import_trace("esft", inputs, tmp_path / "run", label="task", top_k=2, reporter=listener)
    whole = import_trace("esft", write_esft(tmp_path / "all", planted), tmp_path / "whole", top_k=2)
    assert all(each.problem is None for each in validate_trace(trace.path))
    for layer in (9, 10, 11):
        np.testing.assert_array_equal(trace.experts(layer), whole.experts(layer))
        np.testing.assert_array_equal(trace.weights(layer), whole.weights(layer))
    assert trace.tokens().equals(whole.tokens())
    documents = trace.documents()
    assert documents["id"].tolist() == ["law:0", "law:1", "intent:0"]
    assert documents["task"].tolist() == ["law", "law", "intent"]
    assert documents["text"].isna().all()
    assert trace.manifest["corpus"]["labels"] == ["task"]
    assert listener.notes == [f"{NUM_EXPERTS} experts, inferred from the largest id; set num_experts if there are more"]
    assert [step.done <= step.total for step in listener.steps] == [True] * 6


def test_tables_beside_the_inputs_are_joined(tmp_path):
    import pandas as pd

    tables = (
        pd.DataFrame({"id": ["x", "y"], "text": ["One two.", "Three."], "topic": ["a", "b"]}),
        pd.DataFrame({"id": ["y", "z"], "level": ["c", "d"]}),
    )
    start = {"char_start": np.zeros(6, int), "char_end": np.array([5, 5, 5, 7, 7, 7])}
    first = write_arrays(tmp_path / "one", 1, documents=tables[0], **start)
    second = write_arrays(tmp_path / "two", 2, documents=tables[1], **start)
    trace = import_trace("arrays", {"1": tmp_path / "one", "2": tmp_path / "two"}, tmp_path / "run")
    np.testing.assert_array_equal(trace.experts(1), np.concatenate([first, second])[:, 1])
    documents = trace.documents().astype(object).where(lambda frame: frame.notna(), None)
    assert documents.to_dict("list") == {
        "id": ["1:y", "1:x", "2:z", "2:y"],
        "text": ["Three.", "One two.", None, None],
        "input": ["1", "1", "2", "2"],
        "topic": ["b", "a", None, None],
        "level": [None, None, "d", "c"],
    }
    start["char_end"][0] = 7
    np.save(tmp_path / "one" / "char_end.npy", start["char_end"])
    with pytest.raises(TraceError, match=r"one, token 0: expected char_start and char_end in the text of 6 characters"):
        import_trace("arrays", {"2": tmp_path / "two", "1": tmp_path / "one"}, tmp_path / "other")
    with pytest.raises(TraceError, match="label: expected a new column, got 'topic'"):
        import_trace("arrays", {"1": tmp_path / "one", "2": tmp_path / "two"}, tmp_path / "other", label="topic")


def test_inputs_of_different_models_are_refused(tmp_path):
    write_arrays(tmp_path / "one", 1)
    write_arrays(tmp_path / "two", 2, num_experts=np.array(6))
    write_arrays(tmp_path / "three", 2, layers=np.array([3, 4]))
    for name, message in (
        ("two", "expected the number of experts of a, 5, got 6 in b; import inputs of different models separately"),
        ("three", "expected the layers of a, None, got 2 layers from 3 to 4 in b"),
    ):
        with pytest.raises(TraceError, match=message):
            import_trace("arrays", {"a": tmp_path / "one", "b": tmp_path / name}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("inputs", "how", "message"),
    [
        (
            "one",
            {"label": "task"},
            r"label: expected inputs with names \(NAME=PATH\), the values of 'task', got one path",
        ),
        ({}, {}, "expected at least one input by name, got none"),
        ({"a": "one"}, {"label": "text"}, "label: expected the name of a new column of the documents, got 'text'"),
        ({" ": "one"}, {}, r"expected a name for the input \(NAME=PATH\), got ' '"),
        ({"a": "one"}, {"documents": "d.csv"}, "expected no table of documents for several inputs"),
    ],
)
def test_names_and_labels_that_cannot_be_used(tmp_path, inputs, how, message):
    write_arrays(tmp_path / "one", 1)
    named = {name: tmp_path / path for name, path in inputs.items()} if isinstance(inputs, dict) else tmp_path / inputs
    with pytest.raises(TraceError, match=message):
        import_trace("arrays", named, tmp_path / "run", **how)
    assert not (tmp_path / "run").exists()

"""Usage by document, without tokens: what is imported, what is told, what is refused."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from listening import Listener
from specialize.errors import TraceError
from specialize.trace import RouterSpec, open_trace, validate_trace
from specialize.trace.imports import import_trace
from specialize.trace.schema import TOKEN_SCHEMA
from specialize.trace.writer import Shard, TraceWriter


def plant(documents=6, layers=2, experts=4, top_k=2):
    """Counts [documents, layers, E] of documents with 10 to 15 tokens, each with k different experts."""
    rng = np.random.default_rng(0)
    counts = np.zeros((documents, layers, experts), np.int64)
    for document, layer in np.ndindex(documents, layers):
        chosen = rng.random((10 + document, experts)).argsort(axis=1)[:, :top_k]
        counts[document, layer] = np.bincount(chosen.ravel(), minlength=experts)
    return counts


def read(path, run, **how):
    listener = Listener()
    return import_trace("usage", path, run, reporter=listener, **how), listener.notes


def save(path, array, **others):
    np.savez(path, usage=array, **others)
    return path


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_counts_become_tokens_of_a_document(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    save(path, plant()) if kind == "npz" else np.save(path, plant())
    trace, notes = read(path, tmp_path / "run")
    assert [(router.layer, router.num_experts, router.top_k) for router in trace.layers] == [(0, 4, 2), (1, 4, 2)]
    for layer in (0, 1):
        np.testing.assert_array_equal(trace.usage(layer), plant()[:, layer] / 2)
    assert (trace.has_tokens, trace.num_tokens, trace.num_documents, trace.contents) == (False, 0, 6, ("usage",))
    assert (trace.manifest["usage"], trace.documents()["id"].tolist()) == ("counts", list("012345"))
    assert notes == ["k = 2, which divides the total of every row; set top_k if it differs"]
    assert all(each.problem is None for each in validate_trace(trace.path))


def test_shares_stay_shares(tmp_path):
    shares = (plant() / plant().sum(axis=2, keepdims=True)).astype(np.float16)
    trace, notes = read(save(tmp_path / "a.npz", shares, layers=np.array([3, 5])), tmp_path / "run", top_k=2)
    np.testing.assert_array_equal(trace.usage(5), shares[:, 1].astype(np.float64))
    assert (trace.manifest["usage"], trace.layers[1].top_k, notes) == ("shares", 2, [])


def test_layers_documents_and_model(tmp_path):
    pd.DataFrame({"name": list("abcdefg"), "field": ["x", "y"] * 3 + ["x"]}).to_csv(tmp_path / "d.csv", index=False)
    (tmp_path / "config.json").write_text(
        '{"num_hidden_layers": 2, "num_experts": 4, "num_experts_per_tok": 2, "mlp_only_layers": [0]}'
    )
    how = {"model": tmp_path, "documents": tmp_path / "d.csv"}
    trace, notes = read(save(tmp_path / "a.npz", plant()), tmp_path / "run", **how)
    assert [router.layer for router in trace.layers] == [1]
    np.testing.assert_array_equal(trace.usage(1), plant()[:, 1] / 2)
    assert trace.documents()["field"].tolist() == ["x", "y"] * 3
    assert notes[-1].startswith("1 documents of")
    assert any("dense ones are left out: 0" in note for note in notes)


def test_several_tables_make_one_run(tmp_path):
    first, second = save(tmp_path / "a.npz", plant()), save(tmp_path / "b.npz", plant(documents=3))
    trace, _ = read({"x": first, "y": second}, tmp_path / "run", label="part", top_k=2)
    np.testing.assert_array_equal(trace.usage(0), np.concatenate([plant(), plant(documents=3)])[:, 0] / 2)
    assert trace.documents()["part"].tolist() == ["x"] * 6 + ["y"] * 3


def test_large_tables_are_read_part_by_part(tmp_path, monkeypatch):
    monkeypatch.setattr("specialize.trace.imports.usage._ROWS_AT_ONCE", 4)
    monkeypatch.setattr("specialize.trace.imports.shards.BLOCK_TOKENS", 3)
    trace, _ = read(save(tmp_path / "a.npz", plant()), tmp_path / "run")
    np.testing.assert_array_equal(trace.usage(1), plant()[:, 1] / 2)
    assert [shard["tokens"] for shard in trace.manifest["shards"]] == [3, 3]


def test_what_is_told(tmp_path):
    counts = plant()
    counts[1, 0], counts[2, 1, 0] = 0, counts[2, 1, 0] + 1
    _, notes = read(save(tmp_path / "a.npz", counts, gate=plant() * 0.5), tmp_path / "run", top_k=2)
    total = counts[2, 1].sum()
    assert notes == [
        f"{tmp_path / 'a.npz'}: arrays that are not imported: gate",
        "rows without usage, which are not counted: 1, the first of them in document 1",
        f"rows of unequal totals: the layers of a document differ by up to {100 / total:.2g} % (document 2); slots are "
        "missing, or counted twice",
        "totals that are no multiple of k = 2, so that slots are missing: 1 rows",
    ]
    _, notes = read(save(tmp_path / "b.npz", plant() * 0.3), tmp_path / "sums")
    assert notes[0] == "k is not known: every slot of a document counts as a token; set top_k"


def change(value, place=(2, 1, 3)):
    usage = plant().astype(float)
    usage[place] = value
    return usage


SHARES = plant() / plant().sum(axis=2, keepdims=True)


@pytest.mark.parametrize(
    ("usage", "message"),
    [
        (change(-1), r"document 2, layer 1, expert 3: expected a count or a share of 0 or more, got -1; correct it"),
        (change(np.nan), r"document 2, layer 1, expert 3: .* got nan"),
        (change(np.inf), r"document 2, layer 1, expert 3: .* got inf"),
        (
            np.where(np.arange(6)[:, None, None] == 4, SHARES / 2, SHARES),
            "document 4: expected rows of shares that sum",
        ),
        (np.zeros((2, 2, 2)), "got zeros alone; nothing was recorded"),
        (plant()[0], r"expected usage as numbers \[documents, layers, experts\], got int64 \[2, 4\]"),
        (plant().astype(str), "expected usage as numbers"),
        (plant()[:0], "expected usage as numbers"),
    ],
)
def test_tables_that_cannot_be_usage_are_refused(tmp_path, usage, message):
    np.savez(tmp_path / "a.npz", usage=usage)
    with pytest.raises(TraceError, match=message):
        import_trace("usage", tmp_path / "a.npz", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_files_and_options_that_do_not_fit_are_refused(tmp_path):
    path = save(tmp_path / "a.npz", plant())
    np.savez(tmp_path / "two.npz", one=plant(), two=plant())
    save(tmp_path / "layers.npz", plant(), layers=np.array([1]))
    (tmp_path / "a.csv").write_text("1,2\n")
    (tmp_path / "d.csv").write_text("id,field\na,x\n")
    for name, how, message in (
        ("a.csv", {}, r"expected usage in an \.npy or \.npz, got \.csv"),
        ("two.npz", {}, "expected an array called usage, .* got one, two"),
        ("layers.npz", {}, r"expected layers as integers \[2\], got int64 \[1\]"),
        ("a.npz", {"top_k": 5}, "top_k: expected at most the 4 experts of a layer, got 5"),
        ("a.npz", {"layers": "7"}, "layers: expected layers among 0 to 1"),
        ("a.npz", {"num_experts": 3}, "expected usage of 2 layers with 3 experts, got 2 layers with 4"),
        ("a.npz", {"documents": tmp_path / "d.csv"}, "document 1 is not among the 1 rows of"),
    ):
        with pytest.raises(TraceError, match=message):
            import_trace("usage", tmp_path / name, tmp_path / "run", **how)
    assert not (tmp_path / "run").exists()
    assert path.exists()


def test_what_needs_tokens_is_refused(tmp_path):
    trace, _ = read(save(tmp_path / "a.npz", plant()), tmp_path / "run")
    for read_it in (lambda: trace.experts(0), lambda: trace.shard_experts(0, trace.layers), trace.tokens):
        with pytest.raises(TraceError, match="expected the experts of each token, got usage by document, without"):
            read_it()
    np.save(tmp_path / "tokens.npy", np.argsort(np.random.default_rng(0).random((5, 2, 4)), axis=2)[:, :, :2])
    with pytest.raises(TraceError, match="the trace has tokens"):
        import_trace("vllm", tmp_path / "tokens.npy", tmp_path / "other").usage(0)


def write_trace(run, usage, contents):
    """Write a trace of one document without the checks of an import."""
    columns = {name: np.zeros(1, np.int64) for name in TOKEN_SCHEMA.names}
    with TraceWriter(run, settings={}, provenance={}) as writer:
        writer.describe(routers=[RouterSpec(0, "layers.0", num_experts=2, top_k=1).as_dict()], contents=contents)
        writer.write_shard(Shard(columns, [{"usage": np.array([usage])}]))
        schema = pa.schema([("id", pa.large_string()), ("text", pa.large_string())])
        writer.write_documents(schema, [pa.record_batch([["a"], [None]], schema=schema)])
        writer.finish()


def test_values_and_contents_are_checked_when_they_are_read(tmp_path):
    write_trace(tmp_path / "fine", [0.5, 1.0], ["usage"])
    assert open_trace(tmp_path / "fine").usage(0).tolist() == [[0.5, 1.0]]
    write_trace(tmp_path / "negative", [0.5, -1.0], ["usage"])
    with pytest.raises(TraceError, match=r"expected usage of 0 or more, got another in document 0"):
        open_trace(tmp_path / "negative").usage(0)
    assert [each.file for each in validate_trace(tmp_path / "negative") if each.problem] == ["trace"]
    with pytest.raises(TraceError, match="contents should be usage alone, without tokens"):
        write_trace(tmp_path / "both", [0.5, 1.0], ["usage", "norms"])

"""What DuckDB answers from the exported files is what NumPy counts in the trace."""

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from specialize.errors import OutputError
from specialize.trace import NO_EXPERT, RouterSpec, Shard, TraceWriter, open_trace
from specialize.trace.export import export_parquet

ROUTERS = (
    RouterSpec(layer=1, name="layers.1.experts", num_experts=8, top_k=2),
    RouterSpec(layer=3, name="layers.3.experts", num_experts=300, top_k=3),
    RouterSpec(layer=3, name="layers.3.control", num_experts=300, top_k=3, routing="random", found_by="control"),
    RouterSpec(layer=3, name="layers.3.control", num_experts=300, top_k=3, routing="random", draw=1),
)
WORDS = np.array(["río", "sea", "the", "violin", "a"])
DOCUMENTS, WORDS_EACH = 1100, 4  # more documents than are read at once


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    rng = np.random.default_rng(5)
    words = rng.integers(0, len(WORDS), (DOCUMENTS, WORDS_EACH))
    texts = [" ".join(row) for row in WORDS[words]]
    ends = np.array([np.cumsum([len(word) + 1 for word in row]) - 1 for row in WORDS[words]]).ravel()
    tokens = DOCUMENTS * WORDS_EACH
    columns = {
        "document": np.repeat(np.arange(DOCUMENTS), WORDS_EACH),
        "sequence": np.repeat(np.arange(DOCUMENTS), WORDS_EACH),
        "position": np.tile(np.arange(WORDS_EACH), DOCUMENTS),
        "token_id": words.ravel(),
        "char_start": ends - np.char.str_len(WORDS[words].ravel()),
        "char_end": ends,
        "phase": np.zeros(tokens, np.uint8),
        "predicted_token_id": words.ravel(),
        "next_token_loss": np.where(np.arange(tokens) % 4 == 3, np.nan, 0.5),
    }
    columns["char_start"][7], columns["char_end"][7], columns["token_id"][7] = -1, -1, -1
    routing = []
    for router in ROUTERS:
        experts = rng.integers(0, 8, (tokens, router.top_k))
        experts[rng.random(experts.shape) < 0.1] = NO_EXPERT
        routing.append({name: rng.random(experts.shape) for name in ("weights", "norms")} | {"experts": experts})
    run = tmp_path_factory.mktemp("run") / "run"
    schema = pa.schema([(name, pa.large_string()) for name in ("id", "text", "kind")])
    documents = [{"id": f"d{n}", "text": text, "kind": "ab"[n % 2]} for n, text in enumerate(texts)]
    with TraceWriter(run, settings={}, provenance={}) as writer:
        batches = [pa.RecordBatch.from_pylist(documents[n : n + 512], schema=schema) for n in range(0, DOCUMENTS, 512)]
        writer.write_documents(schema, batches)
        writer.describe(routers=[each.as_dict() for each in ROUTERS], contents=["weights", "norms", "predictions"])
        for rows in (slice(0, 2001), slice(2001, 2002), slice(2002, tokens)):
            parts = [{name: values[rows] for name, values in each.items()} for each in routing]
            writer.write_shard(Shard({name: values[rows] for name, values in columns.items()}, parts))
        writer.finish()
    return open_trace(run)


@pytest.fixture(scope="module")
def folder(trace, tmp_path_factory):
    seen = []
    folder = export_parquet(trace, tmp_path_factory.mktemp("out") / "parquet", progress=lambda *done: seen.append(done))
    assert seen == [(2001, 4400), (2002, 4400), (4400, 4400)]
    return folder


def test_the_words_most_often_routed_to_an_expert(trace, folder):
    answer = duckdb.sql(f"""
        SELECT text, count(*) AS times
        FROM '{folder}/routing.parquet' JOIN '{folder}/tokens.parquet' USING (token)
        WHERE routing = 'learned' AND layer = 3 AND expert = 5
        GROUP BY text ORDER BY times DESC, text LIMIT 10
    """).fetchall()
    tokens, documents = trace.tokens(), trace.documents()
    chosen = (trace.experts(3) == 5).any(axis=1)
    counts: dict[str | None, int] = {}
    # a token may hold an expert in several slots here: rows are slots
    slots = (trace.experts(3) == 5).sum(axis=1)
    for row in np.flatnonzero(chosen):
        token = tokens.iloc[row]
        known = token["char_start"] >= 0
        word = documents["text"][token["document"]][token["char_start"] : token["char_end"]] if known else None
        counts[word] = counts.get(word, 0) + int(slots[row])
    expected = sorted(counts.items(), key=lambda item: (-item[1], item[0] or "~"))
    assert answer == expected
    assert {word for word, _ in answer if word} == set(WORDS)


def test_every_slot_is_there(trace, folder):
    table = pq.read_table(folder / "routing.parquet").to_pandas()
    assert len(table) == trace.num_tokens * sum(router.top_k for router in ROUTERS)
    for router in ROUTERS:
        part = table[(table["layer"] == router.layer) & (table["routing"] == router.routing)]
        part = part[part["draw"] == router.draw]
        experts = trace.experts(router.name, routing=router.routing, draw=router.draw).ravel()
        assert (part["router"] == router.name).all()
        np.testing.assert_array_equal(part["token"], np.repeat(np.arange(trace.num_tokens), router.top_k))
        np.testing.assert_array_equal(part["slot"], np.tile(np.arange(router.top_k), trace.num_tokens))
        np.testing.assert_array_equal(part["expert"].fillna(NO_EXPERT), experts)
        if router.draw:  # stored as ids alone
            assert part["weight"].isna().all()
        else:
            weights = trace.weights(router.name, routing=router.routing).ravel()
            np.testing.assert_array_equal(part["weight"], np.where(experts == NO_EXPERT, np.nan, weights))
        assert part["norm"].isna().all() == (router.routing == "random")
    groups = pq.read_metadata(folder / "routing.parquet").num_row_groups
    assert groups == len(ROUTERS) * len(trace.manifest["shards"])


def test_tokens_and_documents(trace, folder):
    tokens = pq.read_table(folder / "tokens.parquet").to_pandas()
    assert tokens.columns.tolist() == [
        "token", "document", "sequence", "position", "token_id", "text", "char_start", "char_end", "phase",
        "predicted_token_id", "next_token_loss",
    ]  # fmt: skip
    assert tokens["token"].tolist() == list(range(trace.num_tokens))
    assert tokens["text"].isna().to_numpy().nonzero()[0].tolist() == [7]
    assert tokens.loc[7, ["token_id", "char_start", "char_end"]].isna().all()
    assert (tokens["phase"] == "prefill").all()
    assert tokens["next_token_loss"].isna().sum() == DOCUMENTS
    documents = pq.read_table(folder / "documents.parquet").to_pandas()
    assert documents["document"].tolist() == list(range(DOCUMENTS))
    pd.testing.assert_frame_equal(documents[["id", "text", "kind"]], trace.documents())


def test_a_folder_that_holds_something_is_kept(trace, tmp_path):
    (tmp_path / "precious").write_text("x")
    with pytest.raises(OutputError, match="expected a new or empty folder to write to, got one that is not empty"):
        export_parquet(trace, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_an_export_that_fails_leaves_nothing(trace, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("specialize.trace.export._routing", full)
    with pytest.raises(OutputError, match="No space left on device"):
        export_parquet(trace, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []

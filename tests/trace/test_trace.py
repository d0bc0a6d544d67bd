from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import specialize
from specialize.errors import OutputError, TraceError
from specialize.trace import NO_EXPERT, RouterSpec, Shard, TraceWriter, validate_trace
from specialize.trace.schema import TOKEN_SCHEMA

ROUTERS = (
    RouterSpec(layer=1, name="layers.1.experts", num_experts=255, top_k=2, score_function="softmax"),
    RouterSpec(layer=3, name="layers.3.experts", num_experts=300, top_k=4, score_function="sigmoid"),
)


def make_shard(tokens: int, document: int, seed: int) -> Shard:
    rng = np.random.default_rng(seed)
    columns = {field.name: np.arange(tokens) for field in TOKEN_SCHEMA}
    columns |= {"document": np.full(tokens, document), "phase": np.zeros(tokens, np.uint8)}
    columns |= {"char_start": np.arange(tokens) // 2, "char_end": np.arange(tokens) // 2 + 1}
    experts = [rng.integers(0, router.num_experts, (tokens, router.top_k)) for router in ROUTERS]
    experts[1][0, -1] = NO_EXPERT
    weights = [rng.random((tokens, router.top_k)) for router in ROUTERS]
    return Shard(columns, [{"experts": e, "weights": w} for e, w in zip(experts, weights, strict=True)])


def write(run: Path, shards: list[Shard], *, finish: bool = True, **settings: object) -> None:
    schema = pa.schema([("id", pa.large_string()), ("text", pa.large_string()), ("topic", pa.large_string())])
    rows = [{"id": "a", "text": "some text", "topic": "x"}, {"id": "b", "text": "more", "topic": None}]
    with TraceWriter(run, settings=settings, provenance={"command": "test"}) as writer:
        if not writer.has_documents():
            writer.write_documents(schema, [pa.RecordBatch.from_pylist(rows, schema=schema)])
            writer.describe(routers=[router.as_dict() for router in ROUTERS], contents=["weights"])
        for shard in shards[writer.num_shards :]:
            writer.write_shard(shard)
        if finish:
            writer.finish()


@pytest.fixture
def shards() -> list[Shard]:
    return [make_shard(5, 0, 1), make_shard(7, 1, 2)]


def test_what_is_read_is_what_was_written(tmp_path, shards):
    write(tmp_path / "run", shards)
    trace = specialize.open_trace(tmp_path / "run")
    assert trace.layers == ROUTERS
    assert (trace.num_tokens, trace.num_documents) == (12, 2)
    for index, router in enumerate(ROUTERS):
        expected = np.concatenate([shard.routing[index]["experts"] for shard in shards])
        weights = np.concatenate([shard.routing[index]["weights"] for shard in shards])
        np.testing.assert_array_equal(trace.experts(router.layer), expected)
        np.testing.assert_array_equal(trace.experts(router.name), expected)
        np.testing.assert_array_equal(trace.weights(router.layer), weights.astype(np.float16).astype(np.float32))
    assert trace.experts(3)[0, -1] == NO_EXPERT
    assert trace.experts(1).dtype == np.int16
    assert trace.tokens()["document"].tolist() == [0] * 5 + [1] * 7
    assert trace.documents()["topic"].isna().tolist() == [False, True]


def test_ids_that_are_not_packed_take_one_byte_up_to_255_experts_and_two_beyond(tmp_path, shards):
    write(tmp_path / "run", shards)
    with pa.memory_map(str(tmp_path / "run/trace/routing-00000.arrow")) as source:
        schema = pa.ipc.open_file(source).schema
    assert schema.field("experts.0").type == pa.list_(pa.uint8(), 2)
    assert schema.field("experts.1").type == pa.list_(pa.uint16(), 4)


def test_an_unfinished_trace_is_resumed(tmp_path, shards):
    write(tmp_path / "run", shards[:1], finish=False, model="m")
    with pytest.raises(TraceError, match="interrupted"):
        specialize.open_trace(tmp_path / "run")
    write(tmp_path / "run", shards, model="m")
    assert specialize.open_trace(tmp_path / "run").num_tokens == 12


def test_other_settings_are_named(tmp_path, shards):
    write(tmp_path / "run", shards, model="m", context=64)
    with pytest.raises(TraceError, match=r"other settings \(context: 64 there, 32 now\); choose another folder"):
        TraceWriter(tmp_path / "run", settings={"model": "m", "context": 32}, provenance={})


def test_a_second_writer_is_refused(tmp_path, shards):
    with (
        TraceWriter(tmp_path / "run", settings={}, provenance={}),
        pytest.raises(TraceError, match="another process"),
        TraceWriter(tmp_path / "run", settings={}, provenance={}),
    ):
        pass


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "precious.txt").write_text("data")
    with pytest.raises(TraceError, match="not empty and holds no trace"):
        TraceWriter(tmp_path, settings={}, provenance={})


def test_a_file_that_cannot_be_written_leaves_no_part(tmp_path, shards, monkeypatch):
    write(tmp_path / "run", shards[:1], finish=False)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("specialize.atomic.os.fsync", full)
    with pytest.raises(OutputError, match=r"No space left on device.*kept"):
        write(tmp_path / "run", shards)
    monkeypatch.undo()
    assert not list((tmp_path / "run/trace").glob("*.partial"))
    write(tmp_path / "run", shards)
    assert all(check.problem is None for check in validate_trace(tmp_path / "run"))


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "damaged"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"\x01", b"\x02", 1)), "damaged"),
    ],
)
def test_validation_names_the_file(tmp_path, shards, harm, problem):
    write(tmp_path / "run", shards)
    assert [check.problem for check in validate_trace(tmp_path / "run")] == [None] * 5
    harm(tmp_path / "run/trace/routing-00001.arrow")
    wrong = [check for check in validate_trace(tmp_path / "run") if check.problem]
    assert [check.file for check in wrong] == ["trace/routing-00001.arrow"]
    assert wrong[0].problem.startswith(problem)


def test_a_truncated_file_is_one_clear_error(tmp_path, shards):
    write(tmp_path / "run", shards)
    path = tmp_path / "run/trace/tokens-00000.arrow"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TraceError, match=r"tokens-00000\.arrow: damaged: its checksum differs.*--repair"):
        specialize.open_trace(tmp_path / "run").tokens()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected JSON"),
        ("[]", "expected the manifest of a specialize-trace"),
        ('{"format": "specialize-trace", "version": 99}', "expected format version 1 to 4, got 99"),
    ],
)
def test_manifests_that_are_none(tmp_path, text, message):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(TraceError, match=message):
        specialize.open_trace(tmp_path)


def test_missing_run(tmp_path):
    with pytest.raises(TraceError, match="expected a run folder, found none"):
        specialize.open_trace(tmp_path / "nowhere")


def test_unknown_and_ambiguous_layers(tmp_path, shards):
    write(tmp_path / "run", shards)
    trace = specialize.open_trace(tmp_path / "run")
    with pytest.raises(TraceError, match="no router in layer 2; the trace has layers 1, 3"):
        trace.experts(2)


def test_parts_that_a_kill_left_are_cleared_away(tmp_path, shards):
    run = tmp_path / "run"
    (run / "trace").mkdir(parents=True)
    parts = [run / ".manifest.json.7.partial", run / "trace/.documents.arrow.7.partial"]
    for part in parts:
        part.write_text("half of someth")
    write(run, shards)
    assert not any(part.exists() for part in parts)
    assert all(check.problem is None for check in validate_trace(run))


def test_ids_take_hardly_more_than_their_bits(tmp_path):
    """Evenly used experts are the worst case: what is skewed takes less."""
    rng = np.random.default_rng(0)
    routers = [RouterSpec(layer=i, name=f"layers.{i}", num_experts=64, top_k=8) for i in range(2)]
    tokens = 2**15
    columns = {field.name: np.zeros(tokens, np.int64) for field in TOKEN_SCHEMA}
    routing = [{"experts": rng.random((tokens, 64)).argsort(axis=1)[:, :8]} for _ in routers]
    with TraceWriter(tmp_path / "run", settings={}, provenance={}) as writer:
        writer.describe(routers=[router.as_dict() for router in routers], contents=[])
        writer.write_shard(Shard(columns, routing))
    size = (tmp_path / "run/trace/routing-00000.arrow").stat().st_size
    assert size / tokens / len(routers) < 1.1 * 8 * 6 / 8


def test_contents_that_do_not_exist_are_refused(tmp_path):
    with (
        TraceWriter(tmp_path / "run", settings={}, provenance={}) as writer,
        pytest.raises(TraceError, match=r"expected any of weights, logits, norms, predictions, roles, got wieghts"),
    ):
        writer.describe(contents=["wieghts"])

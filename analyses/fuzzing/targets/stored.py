"""What a run folder holds: its manifest, annotations, tables of labels, topics, and results."""

import atexit
import io
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from analyses.fuzzing.harness import Target, join, require, split
from analyses.fuzzing.mutation import mutate_bytes, mutate_cells, mutate_json, mutate_json_line, mutate_member
from analyses.fuzzing.tables import write_random

from specialize.annotation import Annotation
from specialize.annotators.store import find_annotation, list_annotations, load_annotation, save_annotation
from specialize.annotators.topic_store import apply_topics
from specialize.annotators.user_labels import read_labels
from specialize.manifest import digest_of
from specialize.measure.results.files import read_results, read_with_origin, write_results
from specialize.measure.results.schema import RESULT_COLUMNS
from specialize.trace import open_trace, validate_trace
from specialize.trace.imports import import_trace
from specialize.trace.manifest import read_manifest

_TEXTS = ("One two.", "Three four.")
_ROW = {"run": "a", "routing": "learned", "layer": 0, "router": "layers.0", "label_set": "upos", "metric": "U"}
_ROW |= {"label": "NOUN", "value": 0.25, "unit": "share", "p_value": 0.5, "n_tokens": 4, "n_documents": 2}
_LIKELY_RESULTS = {
    **{name: (pa.string(), lambda rng: rng.choice(("a", "learned", "U", "=1", None))) for name in RESULT_COLUMNS},
    **{name: (pa.float64(), lambda rng: rng.choice((0.5, 1e300, float("nan")))) for name in ("value", "p_value")},
    **{name: (pa.int64(), lambda rng: rng.choice((0, 7, 2**53, -1, None))) for name in ("layer", "expert", "n_tokens")},
}
_TABLES = ("labels.csv", "labels.tsv", "labels.jsonl", "labels.parquet", "random labels.parquet")
_ANNOTATIONS = ("kind.arrow", "written kind.arrow", *_TABLES, "topics")
_DEEPEST = 50  # levels of nested types
_RESULTS = ("a.parquet", "a.csv", "random a.parquet")


@cache
def _make_run() -> Path:
    """Make a small run in a temporary folder, of which inputs are variations."""
    place = Path(tempfile.mkdtemp(prefix="fuzz-run-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    rows = "".join(json.dumps({"id": str(row), "text": text, "kind": "x"}) + "\n" for row, text in enumerate(_TEXTS))
    (place / "documents.jsonl").write_text(rows)
    source = place / "in"
    source.mkdir()
    experts = np.random.default_rng(0).random((4, 2, 8)).argsort(axis=2)[:, :, :2]
    for name, array in {"experts": experts, "weights": experts / 9, "document": np.array([0, 0, 1, 1])}.items():
        np.save(source / f"{name}.npy", array)
    import_trace("arrays", source, place / "run", documents=place / "documents.jsonl")
    return place / "run"


def _seeds_of_manifest() -> Mapping[str, bytes]:
    stored = json.loads((_make_run() / "manifest.json").read_text())
    unsigned = {key: value for key, value in stored.items() if key != "digest"}
    return {"signed": json.dumps(stored).encode(), "of an earlier version": json.dumps(unsigned).encode()}


def _read_manifest(data: bytes, folder: Path) -> None:
    run = folder / "run"
    shutil.copytree(_make_run() / "trace", run / "trace")
    (run / "manifest.json").write_bytes(data)
    manifest = read_manifest(run, complete=False)
    json.dumps(manifest)
    validate_trace(run)
    trace = open_trace(run)
    tokens, documents = trace.tokens(), trace.documents()
    require(trace.digest and trace.text_digest, "a trace has digests")
    require(len(tokens) == trace.num_tokens and len(documents) == trace.num_documents, "sizes are those of the files")
    for router in (*trace.layers, *trace.random_routers):
        chosen = trace.experts(router.name, routing=router.routing)
        require(chosen.shape == (trace.num_tokens, router.top_k), "experts have k slots", chosen.shape)
        require(((chosen >= -1) & (chosen < router.num_experts)).all(), "ids are −1 or from 0 to E − 1")
        if "weights" in trace.contents:
            require(trace.weights(router.name, routing=router.routing).shape == chosen.shape, "weights are of experts")


def _mutate_manifest(data: bytes, rng: Random) -> bytes:
    changed = mutate_json(data, rng)
    if rng.random() < 0.6:  # with the digest of what it says now
        try:
            value = json.loads(changed)
            digest = digest_of({key: each for key, each in value.items() if key != "digest"})
            return json.dumps(value | {"digest": digest}).encode()
        except (ValueError, RecursionError, AttributeError):
            return changed
    return changed


@dataclass(frozen=True)
class _Run:
    path: Path
    num_tokens: int = 5
    num_documents: int = 2
    text_digest: str = "d" * 64

    def documents(self, *, labels_only: bool = False) -> pd.DataFrame:
        return pd.DataFrame({"id": ["0", "1"], "kind": ["x", None]} | ({} if labels_only else {"text": list(_TEXTS)}))


def _seeds_of_annotations() -> Mapping[str, bytes]:
    codes = np.array([0, 1, -1, 1, 0], np.int32)
    with tempfile.TemporaryDirectory() as folder:
        annotation = Annotation("kind", "token", ("a", "b"), codes, {"tool": "test", "made_by": {"x": 1}})
        stored = save_annotation(_Run(Path(folder)), annotation).read_bytes()
    metadata = {"format": "specialize.annotation", "format_version": "1", "name": "kind", "level": "token"}
    recipe = {"labels": ["a", "b"], "codes": [0, 1, None, 1, 0]}
    recipe |= {"metadata": metadata | {"text_digest": "d" * 64, "provenance": '{"tool": "test"}'}}
    about = {"format": "specialize.topics", "version": 1, "labels": ["cats", "dogs"], "provenance": {"embedding": "m"}}
    centroids, documents = io.BytesIO(), io.BytesIO()
    np.save(centroids, np.eye(2, 3, dtype=np.float32))
    table = pa.table({"sha256": ["0" * 64], "topic": pa.array([1], pa.int32())})
    with pa.ipc.new_file(documents, table.schema) as writer:
        writer.write_table(table)
    parquet = io.BytesIO()
    pq.write_table(pa.table({"id": ["0", "1"], "part": ["x", None], "n": [1, 2]}), parquet, compression="none")
    contents = {
        "kind.arrow": stored,
        "written kind.arrow": json.dumps(recipe).encode(),
        "labels.csv": b"id,part,n\n0,x,1\n1,,2\n",
        "labels.tsv": b"token\tpart\n0\tx\n4\ty\n",
        "labels.jsonl": b'{"id": 0, "part": "x", "n": 1}\n{"id": "1", "part": null, "n": 2.0, "ok": true}\n',
        "labels.parquet": parquet.getvalue(),
    }
    seeds = {name: join(_ANNOTATIONS.index(name), 0, content) for name, content in contents.items()}
    topics = (json.dumps(about).encode(), centroids.getvalue(), documents.getvalue())
    return seeds | {"topics": join(_ANNOTATIONS.index("topics"), 0, *topics)}


def _read_annotations(data: bytes, folder: Path) -> None:
    kind, _, members = split(data)
    how, _, name = _ANNOTATIONS[kind % len(_ANNOTATIONS)].rpartition(" ")
    run = _Run(folder)
    if name == "topics":
        _read_topics(members, folder, run)
    elif name == "kind.arrow":
        content = _write_annotation(members[0]) if how else members[0]
        (folder / "annotations").mkdir()
        (folder / "annotations" / name).write_bytes(content)
        require(list_annotations(run) == ("kind",), "annotations are listed")
        find_annotation(run, "kind", {"x": 1})
        _check_annotation(load_annotation(run, "kind"), run)
    else:
        content = members[0]
        if how:
            likely = {"id": (pa.string(), lambda rng: str(rng.randrange(2))), "token": (pa.int32(), lambda rng: 3)}
            content = write_random(content, ".parquet", ("id", "token", "part", "n"), likely)
        (folder / name).write_bytes(content)
        for annotation in read_labels(run, folder / name):  # type: ignore[arg-type]
            _check_annotation(annotation, run)


def _write_annotation(recipe: bytes) -> bytes:
    """Return the Arrow file of {labels, codes, metadata} in JSON; nothing where there is none."""
    try:
        said = json.loads(recipe)
        labels = pa.array(said["labels"])
        if str(labels.type).count("<") > _DEEPEST:  # Arrow takes much memory to write them, and cannot read them
            return b""
        column = pa.DictionaryArray.from_arrays(pa.array(said["codes"], pa.int32()), labels)
        table = pa.table({"label": column}).replace_schema_metadata(said["metadata"])
        buffer = io.BytesIO()
        with pa.ipc.new_file(buffer, table.schema) as writer:
            writer.write_table(table)
        return buffer.getvalue()
    except Exception:  # no such Arrow file can be written
        return b""


def _read_topics(members: list[bytes], folder: Path, run: _Run) -> None:
    topics = folder / "topics"
    topics.mkdir()
    for name, content in zip(("topics.json", "centroids.npy", "documents.arrow"), members, strict=False):
        (topics / name).write_bytes(content)

    def embed(texts: list[str], **_: Any) -> tuple[np.ndarray, str]:
        return np.ones((len(texts), 3), np.float32), "m"

    with patch("specialize.annotators.topic_store.embed_texts", embed):
        _check_annotation(apply_topics(run.documents(), topics), run)


def _check_annotation(annotation: Annotation, run: _Run) -> None:
    codes, labels = annotation.codes, annotation.labels
    require(codes.dtype == np.int32, "codes are int32", codes.dtype)
    size = run.num_tokens if annotation.level == "token" else run.num_documents
    require(codes.shape == (size,), "every token or document has a code", codes.shape)
    require(((codes >= -1) & (codes < len(labels))).all(), "codes are those of labels", codes)
    require(all(isinstance(label, str) for label in labels), "labels are text", labels)
    require(len(set(labels)) == len(labels), "labels are distinct", labels)
    json.dumps([labels, annotation.provenance], ensure_ascii=False).encode()


def _mutate_annotations(data: bytes, rng: Random) -> bytes:
    name = _ANNOTATIONS[data[0] % len(_ANNOTATIONS)] if data else ""
    if name.startswith("written") or (name == "topics" and rng.random() < 0.5):
        return mutate_member(data, rng, mutate_json)
    if name.endswith("jsonl"):
        return mutate_member(data, rng, mutate_json_line)
    if name.endswith(("csv", "tsv")):
        return mutate_member(data, rng, partial(mutate_cells, separator=b"," if name.endswith("csv") else b"\t"))
    return mutate_member(data, rng, mutate_bytes)


def _seeds_of_results() -> Mapping[str, bytes]:
    frame = pd.DataFrame([_ROW, _ROW | {"label": None, "expert": 3, "value": None}])
    with tempfile.TemporaryDirectory() as folder:
        csv, parquet = (path.read_bytes() for path in write_results(frame, Path(folder), "a"))
        (old := io.BytesIO())
        pq.write_table(pq.read_table(Path(folder) / "a.parquet").replace_schema_metadata(), old, compression="none")
    return {"Parquet": join(0, 0, parquet), "of an earlier version": join(0, 0, old.getvalue()), "CSV": join(1, 0, csv)}


def _read_results(data: bytes, folder: Path) -> None:
    kind, _, members = split(data)
    how, _, name = _RESULTS[kind % len(_RESULTS)].rpartition(" ")
    content = write_random(members[0], ".parquet", tuple(RESULT_COLUMNS), _LIKELY_RESULTS) if how else members[0]
    (folder / name).write_bytes(content)
    frame = read_with_origin(folder / name)[0] if name.endswith("csv") else read_results(folder, "a")
    require(isinstance(frame, pd.DataFrame), "results are a frame")
    if name.endswith("parquet"):
        require(list(frame.columns) == list(RESULT_COLUMNS), "results have the columns of the schema")
        require(str(frame["layer"].dtype) == "Int64" and frame["value"].dtype == np.float64, "results have its types")
    else:
        require(isinstance(frame.index, pd.RangeIndex), "columns of a CSV file are those of its header")


def _mutate_results(data: bytes, rng: Random) -> bytes:
    is_csv = bool(data) and data[0] % len(_RESULTS) == 1
    return mutate_member(data, rng, partial(mutate_cells, separator=b",") if is_csv else mutate_bytes)


MANIFEST = Target(
    "manifest",
    "manifests, and traces opened with them",
    _seeds_of_manifest,
    _read_manifest,
    _mutate_manifest,
    (b'"routers"', b'"shards"', b'"files"', b'"digest"', b"null", b"-1", b"1e999", b"true", b'"../x"', b"[[", b"{}"),
)
ANNOTATIONS = Target(
    "annotations",
    "annotations, tables of labels and fitted topics",
    _seeds_of_annotations,
    _read_annotations,
    _mutate_annotations,
    (b"id", b"token", b'"labels"', b"null", b"-1", b"NaN", b"ARROW1", b"\\ud800", b"\xef\xbb\xbf", b"99999999999"),
)
RESULTS = Target(
    "results",
    "tables of results in Parquet and CSV",
    _seeds_of_results,
    _read_results,
    _mutate_results,
    (b"PAR1", b"layer", b"value", b"-1", b"inf", b"nan", b"1e999", b'"', b"\xff", b"\0"),
)

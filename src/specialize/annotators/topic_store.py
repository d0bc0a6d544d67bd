"""Fitted topics on disk, with which other runs can be labelled.

A folder with centroids.npy (float32 [topics, d], rows of length 1), documents.arrow (SHA-256 of each text the topics
were fitted on, and its topic) and topics.json (labels, how they were fitted, and checksums of all three).
"""

import hashlib
import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from specialize.annotation import NO_LABEL, Annotation
from specialize.annotators.columns import read_texts
from specialize.annotators.embedding import TFIDF, embed_texts
from specialize.annotators.topics import TopicModel
from specialize.atomic import replacing
from specialize.engine import LOCAL, Engine
from specialize.errors import AnnotationError, first_line
from specialize.events import Progress
from specialize.manifest import digest_of, write_json
from specialize.quiet import quiet_topic_libraries

FORMAT_NAME = "specialize.topics"
FORMAT_VERSION = 1
_ARRAYS = ("centroids.npy", "documents.arrow")


def save_topics(model: TopicModel, documents: pd.DataFrame, folder: str | Path) -> Path:
    """Write fitted topics into a folder, replacing those it has; each file is written atomically.

    Args:
        model: what `annotate_topics` returned.
        documents: the documents it was fitted on, with the column text.
        folder: the folder; created if it does not exist.

    Returns:
        The folder.

    Raises:
        AnnotationError: documents have no text.
        OutputError: a file cannot be written.
    """
    place = Path(folder)
    keys = pa.array(_digest(read_texts(documents)), type=pa.string())
    table = pa.table({"sha256": keys, "topic": pa.array(model.annotation.codes, type=pa.int32())})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        replacing(place / "documents.arrow") as partial,
        pa.ipc.new_file(partial, table.schema, options=options) as out,
    ):
        out.write_table(table)
    with replacing(place / "centroids.npy") as partial, partial.open("wb") as file:
        np.save(file, model.centroids, allow_pickle=False)
    about = {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "labels": list(model.annotation.labels),
        "provenance": model.annotation.provenance,
        "files": {name: hashlib.sha256((place / name).read_bytes()).hexdigest() for name in _ARRAYS},
    }
    stored = json.loads(json.dumps(about))  # as it will be read
    write_json(place / "topics.json", stored | {"sha256": digest_of(stored)})
    return place


def apply_topics(
    documents: pd.DataFrame,
    folder: str | Path,
    *,
    cache: str | Path | None = None,
    engine: Engine = LOCAL,
    progress: Progress | None = None,
) -> Annotation:
    """Label documents with topics that were fitted before.

    A document whose text the topics were fitted on keeps its topic, or stays an outlier. Any other document is assigned
    to the topic whose mean embedding has the highest cosine similarity with its own; it is never an outlier.

    Args:
        documents: one row per document with the column text.
        folder: the folder that `save_topics` wrote.
        cache: folder in which embeddings are kept.
        engine: embeds chunks of texts.
        progress: called with (documents embedded, documents to embed).

    Returns:
        Annotation `bertopic` of documents. Its provenance has the numbers of documents that kept their topic
        (`fitted`) and that were assigned to the nearest one (`predicted`).

    Raises:
        AnnotationError: the folder has no topics or damaged ones, documents have no text, or there are new documents
            and the topics were fitted without an embedding model.
    """
    labels, provenance, centroids, known = load_topics(Path(folder))
    texts = read_texts(documents)
    codes = np.array([known.get(key, -2) for key in _digest(texts)], dtype=np.int32)
    new = np.flatnonzero(codes == -2)
    if len(new):
        if provenance["embedding"] == TFIDF:
            raise AnnotationError(
                f"{folder}: expected topics fitted with an embedding model, got topics of word counts ({TFIDF}), with "
                f"which the {len(new)} new ones of {len(texts)} documents cannot be labelled; fit topics with a model"
            )
        with quiet_topic_libraries():
            embedded, _ = embed_texts(
                [texts[row] for row in new],
                embedding=provenance["embedding"],
                cache=cache,
                engine=engine,
                progress=progress,
            )
        if embedded.shape[1] != centroids.shape[1]:
            raise AnnotationError(
                f"{folder}: expected topics of the embedding {provenance['embedding']!r} with {embedded.shape[1]} "
                f"dimensions, got {centroids.shape[1]}; fit them again"
            )
        codes[new] = np.argmax(embedded @ centroids.T, axis=1)
    facts = {**provenance, "fitted_in": Path(folder).name, "fitted": len(texts) - len(new), "predicted": len(new)}
    return Annotation("bertopic", "document", labels, codes, facts)


def load_topics(folder: Path) -> tuple[tuple[str, ...], dict[str, Any], NDArray[np.float32], dict[str, int]]:
    """Read the topics that `save_topics` wrote, and verify them.

    Returns:
        The labels, the provenance, the centroids, and the topic of each text by its SHA-256.

    Raises:
        AnnotationError: the folder has no topics, or damaged ones.
    """
    if not (folder / "topics.json").is_file():
        raise AnnotationError(
            f"{folder}: expected fitted topics, found none; give a run for which `specialize topics RUN` was run"
        )
    try:
        about = json.loads((folder / "topics.json").read_text(encoding="utf-8"))
        files = {name: (folder / name).read_bytes() for name in _ARRAYS}
        _check_sums(about, files)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy warns of headers that save_topics does not write
            centroids = np.load(io.BytesIO(files["centroids.npy"]), allow_pickle=False)
        table = pa.ipc.open_file(files["documents.arrow"]).read_all()
        table.validate(full=True)  # offsets of damaged files point outside the file
        if (about["format"], about["version"]) != (FORMAT_NAME, FORMAT_VERSION):
            raise ValueError(f"{about['format']} version {about['version']}")
        labels = tuple(map(str, about["labels"]))
        if len(set(labels)) < len(labels):
            raise ValueError("a label that occurs twice")
        if centroids.ndim != 2 or len(centroids) != len(labels) or not np.isfinite(centroids).all():
            raise ValueError(f"{len(labels)} labels and centroids {list(centroids.shape)}")
        known = dict(zip(table["sha256"].to_pylist(), table["topic"].to_pylist(), strict=True))
        if not all(isinstance(topic, int) and NO_LABEL <= topic < len(labels) for topic in known.values()):
            raise ValueError(f"a document with another topic than the {len(labels)} there are")
        provenance = dict(about["provenance"])
        if not isinstance(provenance.get("embedding"), str):
            raise ValueError("no name of an embedding")
        json.dumps([labels, provenance], ensure_ascii=False).encode()  # no lone surrogates
        return labels, provenance, centroids, known
    except Exception as error:  # the parsers of JSON, NumPy and Arrow raise anything where bytes are wrong
        reason = first_line(error)
        raise AnnotationError(
            f"{folder}: expected fitted topics, got damaged ones ({reason}); fit them again"
        ) from None


def _check_sums(about: dict[str, Any], files: dict[str, bytes]) -> None:
    """Raise ValueError if files, or what topics.json says, differ from their checksums; earlier versions wrote none."""
    if "sha256" not in about and "files" not in about:
        return
    if about["sha256"] != digest_of({key: value for key, value in about.items() if key != "sha256"}):
        raise ValueError("topics.json does not match its checksum")
    for name, data in files.items():
        if about["files"][name] != hashlib.sha256(data).hexdigest():
            raise ValueError(f"{name} does not match its checksum")


def _digest(texts: Sequence[str]) -> list[str]:
    return [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts]

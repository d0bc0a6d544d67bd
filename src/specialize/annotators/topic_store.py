"""Fitted topics on disk, so that another run is labelled by the same ones.

A folder of topics.json (labels and how they were fitted), centroids.npy (float32 [topics, d], unit rows) and
documents.arrow (SHA-256 of each fitted text, and its topic).
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from specialize.annotation import Annotation
from specialize.annotators.columns import read_texts
from specialize.annotators.embedding import TFIDF, embed_texts
from specialize.annotators.quiet import quiet_topic_libraries
from specialize.annotators.topics import TopicModel
from specialize.atomic import replacing
from specialize.errors import AnnotationError

FORMAT_NAME = "specialize.topics"
FORMAT_VERSION = 1


def save_topics(model: TopicModel, documents: pd.DataFrame, folder: str | Path) -> Path:
    """Write fitted topics into a folder, in place of older ones; each file appears whole or not at all.

    Args:
        model: what `annotate_topics` returned.
        documents: what it was fitted on.
        folder: made if it does not exist.
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
    told = {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "labels": list(model.annotation.labels),
        "provenance": model.annotation.provenance,
    }
    with replacing(place / "topics.json") as partial:
        partial.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return place


def apply_topics(
    documents: pd.DataFrame,
    folder: str | Path,
    *,
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Annotation:
    """Label documents by topics that were fitted before.

    A document whose text was among those fitted has the topic it got there, also none. Any other has the topic whose
    mean embedding is nearest by cosine; it is never an outlier.

    Args:
        documents: one row a document with the column text.
        folder: what `save_topics` wrote.
        cache: folder that keeps the embeddings.
        progress: called with (documents embedded, documents to embed).

    Returns:
        Annotation `bertopic`; `fitted` and `predicted` of its provenance count documents of either kind.

    Raises:
        AnnotationError: there are no topics, they are damaged, or documents without text; or new documents, where the
            topics were fitted without an embedding model.
    """
    labels, provenance, centroids, known = _load(Path(folder))
    texts = read_texts(documents)
    codes = np.array([known.get(key, -2) for key in _digest(texts)], dtype=np.int32)
    new = np.flatnonzero(codes == -2)
    if len(new):
        if provenance["embedding"] == TFIDF:
            raise AnnotationError(
                f"{folder}: these topics were fitted on word counts ({TFIDF}), which label no other documents; "
                f"{len(new)} of {len(texts)} are new. Fit topics with an embedding model"
            )

        def report(done: int) -> None:
            if progress is not None:
                progress(done, len(new))

        with quiet_topic_libraries():
            embedded, _ = embed_texts(
                [texts[row] for row in new], embedding=provenance["embedding"], cache=cache, progress=report
            )
        codes[new] = np.argmax(embedded @ centroids.T, axis=1)
    facts = {**provenance, "fitted_in": Path(folder).name, "fitted": len(texts) - len(new), "predicted": len(new)}
    return Annotation("bertopic", "document", labels, codes, facts)


def _load(folder: Path) -> tuple[tuple[str, ...], dict[str, Any], NDArray[np.float32], dict[str, int]]:
    if not (folder / "topics.json").is_file():
        raise AnnotationError(
            f"{folder}: expected fitted topics, found none; `specialize topics RUN` leaves them there"
        )
    try:
        told = json.loads((folder / "topics.json").read_text(encoding="utf-8"))
        centroids = np.load(folder / "centroids.npy", allow_pickle=False)
        table = pa.ipc.open_file((folder / "documents.arrow").read_bytes()).read_all()
        if (told["format"], told["version"]) != (FORMAT_NAME, FORMAT_VERSION):
            raise ValueError(f"{told['format']} version {told['version']}")
        labels = tuple(map(str, told["labels"]))
        if centroids.ndim != 2 or len(centroids) != len(labels):
            raise ValueError(f"{len(labels)} labels and {len(centroids)} topics")
        known = dict(zip(table["sha256"].to_pylist(), table["topic"].to_pylist(), strict=True))
        return labels, dict(told["provenance"]), centroids, known
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise AnnotationError(f"{folder}: expected fitted topics, got damaged ones ({reason}); fit them anew") from None


def _digest(texts: Sequence[str]) -> list[str]:
    return [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts]

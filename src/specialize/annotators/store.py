"""Annotations on disk: RUN/annotations/NAME.arrow, one column in Arrow IPC with zstd.

The column `label` is dictionary-encoded (int32 codes, null where there is no label), so that any Arrow reader
shows the label names. The other fields of an `Annotation` are in the metadata of the schema, with a checksum of them
all.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from specialize.annotation import NO_LABEL, Annotation
from specialize.annotators.stored_labels import StoredLabels
from specialize.atomic import replacing
from specialize.errors import AnnotationError, did_you_mean, first_line

FORMAT_NAME = "specialize.annotation"
FORMAT_VERSION = 1
_ROWS = 2**17  # tokens of a record batch, which are read together
_LONGEST_NAME = 200  # bytes; file systems take 255, with suffixes
TABLES = ("topic_info", "topic_quality")  # in the folders of results


class OtherTextError(AnnotationError):
    """Labels of another text, such as that of a trace before it was extended."""


class AnnotatedRun(Protocol):
    """The part of a trace that storing annotations needs: its folder and its sizes."""

    @property
    def path(self) -> Path:
        """The run folder."""

    @property
    def num_tokens(self) -> int:
        """Number of tokens."""

    @property
    def num_documents(self) -> int:
        """Number of documents."""

    @property
    def text_digest(self) -> str:
        """Digest of the text; annotations are valid for traces of the same digest."""


def save_annotation(trace: AnnotatedRun, annotation: Annotation) -> Path:
    """Write an annotation to the folder of its run; an existing one of the same name is replaced.

    The file is written atomically.

    Returns:
        The path of the file.

    Raises:
        AnnotationError: the number of codes differs from that of tokens or documents, or the name cannot be a file
            name.
        OutputError: the file cannot be written.
    """
    _check_length(trace, annotation)
    path = _path_of(trace, annotation.name)
    labels = pa.array(annotation.labels, type=pa.string())
    metadata = {
        "format": FORMAT_NAME,
        "format_version": str(FORMAT_VERSION),
        "name": annotation.name,
        "level": annotation.level,
        "text_digest": trace.text_digest,
        "provenance": json.dumps(annotation.provenance, ensure_ascii=False),
        "sha256": _digest(annotation),
    }
    schema = pa.schema([("label", pa.dictionary(pa.int32(), pa.string()))], metadata=metadata)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with replacing(path) as partial, pa.ipc.new_file(partial, schema, options=options) as writer:
        for first in range(0, max(len(annotation.codes), 1), _ROWS):
            codes = np.asarray(annotation.codes[first : first + _ROWS])
            indices = pa.array(codes, type=pa.int32(), mask=codes == NO_LABEL)
            writer.write_batch(pa.record_batch([pa.DictionaryArray.from_arrays(indices, labels)], schema=schema))
    return path


def load_annotation(trace: AnnotatedRun, name: str, *, on_disk: bool = False) -> Annotation:
    """Read an annotation of a run.

    Args:
        trace: the run.
        name: name of the annotation.
        on_disk: leave the codes of tokens on disk: they are a column, which is read a slice at a time.

    Raises:
        AnnotationError: there is no annotation of that name (the message lists those that exist), the file is damaged
            or of another format version, or it was made for another text.
    """
    path = _path_of(trace, name)
    if path.exists() and not path.is_file():
        raise _damaged(path, "something that is no file")
    if not path.is_file():
        stored = list_annotations(trace)
        raise AnnotationError(
            f"{trace.path}: expected an annotation {name!r}, the run has {', '.join(stored) or 'none'}."
            + did_you_mean(name, stored)
        )
    try:
        file = StoredLabels(path, on_disk=on_disk)
        metadata = file.metadata
    except Exception as error:  # Arrow raises anything where bytes are wrong
        raise _damaged(path, error) from None
    if metadata.get("format") != FORMAT_NAME or metadata.get("format_version") != str(FORMAT_VERSION):
        raise AnnotationError(
            f"{path}: expected {FORMAT_NAME} version {FORMAT_VERSION}, "
            f"got {metadata.get('format', 'unknown')} version {metadata.get('format_version', 'unknown')}; "
            "annotate anew, or use the release that wrote it"
        )
    if metadata.get("text_digest") != trace.text_digest:
        raise OtherTextError(
            f"{path}: expected labels of the text of {trace.path}, got those of another text; annotate anew"
        )
    try:
        annotation = _read_labels(file)
        if annotation.name != name:
            raise ValueError(f"labels named {annotation.name!r}")
        if "sha256" in metadata and metadata["sha256"] != _digest(annotation):  # earlier versions wrote none
            raise ValueError("the labels do not match their checksum")
    except Exception as error:
        raise _damaged(path, error) from None
    _check_length(trace, annotation)
    return annotation


def read_provenance(trace: AnnotatedRun, name: str) -> dict[str, Any]:
    """Return how an annotation of a run was made; empty if there is none.

    Raises:
        AnnotationError: it is damaged, or was made for another text.
    """
    return dict(load_annotation(trace, name, on_disk=True).provenance) if name in list_annotations(trace) else {}


def _read_labels(stored: StoredLabels) -> Annotation:
    """Return the annotation of a file; any exception means that the file is damaged."""
    metadata, labels = stored.metadata, [label for label in stored.labels if isinstance(label, str)]
    provenance = json.loads(metadata["provenance"])
    if metadata["level"] not in ("token", "document"):
        raise ValueError(f"labels of a {metadata['level']}")
    if len(labels) < len(stored.labels):
        raise ValueError("a label that is no text")
    if len(set(labels)) < len(labels):
        raise ValueError("a label that occurs twice")
    if not isinstance(provenance, dict):
        raise ValueError("a provenance that is no JSON object")
    json.dumps(provenance, ensure_ascii=False).encode()  # no lone surrogates
    return Annotation(
        name=metadata["name"],
        level="token" if metadata["level"] == "token" else "document",
        labels=tuple(labels),
        codes=stored.codes if metadata["level"] == "token" else np.array(stored.codes),
        provenance=provenance,
    )


def _digest(annotation: Annotation) -> str:
    """Return the SHA-256 of what an annotation says, hexadecimal."""
    text = [annotation.name, annotation.level, annotation.labels, annotation.provenance]
    digest = hashlib.sha256(json.dumps(text, sort_keys=True).encode())
    for first in range(0, len(annotation.codes), _ROWS):
        digest.update(np.ascontiguousarray(annotation.codes[first : first + _ROWS], dtype="<i4").data)
    return digest.hexdigest()


def _damaged(path: Path, error: object) -> AnnotationError:
    reason = first_line(error)
    return AnnotationError(f"{path}: expected an annotation, got a damaged file ({reason}); annotate anew")


def find_annotation(trace: AnnotatedRun, name: str, made_by: Mapping[str, Any]) -> Annotation | None:
    """Return the stored annotation if it is of this text and was made in the same way, so that it can be reused.

    Args:
        trace: the run.
        name: name of the annotation.
        made_by: required value of the entry ``made_by`` of its provenance.

    Returns:
        The annotation; None if there is none, it is damaged, or it was made in another way or for another text.
    """
    if name not in list_annotations(trace):
        return None
    try:
        stored = load_annotation(trace, name, on_disk=True)
    except AnnotationError:  # damaged or of another text: to be made anew
        return None
    return stored if stored.provenance.get("made_by") == made_by else None


def list_annotations(trace: AnnotatedRun) -> tuple[str, ...]:
    """Return the names of the annotations stored in a run, in alphabetical order.

    Raises:
        AnnotationError: a file lies in place of their folder.
    """
    folder = _folder_of(trace)
    if folder.exists() and not folder.is_dir():
        raise AnnotationError(f"{folder}: expected a folder of annotations, got something else; remove it")
    return tuple(sorted(path.stem for path in folder.glob("*.arrow") if not path.name.startswith(".")))


def is_storable(name: str) -> bool:
    """Return whether an annotation of this name can be stored.

    The name must be valid as a file name, of 200 bytes at most, and not that of a table beside the results.
    """
    is_short = len(name.encode("utf-8", "surrogatepass")) <= _LONGEST_NAME
    return is_short and re.fullmatch(r"\w[\w .+-]*", name) is not None and name not in TABLES


def _folder_of(trace: AnnotatedRun) -> Path:
    return trace.path / "annotations"


def _path_of(trace: AnnotatedRun, name: str) -> Path:
    if not is_storable(name):
        raise AnnotationError(
            f"expected an annotation name of letters, digits, spaces and . _ + -, other than {' or '.join(TABLES)}, "
            f"and at most {_LONGEST_NAME} bytes, got {name!r:.60}; rename the label column"
        )
    return _folder_of(trace) / f"{name}.arrow"


def _check_length(trace: AnnotatedRun, annotation: Annotation) -> None:
    expected = trace.num_tokens if annotation.level == "token" else trace.num_documents
    if len(annotation.codes) != expected:
        raise AnnotationError(
            f"annotation {annotation.name!r}: expected {expected} {annotation.level}s as in {trace.path}, "
            f"got {len(annotation.codes)}; annotate this trace anew"
        )

"""The fixed sample that is measured during training: the first tokens of documents, with their labels."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.addresses import show
from specialize.annotation import Annotation
from specialize.annotators.columns import annotate_column, label_columns
from specialize.corpus import Corpus, Document
from specialize.corpus.document import ReadingNotes, Record
from specialize.errors import AnnotationError, MeasurementError, did_you_mean
from specialize.measure.runs.routers import check_labelled
from specialize.trace import RoutingTrace
from specialize.tracing.options import TraceOptions
from specialize.tracing.plan import survey_corpus
from specialize.tracing.reading import choose_context
from specialize.tracing.replay import Replay, TracedDocument
from specialize.tracing.replay_reading import ReplayReading
from specialize.tracing.windows import Window, cut_windows

FEWEST_TOKENS = 64  # of a document, where it has as many


@dataclass(frozen=True)
class Sample:
    """A sample with labels.

    Attributes:
        source: name of the run or corpus.
        documents: the documents of the sample.
        windows: the tokens of each document that the model reads, in order; `Window.document` counts `documents`.
        annotations: labels of the sample's tokens or documents.
        group: the label column that says which documents belong together, if there is one.
        warnings: what a user should know.
    """

    source: str
    documents: tuple[Document, ...]
    windows: tuple[Window, ...]
    annotations: tuple[Annotation, ...]
    group: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Number of tokens whose routing is measured."""
        return sum(window.num_recorded for window in self.windows)

    @property
    def places(self) -> NDArray[np.int64]:
        """The document of each token, int64 [tokens]."""
        return np.repeat(np.arange(len(self.windows)), [window.num_recorded for window in self.windows])

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of tokens and labels."""
        digest = hashlib.sha256(json.dumps([document.id for document in self.documents]).encode())
        for window in self.windows:
            digest.update(f"{len(window.token_ids)} {window.opening}".encode())
            digest.update(np.ascontiguousarray(window.token_ids, dtype="<i4").tobytes())
        for annotation in self.annotations:
            digest.update(json.dumps([annotation.name, annotation.level, annotation.labels]).encode())
            digest.update(np.ascontiguousarray(annotation.codes, dtype="<i4").tobytes())
        return digest.hexdigest()

    def corpus(self) -> Corpus:
        """Return the documents as a corpus."""
        notes = ReadingNotes(labels=self.label_columns, group=self.group)
        return Corpus(
            self.source,
            lambda: (Record(f"{self.source}, document {each.id!r:.60}", each, notes) for each in self.documents),
            keeps_empty=True,
        )

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Names of the label columns of the documents."""
        return tuple(dict.fromkeys(name for document in self.documents for name in document.labels))


def sample_run(
    trace: RoutingTrace,
    annotations: Mapping[str, Annotation],
    *,
    tokenizer: Any = None,
    longest: int | None = None,
    num_ids: int | None = None,
    labels: Sequence[str] | None = None,
    tokens: int | None = None,
) -> Sample:
    """Take the sample from a run: its token ids, which are read again as they are, and its labels.

    Args:
        trace: of the run.
        annotations: labels of its tokens or documents, by name.
        tokenizer: the model's, if it is known; needed where it adds special tokens before a text.
        longest: the longest sequence that the model was made for, in tokens; None if it is not known.
        num_ids: number of token ids that the model has; None if it is not known.
        labels: names of the label sets to measure; default: all.
        tokens: largest number of tokens of the sample, see `choose_windows`; None for all.

    Raises:
        AnnotationError: the run has no such labels, or none.
        TraceError: the run has no tokens or lacks token ids, or the model cannot read them.
    """
    taken = _choose_labels(annotations, labels, show(trace.path))
    corpus = Replay(trace)
    survey = survey_corpus(corpus)
    reading = ReplayReading(tokenizer, corpus, TraceOptions(), survey=survey, longest=longest, num_ids=num_ids)
    documents = [document for document in corpus if isinstance(document, TracedDocument)]
    first: dict[int, tuple[Window, int]] = {}
    row = 0
    for window in reading.windows(corpus, trace.path):
        first.setdefault(window.document, (window, row))
        row += window.num_recorded
    chosen = choose_windows([window for window, _ in first.values()], tokens)
    starts = [first[window.document][1] for window in chosen]
    rows = np.concatenate([start + np.arange(each.num_recorded) for start, each in zip(starts, chosen, strict=True)])
    numbers = np.array([window.document for window in chosen])
    return Sample(
        show(trace.path),
        tuple(documents[number] for number in numbers),
        _renumber(chosen),
        tuple(_take(each, rows if each.level == "token" else numbers) for each in taken),
        trace.group_column,
        tuple(reading.warnings(survey)),
    )


def sample_texts(
    corpus: Corpus,
    tokenizer: Any,
    *,
    longest: int | None = None,
    labels: Sequence[str] | None = None,
    tokens: int | None = None,
) -> Sample:
    """Take the sample from texts with columns of labels.

    Args:
        corpus: the documents.
        tokenizer: the model's fast tokenizer.
        longest: the longest sequence that the model was made for, in tokens; None if it is not known.
        labels: names of the label columns to measure; default: all that can serve as labels.
        tokens: as in `sample_run`.

    Raises:
        CorpusError: the corpus cannot be read, or is empty.
        AnnotationError: there is no such column, or none that can serve as a label.
    """
    documents = list(corpus)
    first: dict[int, Window] = {}
    for window in cut_windows(
        [document.text for document in documents], tokenizer, length=choose_context(longest, None)
    ):
        first.setdefault(window.document, window)
    chosen = choose_windows(list(first.values()), tokens)
    kept = tuple(documents[window.document] for window in chosen)
    frame = pd.DataFrame([{"id": document.id, **document.labels} for document in kept])
    names = label_columns(frame, group=corpus.group) if labels is None else labels
    known = {name: annotate_column(frame, name) for name in names}
    return Sample(corpus.source, kept, _renumber(chosen), _choose_labels(known, labels, corpus.source), corpus.group)


def choose_windows(windows: Sequence[Window], tokens: int | None) -> list[Window]:
    """Choose windows, one of each document, with at most so many tokens.

    Documents are taken at even distances, and the first tokens of each: as many as all documents could have, but at
    least `FEWEST_TOKENS` of those that have them.

    Args:
        windows: the first window of each document.
        tokens: largest number of tokens; None for all.

    Raises:
        MeasurementError: there is no document with tokens.
    """
    if not windows:
        raise MeasurementError("sample: expected documents with tokens, got none: choose another sample")
    if tokens is None or sum(window.num_recorded for window in windows) <= tokens:
        return list(windows)
    most = max(FEWEST_TOKENS, tokens // len(windows))
    number = max(1, min(len(windows), tokens // most))
    places = np.linspace(0, len(windows) - 1, number).round().astype(int)
    return [_shorten(windows[place], most) for place in np.unique(places)]


def _shorten(window: Window, most: int) -> Window:
    if window.num_recorded <= most:
        return window
    return replace(
        window,
        token_ids=window.token_ids[: window.opening + most],
        spans=window.spans[:most],
        roles=None if window.roles is None else window.roles[:most],
        phases=None if window.phases is None else window.phases[:most],
    )


def _renumber(windows: Iterable[Window]) -> tuple[Window, ...]:
    return tuple(replace(window, document=number, roles=None) for number, window in enumerate(windows))


def _take(annotation: Annotation, rows: NDArray[np.int64]) -> Annotation:
    taken = replace(annotation, codes=annotation.codes[rows])
    check_labelled(taken)
    return taken


def _choose_labels(
    known: Mapping[str, Annotation], labels: Sequence[str] | None, source: str
) -> tuple[Annotation, ...]:
    names = list(known) if labels is None else list(labels)
    for name in names:
        if name not in known:
            raise AnnotationError(
                f"labels: expected label sets of {source} ({', '.join(known) or 'none'}), got {name!r}."
                + did_you_mean(name, known)
            )
    if not names:
        raise AnnotationError(
            f"{source}: expected a sample with labels, got none that can be measured: annotate the run, or choose "
            "texts with a column of labels"
        )
    return tuple(known[name] for name in names)

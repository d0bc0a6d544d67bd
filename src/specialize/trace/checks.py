"""What must hold of the values in a trace, checked wherever it is read."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from specialize.errors import TraceError
from specialize.trace.packing import PackedExperts
from specialize.trace.schema import NO_EXPERT, PHASES, UNKNOWN, RouterSpec, expert_dtype

_PIECE = 2**15  # tokens that are checked together: their columns stay in the cache of a processor
CHECKED_COLUMNS = ("document", "char_start", "char_end", "phase")


def read_values(
    name: str, router: RouterSpec, run: Path, stored: NDArray[Any] | PackedExperts, first: int, output: NDArray[Any]
) -> None:
    """Write what is stored of a router to an array, as it is read, after checks.

    Args:
        name: experts, weights, logits or norms.
        router: the router.
        run: the run folder, for the message.
        stored: [tokens, width], as stored; or packed experts.
        first: number of the first of these tokens.
        output: [tokens, width]: int16 for experts, with NO_EXPERT in empty slots, float32 for the others.
    """
    if isinstance(stored, PackedExperts):
        stored.unpack_to(output)
        if not stored.always_valid:
            check_experts(output, router, run, first)
        return
    output[:] = stored
    if name == "weights":
        check_weights(output, router, run, first)
    if name != "experts":
        return
    absent = np.iinfo(expert_dtype(router.num_experts)).max
    if absent < 2**15 and output.max(initial=0) == absent:  # the sentinel of uint16 is -1 as int16 already
        output[output == absent] = NO_EXPERT
    check_experts(output, router, run, first)


def check_experts(experts: NDArray[Any], router: RouterSpec, run: Path, first: int = 0) -> None:
    """Raise TraceError unless every slot holds an expert of the router, or none.

    Args:
        experts: ids, int16 with NO_EXPERT in empty slots, or as stored, [tokens, k].
        router: the router that chose them.
        run: the run folder, for the message.
        first: number of the first token, for the message.
    """
    if not experts.size:
        return
    signed = experts.dtype.kind == "i"
    absent = NO_EXPERT if signed else np.iinfo(expert_dtype(router.num_experts)).max
    if experts.max() < router.num_experts and (not signed or experts.min() >= NO_EXPERT):
        return
    wrong = ((experts >= router.num_experts) | (experts < NO_EXPERT)) & (experts != absent)
    if wrong.any():
        token = int(wrong.any(axis=1).argmax())
        raise TraceError(
            f"{run}: {router.name} (layer {router.layer}): expected ids of experts from 0 to {router.num_experts - 1}, "
            f"got {int(experts[wrong][0])} at token {first + token}; {_ELSEWHERE}"
        )


def check_stored(
    stored: NDArray[Any] | PackedExperts, router: RouterSpec, run: Path, first: int
) -> NDArray[Any] | PackedExperts:
    """Return experts as stored, after `check_experts`; they stay packed where any of their bits are an expert."""
    if isinstance(stored, PackedExperts):
        if stored.always_valid:
            return stored
        stored = stored.unpack()
    check_experts(stored, router, run, first)
    return stored


def check_weights(weights: NDArray[np.floating], router: RouterSpec, run: Path, first: int = 0) -> None:
    """Raise TraceError if a gate weight is not finite.

    Args:
        weights: [tokens, k].
        router: the router that computed them.
        run: the run folder, for the message.
        first: number of the first token, for the message.
    """
    finite = np.isfinite(weights)
    if finite.all():
        return
    token = int((~finite).any(axis=1).argmax())
    raise TraceError(
        f"{run}: {router.name} (layer {router.layer}): expected finite gate weights, got "
        f"{[float(weight) for weight in weights[token]]} at token {first + token}; {_ELSEWHERE}"
    )


def check_roles(codes: NDArray[np.uint8], roles: Sequence[str], run: Path) -> None:
    """Raise TraceError unless every token has the number of a role.

    Args:
        codes: [tokens].
        roles: names by number.
        run: the run folder, for the message.
    """
    _refuse(np.flatnonzero(codes >= len(roles)), 0, run, f"roles below {len(roles)}", codes)


def check_usage(usage: NDArray[np.float64], router: RouterSpec, run: Path) -> None:
    """Raise TraceError if what a document's experts received is negative or not finite.

    Args:
        usage: [documents, E].
        router: the router.
        run: the run folder, for the message.
    """
    wrong = ~(np.isfinite(usage) & (usage >= 0)).all(axis=1)
    if wrong.any():
        raise TraceError(
            f"{run}: {router.name} (layer {router.layer}): expected usage of 0 or more, got another in document "
            f"{int(wrong.argmax())}; {_ELSEWHERE}"
        )


def check_documents(
    batches: Iterable[pa.RecordBatch], count: int, group: str | None, path: Path
) -> Iterator[pa.RecordBatch]:
    """Yield batches of documents; raise TraceError unless they are text columns id, text and labels, and so many rows.

    Args:
        batches: contents of documents.arrow.
        count: number of documents.
        group: a column that there must be, too; None for none.
        path: of the file, for the message.
    """
    rows = 0
    for batch in batches:
        text = all(pa.types.is_large_string(field.type) or pa.types.is_string(field.type) for field in batch.schema)
        needed = ["id", "text"] if group is None else ["id", "text", group]
        if not text or not set(needed) <= set(batch.schema.names):
            columns = ", ".join(f"{field.name} ({field.type})" for field in batch.schema)
            raise TraceError(
                f"{path}: expected columns of text, among them {' and '.join(needed)}, got {columns}; {_ELSEWHERE}"
            )
        rows += batch.num_rows
        yield batch
    if rows != count:
        raise TraceError(f"{path}: expected {count} documents, got {rows}; {_ELSEWHERE}")


def check_tokens(shards: Iterable[pa.Table], documents: Iterable[pa.RecordBatch], run: Path) -> None:
    """Raise TraceError unless tokens are ordered by document, and lie in its text.

    Args:
        shards: tables with the columns CHECKED_COLUMNS, in order.
        documents: batches with the column text.
        run: the run folder, for the message.
    """
    lengths = np.concatenate([np.zeros(0, np.int64), *(_lengths(batch.column("text")) for batch in documents)])
    last = first = 0
    pieces = (table.slice(row, _PIECE) for table in shards for row in range(0, table.num_rows, _PIECE))
    for piece in pieces:
        document, start, end, phase = (piece.column(name).to_numpy() for name in CHECKED_COLUMNS)
        place = np.flatnonzero(~((document >= 0) & (document < len(lengths))))
        _refuse(place, first, run, f"numbers of documents from 0 to {len(lengths) - 1}", document)
        place = np.flatnonzero(np.diff(document, prepend=last) < 0)
        _refuse(place, first, run, "tokens in the order of their documents", document)
        unknown = (start == UNKNOWN) & (end == UNKNOWN)
        place = np.flatnonzero(~(unknown | ((start >= 0) & (start <= end) & (end <= lengths[document]))))
        _refuse(place, first, run, "character positions inside the text", start, end)
        _refuse(np.flatnonzero(phase >= len(PHASES)), first, run, f"phases below {len(PHASES)}", phase)
        last = int(document[-1])
        first += len(document)


def _lengths(texts: pa.Array) -> NDArray[np.int64]:
    """Return the lengths of texts in code points; a text that is not known may have any."""
    return pc.fill_null(pc.utf8_length(texts).cast(pa.int64()), np.iinfo(np.int64).max).to_numpy()


def _refuse(places: NDArray[np.int64], first: int, run: Path, expected: str, *columns: NDArray[Any]) -> None:
    if len(places):
        got = " to ".join(str(column[places[0]]) for column in columns)
        raise TraceError(f"{run}: expected {expected}, got {got} at token {first + places[0]}; {_ELSEWHERE}")


_ELSEWHERE = "trace or import into another folder"

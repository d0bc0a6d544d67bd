"""Usage: how often each document used every expert, as counts or shares, without tokens.

An array [documents, layers, E] in an .npy, or called `usage` in an .npz, beside which `layers` may number the layers.
Rows of shares sum to 1. Counts are of slots, k of each token, and are divided by k, so that a document has the mass of
its tokens. Other sums, such as those of gate weights, are treated as counts.
"""

from collections.abc import Iterator
from functools import partial
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.errors import TraceError
from specialize.text import list_names
from specialize.trace.imports.checks import Checker, choose_layers
from specialize.trace.imports.npy import load_archive, load_array
from specialize.trace.imports.source import Block, ImportOptions, Source, check_file
from specialize.trace.schema import MOST_EXPERTS

_ROWS_AT_ONCE = 2**10
_SHARE_TOLERANCE = 0.01  # half precision, and a few digits in a table, stay far below
_ROUNDING = 0.005  # of the sums of shares
_LARGEST = 2.0**52


class UsageChecker(Checker):
    """Checks that blocks of usage have one shape; `open_usage` has checked their values."""

    column = "usage"

    def check(self, block: Block) -> dict[str, NDArray[Any]]:
        """Return the block's columns: document, and usage float64 [documents, layers, E].

        Raises:
            TraceError: the block's shape differs from that of earlier blocks.
        """
        shape = block.experts.shape[1:]
        if not self._shape:
            self._shape, self.top_k, self.contents = shape, self.source.top_k, ["usage"]
            self.layers, self._index = choose_layers(self.source, self._asked, shape[0])
        if shape != self._shape or shape[1] != self.num_experts:
            raise TraceError(
                f"{block.where(0)}: expected usage of {self._shape[0]} layers with {self.num_experts} experts, got "
                f"{shape[0]} layers with {shape[1]}; import the files separately"
            )
        return {"document": block.document, "usage": block.experts[:, self._index]}


def open_usage(path: Path, options: ImportOptions) -> Source:
    """Open a table of usage, and check all of it.

    Raises:
        TraceError: it is not [documents, layers, E], or has values that are no counts or shares.
    """
    usage, layers, notes = _load(path)
    if usage.ndim != 3 or not all(usage.shape) or usage.dtype.kind not in "iuf" or usage.shape[2] > MOST_EXPERTS:
        raise TraceError(
            f"{path}: expected usage as numbers [documents, layers, experts], got {usage.dtype} {list(usage.shape)}"
        )
    totals, is_whole = _sum(path, usage, layers or tuple(range(usage.shape[1])))
    is_shares = _are_shares(path, totals)
    is_countable = is_whole and not is_shares
    top_k, assumed = _find_top_k(options, totals, usage.shape[2], is_countable=is_countable)
    notes += [*assumed, *_judge_totals(totals, top_k if is_countable else 1)]
    return Source(
        path=path,
        read=lambda: _read(path, usage, 1 if is_shares else top_k),
        size=usage.nbytes,
        layers=layers,
        num_experts=usage.shape[2],
        is_usage=True,
        top_k=top_k,
        notes=tuple(notes),
        facts={"usage": "shares" if is_shares else "counts"} | ({"top_k_inferred": True} if assumed else {}),
    )


def _load(path: Path) -> tuple[NDArray[Any], tuple[int, ...] | None, list[str]]:
    """Return the table, the numbers of its layers if it states them, and notes."""
    if path.suffix not in (".npy", ".npz") or not path.is_file():
        got = "a folder" if path.is_dir() else path.suffix or "no extension"
        raise TraceError(f"{path}: expected usage in an .npy or .npz, got {got}")
    check_file(path)
    if path.suffix == ".npy":
        return load_array(path), None, []
    arrays = load_archive(path)
    tables = [name for name, array in arrays.items() if array.ndim == 3]
    name = "usage" if "usage" in arrays or len(tables) != 1 else tables[0]
    if name not in arrays:
        raise TraceError(f"{path}: expected an array called usage, [documents, layers, E], got {list_names(arrays)}")
    usage, layers = arrays[name], arrays.get("layers")
    if layers is not None and (layers.dtype.kind not in "iu" or layers.shape != usage.shape[1:2]):
        raise TraceError(
            f"{path}: expected layers as integers {list(usage.shape[1:2])}, got {layers.dtype} {list(layers.shape)}"
        )
    others = [other for other in arrays if other not in (name, "layers")]
    notes = [f"{path}: arrays that are not imported: {list_names(others)}"] if others else []
    return usage, None if layers is None else tuple(layers.tolist()), notes


def _sum(path: Path, usage: NDArray[Any], layers: tuple[int, ...]) -> tuple[NDArray[np.float64], bool]:
    """Return the sum of each row over its experts, float64 [documents, layers], and whether all values are whole.

    Raises:
        TraceError: a value is negative, not finite or too large, or all are zero.
    """
    totals, is_whole = np.zeros(usage.shape[:2]), True
    for start in range(0, len(usage), _ROWS_AT_ONCE):
        part = np.asarray(usage[start : start + _ROWS_AT_ONCE], dtype=np.float64)
        wrong = ~((part >= 0) & (part <= _LARGEST))  # NaN compares false
        if wrong.any():
            document, layer, expert = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
            raise TraceError(
                f"{path}, document {start + document}, layer {layers[layer]}, expert {expert}: expected a count or a "
                f"share of 0 or more, got {part[document, layer, expert]:g}; correct it, or leave the document out"
            )
        totals[start : start + len(part)] = part.sum(axis=2)
        is_whole = is_whole and bool((part == np.floor(part)).all())
    if not totals.any():
        raise TraceError(f"{path}: expected counts or shares of experts, got zeros alone; nothing was recorded")
    return totals, is_whole


def _are_shares(path: Path, totals: NDArray[np.float64]) -> bool:
    """Return whether rows are shares, which sum to 1.

    Raises:
        TraceError: most do, and some do not.
    """
    known = totals > 0
    is_one = np.abs(totals - 1) <= _SHARE_TOLERANCE
    if 2 * is_one.sum() <= known.sum():
        return False
    others = known & ~is_one
    if others.any():
        document, layer = np.unravel_index(int(np.argmax(others)), totals.shape)
        raise TraceError(
            f"{path}, document {document}: expected rows of shares that sum to 1, as most do, got a sum of "
            f"{totals[document, layer]:g} in row {layer}; correct it, or leave the document out"
        )
    return True


def _find_top_k(
    options: ImportOptions, totals: NDArray[np.float64], num_experts: int, *, is_countable: bool
) -> tuple[int, list[str]]:
    """Return k, as given or as the largest number that divides every total, and a note on what was assumed."""
    top_k = options.expected_top_k
    if top_k is not None:
        if top_k > num_experts:
            raise TraceError(f"top_k: expected at most the {num_experts} experts of a layer, got {top_k}")
        return top_k, []
    if is_countable and 1 < (found := gcd(*totals.astype(np.int64).ravel().tolist())) <= num_experts:
        return found, [f"k = {found}, which divides the total of every row; set top_k if it differs"]
    return 1, ["k is not known: every slot of a document counts as a token; set top_k"]


def _judge_totals(totals: NDArray[np.float64], top_k: int) -> list[str]:
    """Return notes on rows without usage, on totals that differ between layers, and on slots that are missing."""
    notes = []
    empty = int((totals == 0).sum())
    if empty:
        document = int(np.argmax((totals == 0).any(axis=1)))
        notes.append(f"rows without usage, which are not counted: {empty:,}, the first of them in document {document}")
    most = totals.max(axis=1)
    least = np.where(totals > 0, totals, most[:, None]).min(axis=1)
    spread = np.divide(most - least, most, out=np.zeros_like(most), where=most > 0)
    if (totals.max() > 1 + _ROUNDING and spread.any()) or spread.max() > _ROUNDING:
        notes.append(
            f"rows of unequal totals: the layers of a document differ by up to {100 * spread.max():.2g} % (document "
            f"{int(spread.argmax())}); slots are missing, or counted twice"
        )
    uneven = int((totals % top_k != 0).sum())
    if top_k > 1 and uneven:
        notes.append(f"totals that are no multiple of k = {top_k}, so that slots are missing: {uneven:,} rows")
    return notes


def _read(path: Path, usage: NDArray[Any], top_k: int) -> Iterator[Block]:
    for start in range(0, len(usage), _ROWS_AT_ONCE):
        part = np.asarray(usage[start : start + _ROWS_AT_ONCE], dtype=np.float64) / top_k
        rows = np.arange(start, start + len(part))
        yield Block(
            document=rows,
            keys=rows.tolist(),
            experts=part,
            where=partial(_place, path, start),
            bytes_read=(start + len(part)) * usage[:1].nbytes,
        )


def _place(path: Path, start: int, row: int) -> str:
    return f"{path}, document {start + row}"

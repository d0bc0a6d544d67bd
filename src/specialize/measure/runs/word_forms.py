"""Word forms of tokens, for the word-form baseline and the control task of probes."""

import re
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from specialize.column import Column
from specialize.measure.base.scratch import Scratch
from specialize.measure.runs.routers import Columns, count_rows, read_columns
from specialize.trace.schema import UNKNOWN

if TYPE_CHECKING:
    from specialize.trace import RoutingTrace

FormKind = Literal["word form", "token id"]
# A word is a sequence of letters and digits; any other character is a word of its own.
_WORD = re.compile(r"\w+|[^\w\s]")
_ROWS = 2**17  # tokens whose forms are read together


class WordForms:
    """The word forms of a trace's tokens, numbered in order of appearance; use as a context manager.

    The word form of a token is the word in which it begins or, for a token that begins with whitespace, the next
    word. Words are sequences of letters and digits, or single other characters; case is preserved. Where text or
    character offsets are missing, token ids stand for them. Numbers are on disk if there are many.

    Args:
        trace: an open trace.
        places: the columns of its tokens, see `read_columns`.

    Attributes:
        kind: what the numbers are ("word form" or "token id"); None where the trace has neither text nor token ids.
        numbers: integers [tokens], a column or an array; None where there are none.
    """

    def __init__(self, trace: "RoutingTrace", places: Columns | None = None) -> None:
        places = read_columns(trace) if places is None else places
        self.kind: FormKind | None = None
        self.numbers: Any = None
        self._scratch: Scratch | None = None
        if "char_start" in places and _all_known(places["char_start"]) and _all_texts(trace):
            self.kind, tokens = "word form", len(places["char_start"])
            self._scratch = scratch = Scratch(tokens, np.dtype(np.int32))
            _number_forms(scratch, trace, places)
            starts = range(0, tokens, _ROWS)
            sizes = [min(_ROWS, tokens - start) for start in starts]
            self.numbers = Column(
                sizes, lambda part: scratch.read(starts[part], starts[part] + sizes[part]), dtype=np.int32
            )
        elif "token_id" in places and _all_known(places["token_id"]):
            self.kind, self.numbers = "token id", places["token_id"]

    def __enter__(self) -> "WordForms":
        return self

    def __exit__(self, *_: object) -> None:
        if self._scratch is not None:
            self._scratch.__exit__()


def _all_known(values: Any) -> bool:
    return not len(values) or values.min() > UNKNOWN


def _all_texts(trace: "RoutingTrace") -> bool:
    return not any(batch.column("text").null_count for batch in trace.stored_documents())


def _number_forms(scratch: Scratch, trace: "RoutingTrace", places: Columns) -> None:
    numbers: dict[str, int] = {"": 0}  # tokens after the last word
    texts = chain.from_iterable(batch.column("text").to_pylist() for batch in trace.stored_documents())
    first = 0
    for text, count in zip(texts, count_rows(trace, places).tolist(), strict=False):
        starts: NDArray[np.integer] = np.asarray(places["char_start"][first : first + count])
        words = list(_WORD.finditer(text))
        own = [numbers.setdefault(word.group(), len(numbers)) for word in words]
        ends = [word.end() for word in words]
        scratch.write(first, np.asarray([*own, 0], dtype=np.int32)[np.searchsorted(ends, starts, side="right")])
        first += count

"""Measure the vocabulary specialization of a trace; results as a tidy frame and a table of top tokens."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.errors import MeasurementError
from specialize.measure.estimators.frequent_types import FrequentTypes
from specialize.measure.estimators.vocabulary import MIN_COUNT, concentrate_types, list_top_tokens
from specialize.measure.results.files import as_results
from specialize.measure.results.q_values import adjust_by_routing
from specialize.measure.results.rows import estimate_rows
from specialize.measure.runs.context import following_codes
from specialize.measure.runs.routers import Columns, check_layers, iterate_layers, name_rows, name_run, read_columns
from specialize.trace.groups import take_documents

if TYPE_CHECKING:
    from specialize.trace import RoutingTrace

LABEL_SET = "token_id"
_OF_TEXT = ("token_id", "document", "char_start", "char_end")
_ROWS = 2**17  # tokens that are looked at together


def measure_vocabulary_specialization(
    trace: "RoutingTrace",
    *,
    run_name: str | None = None,
    min_count: int = MIN_COUNT,
    most: int = 10,
    permutations: int = 200,
    num_blocks: int = 50,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure the vocabulary specialization of each router, for input, predicted and next tokens.

    Args:
        trace: an open trace; predicted tokens are measured where predictions were recorded.
        run_name: name of the run in the frame, by default that of the trace's folder.
        min_count: minimum number of routed tokens of a token id.
        most: maximum number of token ids per expert in the table of top tokens.
        permutations: number of permutations under the null.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the null.
        progress: called with (routers done, total routers).

    Returns:
        A frame with the columns of `RESULT_COLUMNS`: metrics ``vocabulary_specialization`` and
        ``vocabulary_specialization_above_load`` (shares of the type's tokens), label set ``token_id``, label input,
        predicted or next, one row per layer and per expert; see `measure_vocabulary`. And a table of top tokens with
        the columns run, routing, layer, router, token (input, predicted or next), expert, rank, token_id, text (of one
        occurrence in the input; missing where there is none or text is unknown), share, lift and count; see
        `top_tokens`.

    Raises:
        MeasurementError: the trace has no token ids, no layers or no tokens, or no token id reaches ``min_count``.
    """
    check_layers(trace)
    places = read_columns(trace)
    kinds = _read_types(places)
    if not any(types.max() >= 0 for types in kinds.values()):
        raise MeasurementError(f"{trace.path}: expected a trace with token ids, got none: import it with token ids")
    frames, tables = [], []
    for router, layer in iterate_layers(trace, places=places, progress=progress):
        for kind, types in kinds.items():
            with FrequentTypes(layer, types, min_count=min_count) as kept:
                measured = concentrate_types(kept, permutations=permutations, num_blocks=num_blocks, seed=seed)
                top = list_top_tokens(kept, most=most)
            rows = [
                estimate_rows(measured.specialization, "vocabulary_specialization"),
                estimate_rows(measured.above_load, "vocabulary_specialization_above_load"),
                estimate_rows(measured.expert_specialization, "vocabulary_specialization"),
                estimate_rows(measured.expert_above_load, "vocabulary_specialization_above_load"),
            ]
            frames.append(name_rows(rows, router).assign(label=kind))
            tables.append(name_rows([pd.DataFrame(top)], router).assign(token=kind))
    name = name_run(trace, run_name)
    frame = adjust_by_routing(as_results(pd.concat(frames, ignore_index=True).assign(run=name, label_set=LABEL_SET)))
    table = pd.concat(tables, ignore_index=True).assign(run=name)
    table["text"] = table["token_id"].map(_read_texts(trace, places, np.unique(table["token_id"])))
    columns = ["run", "routing", "layer", "router", "token", "expert", "rank", "token_id", "text", "share", "lift"]
    return frame, table[[*columns, "count"]]


def _read_types(places: Columns) -> dict[str, Any]:
    """Return the token ids int32 [tokens] of the input, next and, where recorded, predicted tokens, as columns."""
    if "token_id" not in places:
        return {}
    own = places["token_id"]
    kinds = {"input": own, "next": following_codes(own, places)}
    if "predicted_token_id" in places:
        kinds["predicted"] = places["predicted_token_id"]
    return kinds


def _read_texts(trace: "RoutingTrace", places: Columns, wanted: NDArray[np.integer]) -> dict[int, str]:
    """Return the text of the first occurrence of each token id, among tokens whose place in the text is known."""
    if "char_start" not in places:
        return {}
    missing, found = wanted, []
    for first in range(0, len(places["token_id"]), _ROWS):
        own = {name: np.asarray(places[name][first : first + _ROWS]) for name in _OF_TEXT}
        rows = np.flatnonzero((own["char_end"] > own["char_start"]) & (own["char_start"] >= 0))
        rows = rows[np.isin(own["token_id"][rows], missing)]
        rows = rows[np.unique(own["token_id"][rows], return_index=True)[1]]
        found.append(pd.DataFrame({name: column[rows] for name, column in own.items()}))
        missing = np.setdiff1d(missing, own["token_id"][rows])
        if not len(missing):
            break
    occurrences = pd.concat(found, ignore_index=True)
    documents = np.unique(occurrences["document"])
    texts = take_documents(trace.stored_documents(), documents).column("text").to_pylist()
    text_of = dict(zip(documents.tolist(), texts, strict=True))
    return {
        each.token_id: text[each.char_start : each.char_end]
        for each in occurrences.itertuples()
        if (text := text_of[each.document]) is not None
    }

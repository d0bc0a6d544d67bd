"""Measure the vocabulary specialization of a trace; results as a tidy frame and a table of top tokens."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.errors import MeasurementError
from specialize.measure.estimators.vocabulary import MIN_COUNT, measure_vocabulary, top_tokens
from specialize.measure.results.files import as_results
from specialize.measure.results.q_values import adjust_by_routing
from specialize.measure.results.rows import estimate_rows
from specialize.measure.runs.context import next_codes
from specialize.measure.runs.routers import check_layers, iterate_layers, name_rows, name_run

if TYPE_CHECKING:
    from specialize.trace import RoutingTrace

LABEL_SET = "token_id"


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
    tokens = trace.tokens()
    kinds = _read_types(tokens)
    if not any((codes >= 0).any() for codes in kinds.values()):
        raise MeasurementError(f"{trace.path}: expected a trace with token ids, got none: import it with token ids")
    frames, tables = [], []
    for router, layer in iterate_layers(trace, progress=progress):
        for kind, types in kinds.items():
            measured = measure_vocabulary(
                types, **layer.choices, min_count=min_count, permutations=permutations, num_blocks=num_blocks, seed=seed
            )
            rows = [
                estimate_rows(measured.specialization, "vocabulary_specialization"),
                estimate_rows(measured.above_load, "vocabulary_specialization_above_load"),
                estimate_rows(measured.expert_specialization, "vocabulary_specialization"),
                estimate_rows(measured.expert_above_load, "vocabulary_specialization_above_load"),
            ]
            frames.append(name_rows(rows, router).assign(label=kind))
            top = top_tokens(types, layer.experts, num_experts=layer.num_experts, min_count=min_count, most=most)
            tables.append(name_rows([pd.DataFrame(top)], router).assign(token=kind))
    name = name_run(trace, run_name)
    frame = adjust_by_routing(as_results(pd.concat(frames, ignore_index=True).assign(run=name, label_set=LABEL_SET)))
    table = pd.concat(tables, ignore_index=True).assign(run=name)
    table["text"] = table["token_id"].map(_read_texts(trace, tokens, np.unique(table["token_id"])))
    columns = ["run", "routing", "layer", "router", "token", "expert", "rank", "token_id", "text", "share", "lift"]
    return frame, table[[*columns, "count"]]


def _read_types(tokens: pd.DataFrame) -> dict[str, NDArray[np.int32]]:
    """Return the token ids int32 [tokens] of the input, next and, where recorded, predicted tokens."""
    if "token_id" not in tokens:
        return {}
    own = tokens["token_id"].to_numpy().astype(np.int32)
    kinds = {"input": own, "next": next_codes(own, tokens)}
    if "predicted_token_id" in tokens:
        kinds["predicted"] = tokens["predicted_token_id"].to_numpy().astype(np.int32)
    return kinds


def _read_texts(trace: "RoutingTrace", tokens: pd.DataFrame, wanted: NDArray[np.integer]) -> dict[int, str]:
    """Return the text of the first occurrence of each token id."""
    if "char_start" not in tokens:
        return {}
    places = tokens[(tokens["char_end"] > tokens["char_start"]) & (tokens["char_start"] >= 0)]
    places = places.drop_duplicates("token_id")
    texts = trace.documents()["text"]
    found = {}
    for place in places[places["token_id"].isin(wanted)].itertuples():
        text = texts.iloc[place.document]
        if isinstance(text, str):
            found[int(place.token_id)] = text[place.char_start : place.char_end]
    return found

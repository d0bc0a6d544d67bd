"""Measure what switching off experts changed, beside what is observed of them; results as tidy frames."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from specialize.annotation import Annotation
from specialize.choices import InterventionMode
from specialize.errors import MeasurementError
from specialize.measure.estimators.label_sums import shift_labels
from specialize.measure.results.files import as_results
from specialize.measure.results.q_values import adjust_by_routing
from specialize.measure.runs.function_rows import EXPERTS, AblatedTokens, FunctionRows
from specialize.names import NEXT

if TYPE_CHECKING:
    from specialize.trace import RoutingTrace
    from specialize.trace.ablation import AblationStore


def measure_function(
    trace: "RoutingTrace",
    store: "AblationStore",
    annotations: Sequence[Annotation] = (),
    *,
    mode: InterventionMode = "drop",
    run_name: str | None = None,
    permutations: int = 200,
    num_blocks: int = 50,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, pd.DataFrame]:
    """Measure what the conditions of a run that are there have changed.

    Args:
        trace: the trace whose documents were run again.
        store: its ablation.
        annotations: labels of its tokens or documents. Those of tokens are measured a second time as labels of the
            token that is predicted, with ``next_`` before their name.
        mode: of the conditions.
        run_name: name of the run in the frames, by default that of the trace's folder.
        permutations: number of permutations under the nulls of selectivity and agreement.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the nulls, and of conditions that draw replacements.
        progress: called with (parts done, total parts).

    Returns:
        A frame with the columns of `RESULT_COLUMNS` for each label set, and one called ``experts`` of what needs no
        labels; changes of the loss in bits:

        - with `layer`, `expert` and, but for ``experts``, `label`: ``effect``, ``exposure``, ``per_use_effect`` and
          ``indirect_effect``, see `measure_effects`; with a label also ``effect_selectivity``, see
          `measure_selectivity`, and ``lift``, counted in the same documents; without one ``load`` and, where it was
          measured, ``saliency`` and ``output_norm``, the mean norm of the expert's output with and without its gate
          weight.
        - for the sets that lead a label, without `layer` and `expert`: ``effect_selectivity``, whose null are their
          random sets, and ``effect_selectivity_above_random_sets``, see `compare_selectivity`.
        - for layers of which each expert was switched off alone, and their mean without `layer`:
          ``per_use_agreement`` and ``total_agreement`` of lift and effect, each also ``corrected_``, see
          `measure_agreement`; in ``experts`` those of a score, the `label`: saliency, output_norm or load.
        - ``removal_effect``: mean change with the first experts of a ranking switched off together; `label` is their
          number, `label_set` is removed_by_RANKING.

    Raises:
        MeasurementError: no condition of this mode is there, or the trace has other tokens.
        TraceError: a file is damaged.
    """
    tokens = AblatedTokens.of(trace, store.documents)
    measuring = FunctionRows(
        trace, store, tokens, mode, {"permutations": permutations, "num_blocks": num_blocks, "seed": seed}
    )
    if len(store.baseline()) != len(tokens.rows):
        raise MeasurementError(
            f"{store.folder}: expected losses of {len(tokens.rows):,} tokens, those of the documents in the trace, got "
            f"{len(store.baseline()):,}: move the folder away and run `specialize ablate` again"
        )
    parts = [None, *_with_next(annotations, trace, tokens)]
    frames: dict[str, pd.DataFrame] = {}
    for done, annotation in enumerate(parts):
        if progress is not None:
            progress(done, len(parts))
        rows = list(measuring.rows_of(annotation))
        if rows:
            frame = pd.concat(rows, ignore_index=True).assign(routing="learned", run=run_name or trace.path.name)
            frames[EXPERTS if annotation is None else annotation.name] = as_results(adjust_by_routing(frame))
    if progress is not None:
        progress(len(parts), len(parts))
    if not frames:
        raise MeasurementError(
            f"{store.folder}: expected conditions of mode {mode}, found none: run `specialize ablate`"
        )
    return frames


def _with_next(annotations: Sequence[Annotation], trace: "RoutingTrace", tokens: AblatedTokens) -> Iterator[Annotation]:
    """Yield annotations restricted to the ablated tokens, those of tokens also as labels of the next token."""
    for annotation in annotations:
        if annotation.level == "document":
            yield annotation
            continue
        own = replace(annotation, codes=annotation.codes[tokens.rows])
        yield own
        following = shift_labels(own.codes, tokens.documents, sequences=tokens.sequences)
        yield replace(own, name=NEXT + own.name, codes=following)

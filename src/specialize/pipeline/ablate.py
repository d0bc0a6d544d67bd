"""What happens to the loss when experts are switched off: the stage that goes from association to function."""

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from specialize.choices import Dtype, InterventionMode
from specialize.errors import MeasurementError, TraceError
from specialize.events import SILENT, Reporter
from specialize.extras import require_extra
from specialize.pipeline.ablation_plan import (
    AblationOptions,
    Usage,
    choose_routers,
    find_leading_sets,
    list_conditions,
    make_removals,
    single_experts,
)
from specialize.pipeline.ablation_run import run_baseline, run_conditions, run_saliency
from specialize.pipeline.models import check_model, open_model
from specialize.pipeline.stage import PERMUTATIONS, check_at_least, known_annotations, open_run, write_frames
from specialize.remote.places import at_addresses

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from specialize.annotation import Annotation
    from specialize.capture import Checkpoint
    from specialize.trace import RoutingTrace
    from specialize.trace.ablation import AblationStore
    from specialize.tracing.windows import Window


@at_addresses(run="ablated")
def ablate(
    model: "str | PathLike[str] | PreTrainedModel | Checkpoint",
    run: "str | PathLike[str] | RoutingTrace",
    *,
    tokenizer: "PreTrainedTokenizerBase | str | PathLike[str] | None" = None,
    documents: int | None = None,
    singles: bool = True,
    layers: Sequence[int] | None = None,
    experts: Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    top: int = 2,
    random: int = 20,
    rankings: Sequence[str] | None = None,
    mode: InterventionMode = "drop",
    seed: int = 0,
    permutations: int = PERMUTATIONS,
    dtype: Dtype = "auto",
    device: str | None = None,
    device_map: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_missing_weights: bool = False,
    batch_tokens: int = 8192,
    reporter: Reporter = SILENT,
) -> "pd.DataFrame":
    """Run the traced documents again with experts switched off, and measure what happens to the loss of each label.

    Each condition, a set of experts that are switched off together, leaves one file in RUN/ablation/changes: the rise
    of the loss of the next token at every token. The same call resumes an interrupted run; a call that asks for other
    conditions adds them. Results go to RUN/ablation/NAME.{csv,parquet} for each label set that the run has, for labels
    of tokens also as labels of the predicted token (next_NAME), and for what needs no labels (experts); of other modes
    than drop to NAME.MODE.

    Args:
        model: the model that was traced: a checkpoint folder or hub id, a loaded transformers model, or a
            `Checkpoint`.
        run: its run folder, or the open trace.
        tokenizer: of a loaded model, which needs it.
        documents: number of documents to run again, a seeded sample; default: those that were run before, else all.
        singles: switch off each expert alone.
        layers: layers whose experts are switched off; default: all.
        experts: numbers of the experts that are switched off alone; default: all.
        labels: ``SET=LABEL``, or ``SET`` for all its labels, such as ``upos=NOUN``: also switch off together the
            experts that lead a label, and random sets of the same load.
        top: number of experts of each layer that lead a label.
        random: number of random sets for each label.
        rankings: also switch off the first 1, 2, 4, … experts of all layers, by saliency, load, lift or random.
        mode: drop, renormalize, reroute or replace, see `specialize.intervene`.
        seed: of the sample of documents, the random sets, the nulls and of mode replace.
        permutations: permutations under the nulls of selectivity and agreement.
        dtype: precision of a model that is loaded; ``auto``: as stored on a GPU, float32 on a CPU.
        device: for a model that is loaded: ``cpu``, ``cuda``, ``cuda:1``; default: a GPU if there is one.
        device_map: how accelerate spreads a model that is loaded over devices: auto, balanced, sequential.
        revision: branch, tag or commit of a hub model.
        trust_remote_code: run code that comes with the checkpoint.
        allow_missing_weights: accept a checkpoint that lacks weights of the model, or has unused ones.
        batch_tokens: padded tokens of a forward pass.
        reporter: receives the plan, messages and progress.

    Returns:
        The result rows of all frames of this mode, columns of `specialize.measure.RESULT_COLUMNS`.

    Raises:
        TraceError: there is no trace, `specialize trace` did not make it, a file of the ablation is damaged, or what is
            there is of other documents, another model or other batches.
        CaptureError: the model cannot be loaded, does not allow the mode, has no next tokens to predict, is not the one
            that was traced, or a loss is not finite.
        MeasurementError: a value is out of range, or there is no such layer, expert or label.
    """
    require_extra("capture")
    import pandas as pd

    from specialize.trace.ablation import AblationStore

    options = AblationOptions(singles, layers, experts, labels, top, random, tuple(rankings or ()), mode, seed)
    check_at_least("permutations", permutations, 1)
    check_at_least("batch_tokens", batch_tokens, 1)
    if documents is not None:
        check_at_least("documents", documents, 1)
    loading = {
        "dtype": dtype,
        "device": device,
        "device_map": device_map,
        "revision": revision,
        "trust_remote_code": trust_remote_code,
        "allow_missing_weights": allow_missing_weights,
    }
    check_model(model, tokenizer, loading)
    trace = open_run(run, tokens_for="ablate")
    _check_windows(trace)
    store = AblationStore(trace.path)
    annotations = known_annotations(trace, reporter=reporter)
    chosen = _choose_documents(trace, store, documents, seed)
    usage = _read_usage(trace, chosen, options)
    sets, notes = find_leading_sets(usage, annotations, options)  # quick: errors come before a model is loaded
    lone = single_experts(usage.routers, options.experts) if options.singles else []
    checkpoint = open_model(model, tokenizer, loading=loading, reporter=reporter)
    from specialize.capture.ablation import AblationRunner  # and with it torch, if no model was loaded

    runner = AblationRunner(checkpoint, _cut_windows(trace, checkpoint, chosen, usage.rows), batch_tokens=batch_tokens)
    runner.check(list_conditions(lone, sets, (), options=options))
    store.begin(_describe(trace, checkpoint, chosen, batch_tokens))
    seconds = run_baseline(runner, store, usage, reporter=reporter)
    saliency = run_saliency(runner, store, reporter=reporter)
    removals, more = make_removals(usage, saliency, annotations, options=options)
    for note in (*notes, *more):
        reporter.say(f"note: {note}")
    store.ask(sets, removals)
    wanted = list_conditions(lone, sets, removals, options=options)
    run_conditions(runner, store, wanted, seconds=seconds, reporter=reporter)
    frames = _measure(trace, store, annotations, options, permutations, reporter)
    write_frames(trace, frames)
    return pd.concat(list(frames.values()), ignore_index=True)


def _check_windows(trace: "RoutingTrace") -> None:
    settings = trace.manifest.get("settings") or {}
    if settings.get("generate") is not None or settings.get("replay"):
        raise TraceError(
            f"{trace.path}: expected a trace of texts, got one of tokens that the model generated, or read from "
            "another run; trace the texts without generate"
        )
    if "context_length" not in settings or "weights_digest" not in settings:
        raise TraceError(
            f"{trace.path}: expected a trace that `specialize trace` made, whose windows are known, got one that was "
            "recorded or imported; trace the corpus with the model"
        )


def _choose_documents(
    trace: "RoutingTrace", store: "AblationStore", count: int | None, seed: int
) -> "NDArray[np.int64]":
    """Return the rows of the documents to run, increasing: a sample of those with tokens."""
    held = np.unique(trace.tokens(["document"])["document"].to_numpy()).astype(np.int64)
    if count is None:
        return store.documents if store.exists else held
    if count >= len(held):
        return held
    return np.sort(np.random.default_rng(seed).choice(held, count, replace=False))


def _read_usage(trace: "RoutingTrace", chosen: "NDArray[np.int64]", options: AblationOptions) -> Usage:
    from specialize.measure.runs.function_rows import AblatedTokens

    tokens, routers = AblatedTokens.of(trace, chosen), choose_routers(trace, options.layers)
    experts = {each.name: trace.experts(each.name)[tokens.rows] for each in routers}
    return Usage(routers, experts, tokens.documents, tokens.rows)


def _cut_windows(
    trace: "RoutingTrace", checkpoint: "Checkpoint", chosen: "NDArray[np.int64]", rows: "NDArray[np.int64]"
) -> "list[Window]":
    """Cut the documents as they were cut when they were traced, and check that their tokens are those of the trace."""
    from specialize.tracing.windows import cut_windows

    settings = trace.manifest["settings"]
    texts = trace.documents()["text"].iloc[chosen].tolist()
    windows = list(
        cut_windows(
            texts,
            checkpoint.tokenizer,
            length=settings["context_length"],
            stride=settings.get("stride"),
            max_tokens=settings.get("max_tokens"),
            add_special_tokens="chat_template" not in settings,
        )
    )
    read = np.concatenate([window.token_ids[window.opening :] for window in windows])
    if not np.array_equal(read, trace.tokens(["token_id"])["token_id"].to_numpy()[rows]):
        raise MeasurementError(
            f"{trace.path}: expected the tokens of the trace, the tokenizer of {checkpoint.name} gives other ones: "
            "give the model that was traced"
        )
    return windows


def _describe(
    trace: "RoutingTrace", checkpoint: "Checkpoint", chosen: "NDArray[np.int64]", batch_tokens: int
) -> dict[str, Any]:
    """Return the plan's entries; raise MeasurementError if the model is not the one that was traced."""
    from specialize.capture.given import identify_checkpoint
    from specialize.manifest import versions

    found, settings = identify_checkpoint(checkpoint), trace.manifest["settings"]
    compared = {"tokenizer_digest": "another tokenizer"}
    if found["dtype"] == settings.get("dtype"):  # in another precision, no weight is the same
        compared["weights_digest"] = "other weights"
    for name, called in compared.items():
        if found[name] != settings.get(name):
            raise MeasurementError(
                f"{trace.path}: expected the model that was traced, {checkpoint.name} has {called}: give the "
                "checkpoint that the manifest names"
            )
    return {
        "model": checkpoint.name,
        **{name: found[name] for name in ("weights_digest", "tokenizer_digest", "dtype", "device")},
        "text_digest": trace.text_digest,
        "batch_tokens": batch_tokens,
        "documents": chosen.tolist(),
        "versions": versions(),
    }


def _measure(
    trace: "RoutingTrace",
    store: "AblationStore",
    annotations: "dict[str, Annotation]",
    options: AblationOptions,
    permutations: int,
    reporter: Reporter,
) -> "dict[str, pd.DataFrame]":
    from specialize.measure.runs.function import measure_function

    with reporter.progress("measuring", "label sets") as update:
        frames = measure_function(
            trace, store, list(annotations.values()), mode=options.mode, permutations=permutations, seed=options.seed,
            progress=update,
        )  # fmt: skip
    suffix = "" if options.mode == "drop" else f".{options.mode}"
    return {f"ablation/{name}{suffix}": frame for name, frame in frames.items()}

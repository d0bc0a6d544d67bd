"""What the numbers of a report do not show, in words."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from specialize.names import name_label_set
from specialize.reporting.corpora import group_by_corpus
from specialize.reporting.findings import Record
from specialize.reporting.formatting import ALPHA, percent
from specialize.reporting.runs import TOPICS, RunResults
from specialize.reporting.verdict import AgainstRandom, ExplainedByToken, Verdicts
from specialize.text import clean_text, list_names

_UNSTABLE = 0.7  # adjusted Rand index between seeds below which topics are called unstable


def list_caveats(runs: Sequence[RunResults], records: Sequence[Record], verdicts: Verdicts) -> list[str]:
    """Return what the numbers of `runs` do not show, those that are particular to these runs first."""
    caveats = []
    non_causal = [run.name for run in runs if not run.is_causal]
    if non_causal:
        caveats.append(
            f"{', '.join(non_causal)}: the router reads the whole sequence, future tokens included. The model is not "
            "causal, so neither its perplexity nor its specialization is comparable with that of a causal model."
        )
    caveats += _of_runs(runs, _weights_caveats)
    caveats += _of_runs(runs, _usage_caveats)
    caveats += _of_runs(runs, _origin_caveats)
    with_control = {record.run for record in records if record.routing == "random"}
    without = [run.label for run in runs if run.name not in with_control and run.frames]
    if without:
        caveats.append(
            f"{', '.join(without)}: no random router was recorded. A random projection of the hidden states also "
            "looks specialized; without this control, learned specialization cannot be separated from the geometry of "
            "the hidden states."
        )
    caveats += _random_caveats(runs, verdicts)
    caveats += _of_runs(runs, partial(_token_caveats, verdicts=verdicts))
    caveats += _of_runs(runs, _topic_caveats)
    groups = group_by_corpus(runs)
    if len(groups) > 1:
        told = "; ".join(f"{group.name}: {list_names([run.label for run in group.runs])}" for group in groups)
        caveats.append(f"The runs are of {len(groups)} corpora, and are not compared across them ({told}).")
    if len({run.routing_unit for run in runs} & {"token", "sequence"}) == 2:
        caveats.append(
            "Token-level and sequence-level routing are not directly comparable. A sequence-level router sends all "
            "tokens of a sequence to the same experts, so by construction it carries little information about the "
            "part of speech of a single token, and it makes only one decision for each sequence. Conversely, U of "
            "topics describes one routing decision; a token-level router makes many decisions for each document, "
            "which together may carry more information than one."
        )
    caveats += [
        "Intervals and null distributions describe variation over documents for these models. They do not include "
        "variation between training runs with different seeds.",
    ]
    return caveats + _function_caveats(runs)


def _of_runs(runs: Sequence[RunResults], find: Callable[[RunResults], list[str]]) -> list[str]:
    """Return the caveats of all runs, each once, after the names of the runs that have it."""
    by_caveat: dict[str, list[str]] = {}
    for run in runs:
        for caveat in find(run):
            by_caveat.setdefault(caveat, []).append(run.label)
    return [f"{', '.join(names)}: {caveat}" for caveat, names in by_caveat.items()]


def _origin_caveats(run: RunResults) -> list[str]:
    if not run.unverified:
        return []
    return [f"some results do not name the trace that was measured, so that it could not be checked: {run.unverified}."]


def _function_caveats(runs: Sequence[RunResults]) -> list[str]:
    """Say what association does not show, and what switching off experts does not."""
    caveats = []
    without, ablated = ([run.label for run in runs if bool(run.ablation) is done] for done in (False, True))
    if without:
        names = f"{', '.join(without)}: association" if ablated else "Association"
        caveats.append(
            f"{names} is not function: which tokens an expert receives does not show what the model would lose without "
            "that expert."
        )
    if ablated:
        caveats.append(
            f"{', '.join(ablated)}: effects of switching experts off are those on the loss of this model and these "
            "documents, and depend on the mode. Other experts may stand in for one that is switched off, and a model "
            "trained without it may not miss it."
        )
    return caveats


def _usage_caveats(run: RunResults) -> list[str]:
    """Say what a run without tokens cannot have."""
    if run.has_tokens:
        return []
    weight = " Shares give every document the same weight." if run.manifest.get("usage") == "shares" else ""
    return [
        "usage of experts by document and no tokens, and so no parts of speech, repeats, "
        f"co-activation or flow.{weight}"
    ]


def _weights_caveats(run: RunResults) -> list[str]:
    """Say which weights were random because the checkpoint lacked them, and which of its weights were not used."""
    model = run.manifest.get("model")
    texts = {
        "missing_weights": "the checkpoint lacked {} of the model ({}). They were random, so routing that depends on "
        "them was not learned.",
        "unused_weights": "the checkpoint has {} in its layers that the model did not use ({}). The configuration may "
        "be that of another model.",
    }
    caveats = []
    for fact, text in texts.items():
        weights = model.get(fact) if isinstance(model, dict) else None
        if isinstance(weights, dict):
            names = [clean_text(name) for name in weights["names"]]
            listed = ", ".join(names[:3]) + ", …" * (weights["number"] > 3)
            number = f"{weights['number']} weight{'s' * (weights['number'] != 1)}"
            caveats.append(text.format(number, listed))
    return caveats


def _random_caveats(runs: Sequence[RunResults], verdicts: Verdicts) -> list[str]:
    """Say what so few random routers cannot show, and where results do not compare with them."""
    by_number: dict[int, list[str]] = {}
    not_compared = []
    for run in runs:
        own = verdicts[run.name].values()
        numbers = [verdict.random.draws for verdict in own if verdict.random is not None]
        if numbers:
            by_number.setdefault(min(numbers), []).append(run.label)
        if any(verdict.against_random is AgainstRandom.NOT_COMPARED for verdict in own):
            not_compared.append(run.label)
    needed = round(1 / ALPHA) - 1
    caveats = [
        f"{', '.join(names)}: the learned router was compared with {number} random router{'s' * (number > 1)}, so the "
        f"p-value of its place among them cannot be below {1 / (1 + number):.2f}; with {needed} random routers "
        f"(--control-draws {needed}) it can reach {ALPHA:g}. The interval of the difference from their mean describes "
        "variation over documents, not over random routers."
        for number, names in by_number.items()
        if number < needed
    ]
    if not_compared:
        caveats.append(
            f"{', '.join(not_compared)}: a random router was recorded, but results of an earlier version do not "
            "compare the learned router with it layer by layer: measure again."
        )
    return caveats


def _token_caveats(run: RunResults, verdicts: Verdicts) -> list[str]:
    """Say where token identity was not controlled for, and how accurate the tagger is."""
    caveats = []
    for label_set in run.main_syntax:
        verdict = verdicts[run.name].get(label_set)
        if verdict is None or verdict.explained_by_token is ExplainedByToken.UNKNOWN:
            caveats.append(
                "token identity was not controlled for. Routing depends on the token, and most tokens "
                f"occur mostly with one {name_label_set(label_set).long}, so some or all of the association may be "
                "explained by token identity."
            )
    caveats += _language_caveats(run)
    for tag, frame in run.taggers.items():
        rows = frame[frame["metric"] == "tagger_accuracy"]
        if len(rows):
            row = rows.iloc[0]
            caveats.append(
                f"the tagger’s accuracy against gold tags is {percent(row['value'])} of the tokens ({clean_text(tag)})."
            )
    return caveats


def _language_caveats(run: RunResults) -> list[str]:
    """Say where the language of the tagged texts is a guess, or has no tagger."""
    caveats = []
    if run.tagging.get("language_source") == "unknown":
        caveats.append(
            "the language of the texts was neither given nor detected. They were tagged as English, and "
            "the parts of speech of texts in another language, or of code, mean nothing."
        )
    without = run.tagging.get("documents_without_pipeline")
    if isinstance(without, dict) and without:
        listed = ", ".join(f"{number} in {clean_text(str(code))}" for code, number in without.items())
        caveats.append(f"documents in languages without a tagger have no parts of speech: {listed}.")
    return caveats


def _topic_caveats(run: RunResults) -> list[str]:
    if TOPICS not in run.topics:
        return []
    quality = {}
    if run.topic_quality is not None:
        quality = dict(zip(run.topic_quality["quantity"], run.topic_quality["value"], strict=True))
    agreement, outliers = quality.get("ari_over_seeds", np.nan), quality.get("outlier_share", np.nan)
    unlabelled = quality.get("unlabelled_share", outliers)
    parts = ["topics are fitted, and another fit may give other topics"]
    if np.isfinite(agreement):
        only = "only " if agreement < _UNSTABLE else ""
        parts = [
            f"topics are fitted; fits with different seeds agree with an adjusted Rand index of {only}{agreement:.2f}"
        ]
    if np.isfinite(outliers) and outliers > 0:
        fate = "are left out" if unlabelled else "are assigned to the nearest topic"
        parts.append(f"{percent(outliers)} of the documents are outliers of the clustering and {fate}")
    return ["; ".join(parts) + "."]

"""What the numbers of a report leave open, in words."""

from collections.abc import Sequence

import numpy as np

from specialize.names import name_label_set
from specialize.reporting.controls import find_word_control
from specialize.reporting.findings import Record, find_best, percent
from specialize.reporting.runs import TOPICS, RunResults
from specialize.text import clean_text, equate_p

_UNSTABLE = 0.7  # adjusted Rand index between seeds below which topics are said to move


def list_caveats(runs: Sequence[RunResults], records: Sequence[Record]) -> list[str]:
    """Return what the numbers of `runs` do not show, most particular to these runs first."""
    caveats = []
    non_causal = [run.name for run in runs if not run.is_causal]
    if non_causal:
        caveats.append(
            f"{', '.join(non_causal)}: the router reads the whole sequence, future tokens included. The model is not "
            "causal, and neither its perplexity nor what its routing tells compares with that of a causal model."
        )
    with_control = {record.run for record in records if record.routing == "random"}
    without = [run.label for run in runs if run.name not in with_control and run.frames]
    if without:
        caveats.append(
            f"{', '.join(without)}: no random router was recorded. A random projection of the hidden states also "
            "looks specialized; without one beside it, learned routing cannot be told from the geometry it reads."
        )
    for run in runs:
        caveats += _word_caveats(run, records)
    by_caveat: dict[str, list[str]] = {}
    for run in runs:
        if TOPICS in run.topics:
            by_caveat.setdefault(_topic_caveat(run), []).append(run.label)
    caveats += [f"{', '.join(names)}: {caveat}" for caveat, names in by_caveat.items()]
    if len({run.routing_unit for run in runs} & {"token", "sequence"}) == 2:
        caveats.append(
            "A sequence-level router gives all tokens of a sequence the same experts, so by construction it can tell "
            "little of the part of speech of a single token, and its decisions are as few as its sequences. The other "
            "way round, what is told of topics is told by one decision: a document that is routed token by token makes "
            "many, and all of them together may tell more than one."
        )
    caveats += [
        "Intervals and nulls speak of these documents through these models. How far another training run, from another "
        "seed, would differ is not in them.",
        "Association is not function: what an expert is sent says nothing of what the model would lose without it.",
    ]
    return caveats


def _word_caveats(run: RunResults, records: Sequence[Record]) -> list[str]:
    """Say how much of the part of speech is the word, and how often the tagger errs."""
    caveats = []
    for label_set in run.main_syntax:
        noun = name_label_set(label_set).long
        finding = find_best(records, run.name, label_set)
        control = find_word_control(run, label_set, finding.best.layer) if finding else None
        if finding is None or control is None:
            caveats.append(
                f"{run.label}: syntax is not separated from vocabulary. Routing follows the word, and words have their "
                f"usual {noun}: part or all of what routing tells may be vocabulary."
            )
            continue
        verdict = ": most of it is vocabulary, as routing follows the word" if control.mostly_word else ""
        caveats.append(
            f"{run.label}: where the token's id leaves the {noun} open, layer {finding.best.layer} tells "
            f"{control.whole:.3f} bits of it, and {control.within:.3f} bits among tokens of one id "
            f"(chance {control.chance:.3f}, {equate_p(control.p_value)}){verdict}."
        )
    for tag, frame in run.taggers.items():
        rows = frame[frame["metric"] == "tagger_accuracy"]
        if len(rows):
            row = rows.iloc[0]
            caveats.append(
                f"{run.label}: against gold tags the tagger is right for {percent(row['value'])} of the tokens "
                f"({clean_text(tag)})."
            )
    return caveats


def _topic_caveat(run: RunResults) -> str:
    quality = {}
    if run.topic_quality is not None:
        quality = dict(zip(run.topic_quality["quantity"], run.topic_quality["value"], strict=True))
    agreement, outliers = quality.get("ari_over_seeds", np.nan), quality.get("outlier_share", np.nan)
    unlabelled = quality.get("unlabelled_share", outliers)
    parts = ["topics are fitted, and another fit finds others"]
    if np.isfinite(agreement):
        word = "only " if agreement < _UNSTABLE else ""
        parts = [f"topics are fitted; between seeds they agree with {word}an adjusted Rand index of {agreement:.2f}"]
    if np.isfinite(outliers):
        fate = "are left out" if unlabelled else "count to the nearest"
        parts.append(f"{percent(outliers)} of the documents belong to none and {fate}")
    return "; ".join(parts) + "."

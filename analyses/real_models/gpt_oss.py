"""Syntax and subject over the layers of gpt-oss-20b, and whether what is found holds under other choices.

Routing of 345 answers that the model wrote to examination questions: 24 layers, 32 experts, 4 of them for each token.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from analyses.real_models.by_hand import explained_share
from numpy.typing import NDArray

import specialize
from specialize.annotation import NO_LABEL
from specialize.annotators import annotate_column, load_annotation
from specialize.measure import (
    Estimate,
    assign_blocks,
    count_blocks,
    estimate_difference,
    measure_conditional_information,
    measure_layer,
    next_codes,
    pseudo_values,
    read_results,
    uncertainty_coefficient,
)
from specialize.measure.base.estimate import correct_bias, make_estimates
from specialize.trace import RoutingTrace, open_trace

FOLDER = "gpt_oss_20b"
EXPERTS = 32
FIRST_TOKENS = 16
CONTENT = ("NOUN", "VERB", "ADJ", "ADV", "PROPN", "NUM")
MARKS = ("PUNCT", "SYM", "X", "SPACE")
RESULTS = {
    "syntax": ("upos", "tag", "class"),
    "topics": ("field", "category", "bertopic"),
    "routing": ("routing",),
}
PER_LAYER = (
    *("uncertainty_coefficient", "label_entropy", "conditional_information", "ambiguous_mutual_information"),
    *("load_variation", "load_peak", "load_entropy", "first_expert_repeats", "first_expert_repeats_chance"),
    *("any_expert_repeats", "any_expert_repeats_chance", "flow_uncertainty_coefficient"),
)
WORDS_IN_PROSE = 0.8  # smallest share of words among the tokens of a document that counts as prose


@dataclass(frozen=True)
class Variant:
    """One way to ask how strongly routing is associated with a label.

    Attributes:
        about: syntax or subject.
        name: what is different.
        codes: integers [tokens], or [documents] for the subject.
        kept: bool [tokens], the tokens whose routing counts.
        rule: how a token's mass is spread over its slots.
        groups: integers [documents], documents that are kept together; None where each is on its own.
    """

    about: str
    name: str
    codes: NDArray[np.integer]
    kept: NDArray[np.bool_]
    rule: str = "selection"
    groups: NDArray[np.integer] | None = None


@dataclass(frozen=True)
class Corpus:
    """The trace and the labels of its tokens and documents.

    Attributes:
        trace: the trace.
        tokens: its tokens.
        documents: integers [tokens].
        tags: integers [tokens], the part of speech; -1 where there is none.
        names: names of the tags.
        field, category: integers [documents], field and subject of the question; -1 where there is none.
    """

    trace: RoutingTrace
    tokens: pd.DataFrame
    documents: NDArray[np.integer]
    tags: NDArray[np.integer]
    names: tuple[str, ...]
    field: NDArray[np.integer]
    category: NDArray[np.integer]


def import_routing(data: Path, run: Path) -> None:
    """Import the recording into a run folder, unless it is there."""
    if not (run / "trace").is_dir():
        specialize.import_trace(
            "arrays",
            data / FOLDER / "routing.npz",
            run,
            documents=data / FOLDER / "documents.parquet",
            num_experts=EXPERTS,
        )


def read_corpus(run: Path) -> Corpus:
    """Read the trace with part of speech, field and subject."""
    trace = open_trace(run)
    tokens, upos = trace.tokens(), load_annotation(trace, "upos")
    field, category = (annotate_column(trace.documents(), name).codes for name in ("field", "category"))
    return Corpus(trace, tokens, tokens["document"].to_numpy(), upos.codes, upos.labels, field, category)


def list_variants(corpus: Corpus) -> Iterator[Variant]:
    """Yield the association with part of speech and with the field, as it is and under other choices."""
    tags, documents, names = corpus.tags, corpus.documents, np.array(corpus.names)
    everything, tagged = np.ones(len(tags), dtype=bool), tags != NO_LABEL
    content, marks = (tagged & np.isin(names[tags], kinds) for kinds in (CONTENT, MARKS))
    words, function = tagged & ~marks, tagged & ~content & ~marks
    prose = (np.bincount(documents, words) / np.maximum(np.bincount(documents, tagged), 1) >= WORDS_IN_PROSE)[documents]
    later = corpus.tokens["position"].to_numpy() >= FIRST_TOKENS
    kinds = np.where(tagged, np.where(content, 0, np.where(marks, 2, 1)), NO_LABEL)
    usual, consistent = _usual_tags(corpus.tokens["token_id"].to_numpy(), tags, len(names))

    syntax = Variant("syntax", "as reported", tags, everything)
    yield syntax
    yield replace(syntax, name="mass by gate weight", rule="gate")
    yield replace(syntax, name="first slot alone", rule="first")
    yield replace(syntax, name=f"without the first {FIRST_TOKENS} tokens", kept=later)
    yield replace(syntax, name="words: no punctuation, symbols, formulas", kept=words)
    yield replace(syntax, name="documents of prose", kept=prose)
    yield replace(syntax, name="content words alone", kept=content)
    yield replace(syntax, name="function words alone", kept=function)
    yield replace(syntax, name="content, function words and marks as labels", codes=kinds)
    yield replace(syntax, name="the token's usual tag for the tagger's", codes=np.where(tagged, usual, NO_LABEL))
    yield replace(syntax, name="tokens that nearly always have one tag", kept=consistent)
    yield replace(syntax, name="tag of the next token", codes=next_codes(tags, corpus.tokens))
    yield replace(syntax, name="subjects kept together", groups=_number(corpus.category))

    subject = Variant("subject", "as reported", corpus.field, everything)
    yield subject
    yield replace(subject, name="mass by gate weight", rule="gate")
    yield replace(subject, name="first slot alone", rule="first")
    yield replace(subject, name=f"without the first {FIRST_TOKENS} tokens", kept=later)
    yield replace(subject, name="words: no punctuation, symbols, formulas", kept=words)
    yield replace(subject, name="documents of prose", kept=prose)
    yield replace(subject, name="content words alone", kept=content)
    yield replace(subject, name="function words alone", kept=function)
    yield replace(subject, name="subjects kept together", groups=_number(corpus.category))


def _usual_tags(
    ids: NDArray[np.integer], tags: NDArray[np.integer], size: int
) -> tuple[NDArray[np.integer], NDArray[np.bool_]]:
    """Return the most frequent tag of each token's id, and whether 99 % of its occurrences have it."""
    tagged = tags != NO_LABEL
    counts = np.zeros((int(ids.max()) + 1, size))
    np.add.at(counts, (ids[tagged], tags[tagged]), 1)
    usual = counts.argmax(axis=1)
    share = counts.max(axis=1) / np.maximum(counts.sum(axis=1), 1)
    return usual[ids], tagged & (share >= 0.99)[ids]


def _number(category: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return groups of documents of one subject; documents without a subject are on their own."""
    return np.where(category == NO_LABEL, category.max() + 1 + np.arange(len(category)), category)


def measure_variants(corpus: Corpus, *, permutations: int, seed: int) -> pd.DataFrame:
    """Measure U of every variant at every layer."""
    variants = list(list_variants(corpus))
    rows = []
    for router in corpus.trace.routers:
        experts, weights = corpus.trace.experts(router.name), corpus.trace.weights(router.name)
        for variant in variants:
            found = measure_layer(
                np.where(variant.kept, variant.codes, NO_LABEL) if variant.about == "syntax" else variant.codes,
                np.where(variant.kept[:, None], experts, -1).astype(np.int16),
                corpus.documents,
                level="token" if variant.about == "syntax" else "document",
                num_labels=int(variant.codes.max()) + 1,
                num_experts=EXPERTS,
                weights=weights if variant.rule == "gate" else None,
                rule=variant.rule,
                groups=variant.groups,
                permutations=permutations,
                seed=seed,
            ).uncertainty_coefficient
            rows.append(_describe(found, about=variant.about, variant=variant.name, layer=int(router.layer)))
    return pd.DataFrame(rows)


def measure_beyond_tokens(corpus: Corpus, *, permutations: int, seed: int) -> pd.DataFrame:
    """Measure at every layer the information about part of speech and field among occurrences of one token id."""
    rows = []
    for router in corpus.trace.routers:
        for about, codes, level in (("syntax", corpus.tags, "token"), ("subject", corpus.field, "document")):
            found = measure_conditional_information(
                codes, corpus.tokens["token_id"].to_numpy(), corpus.trace.experts(router.name), corpus.documents,
                level=level, num_labels=int(codes.max()) + 1, num_experts=EXPERTS, permutations=permutations, seed=seed,
            )  # fmt: skip
            for quantity in ("conditional_information", "mutual_information"):
                rows.append(
                    _describe(getattr(found, quantity), about=about, quantity=quantity, layer=int(router.layer))
                )
    return pd.DataFrame(rows)


def measure_turns(corpus: Corpus) -> pd.DataFrame:
    """Test that syntax is stronger early and late and the subject in the middle, and correlate both over the layers.

    One half of the documents chooses three layers: that of the largest U of the subject, and those of the largest U of
    syntax before and after it. The other half gives the differences between them. The correlation is that of the two
    curves over all layers, with an interval over blocks of documents.
    """
    halves = np.arange(corpus.trace.num_documents) % 2
    tables = {
        (about, half): _stack_blocks(
            corpus, about, np.ones_like(halves, dtype=bool) if half is None else halves == half
        )
        for about in ("syntax", "subject")
        for half in (0, 1, None)
    }
    together = estimate_correlation(tables["syntax", None], tables["subject", None])
    rows = [_describe(together, about="correlation over layers")]
    for choosing in (0, 1):
        curves = {
            about: uncertainty_coefficient(tables[about, choosing].sum(axis=1)) for about in ("syntax", "subject")
        }
        peak = int(curves["subject"].argmax())
        early, late = int(curves["syntax"][:peak].argmax()), peak + 1 + int(curves["syntax"][peak + 1 :].argmax())
        for about in ("syntax", "subject"):
            values = [pseudo_values(table, uncertainty_coefficient) for table in tables[about, 1 - choosing]]
            for end in (early, late):
                found = estimate_difference(values[end], values[peak], unit="share of H(label)").difference
                rows.append(_describe(found, about=about, layer=end, compared_with=peak, measured_in_half=1 - choosing))
    return pd.DataFrame(rows)


def estimate_correlation(syntax: NDArray[np.float64], subject: NDArray[np.float64]) -> Estimate:
    """Estimate the correlation over layers of U of two labels.

    Args:
        syntax: counts of the one label, float64 [layer, block, label, expert].
        subject: counts of the other label in the same blocks.
    """

    def correlate(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
        return float(np.corrcoef(uncertainty_coefficient(first), uncertainty_coefficient(second))[0, 1])

    first, second, count = syntax.sum(axis=1), subject.sum(axis=1), syntax.shape[1]
    without = np.array([correlate(first - syntax[:, block], second - subject[:, block]) for block in range(count)])
    value, error = correct_bias(np.array(correlate(first, second)), without, axis=0)
    return make_estimates(value, error, unit="correlation", num_blocks=count, n_tokens=None, n_documents=None)[()]


def _stack_blocks(corpus: Corpus, about: str, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.stack([_blocks(corpus, router.name, about, chosen) for router in corpus.trace.routers])


def _blocks(corpus: Corpus, router: str, about: str, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Count label by expert in blocks of the chosen documents, float64 [block, label, expert].

    For the subject, each document has a mass of 1, however long it is.
    """
    labelled = np.flatnonzero(chosen & (corpus.field != NO_LABEL))
    blocks = np.full(len(chosen), NO_LABEL)
    blocks[labelled] = assign_blocks(labelled)
    kept = blocks[corpus.documents] >= 0
    experts, documents, num_blocks = corpus.trace.experts(router)[kept], corpus.documents[kept], int(blocks.max()) + 1
    if about == "syntax":
        return count_blocks(
            corpus.tags[kept], experts, blocks=blocks[documents],
            num_labels=len(corpus.names), num_experts=EXPERTS, num_blocks=num_blocks,
        )  # fmt: skip
    usage = count_blocks(
        np.zeros(len(documents), dtype=np.int32), experts, blocks=np.searchsorted(labelled, documents),
        num_labels=1, num_experts=EXPERTS, num_blocks=len(labelled),
    )  # fmt: skip
    tables = np.zeros((num_blocks, int(corpus.field.max()) + 1, EXPERTS))
    np.add.at(tables, (blocks[labelled], corpus.field[labelled]), usage[:, 0] / usage.sum(axis=(1, 2))[:, None])
    return tables


def _describe(found: Estimate, **about: Any) -> dict[str, Any]:
    named = ("value", "unit", "ci_low", "ci_high", "ci_kind", "null_mean", "p_value", "n_tokens", "n_documents")
    return about | {name: getattr(found, name) for name in named}


def study(data: Path, work: Path, *, permutations: int, seed: int) -> dict[str, pd.DataFrame]:
    """Import the recording, run the commands on it, write its report into the run folder, and return the tables."""
    run = work / "gpt-oss"
    import_routing(data, run)
    commands: dict[str, Callable[[], object]] = {
        "syntax": lambda: specialize.syntax(run, tags=RESULTS["syntax"], permutations=permutations, seed=seed),
        "topics": lambda: specialize.topics(run, labels=("field", "category"), permutations=permutations, seed=seed),
        "routing": lambda: specialize.routing(run, permutations=permutations, seed=seed),
    }
    for folder, command in commands.items():
        if not all((run / folder / f"{name}.csv").is_file() for name in RESULTS[folder]):
            command()
    specialize.report(run, run / "report")
    corpus = read_corpus(run)
    return {
        "layers": read_layers(run),
        "variants": measure_variants(corpus, permutations=permutations, seed=seed),
        "beyond_tokens": measure_beyond_tokens(corpus, permutations=permutations, seed=seed),
        "turns": measure_turns(corpus),
        "by_hand": compare_by_hand(corpus),
    }


def compare_by_hand(corpus: Corpus) -> pd.DataFrame:
    """Compute both curves with the package, and by a dozen lines of NumPy."""
    one, shares = np.ones(len(corpus.tags)), 1 / np.bincount(corpus.documents)[corpus.documents]
    rows = []
    for router in corpus.trace.routers:
        experts = corpus.trace.experts(router.name)
        for about, codes, of_tokens, mass in (
            ("syntax", corpus.tags, corpus.tags, one),
            ("subject", corpus.field, corpus.field[corpus.documents], shares),
        ):
            found = measure_layer(
                codes, experts, corpus.documents, level="token" if about == "syntax" else "document",
                num_labels=int(codes.max()) + 1, num_experts=EXPERTS, permutations=0,
            ).uncertainty_coefficient  # fmt: skip
            by_hand = explained_share(of_tokens, experts, corpus.documents, mass)
            rows.append({"about": about, "layer": int(router.layer), "value": found.value, "by_hand": by_hand})
    return pd.DataFrame(rows)


def read_layers(run: Path) -> pd.DataFrame:
    """Read what the commands found of each layer: U of every label set, what is left within one token id, routing."""
    frames = [read_results(run / folder, name) for folder, names in RESULTS.items() for name in names]
    rows = pd.concat(frames, ignore_index=True)
    rows = rows[rows["metric"].isin(PER_LAYER) & rows["layer"].notna() & rows["label"].isna() & rows["expert"].isna()]
    columns = ["label_set", "layer", "metric", "value", "unit", "ci_low", "ci_high", "ci_kind", "null_mean", "p_value"]
    return rows[columns].sort_values(["metric", "label_set", "layer"], kind="stable")

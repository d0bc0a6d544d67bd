"""Syntax and subject over the layers of gpt-oss-20b, and whether what is found holds under other choices.

Routing of 345 answers that the model wrote to examination questions: 24 layers, 32 experts, 4 of them for each token.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from analyses.real_models.by_hand import explained_share
from analyses.real_models.recording import EXPERTS, Corpus, describe, import_routing, read_corpus
from analyses.real_models.turns import measure_turns
from analyses.real_models.variants import measure_variants

import specialize
from specialize.measure import measure_conditional_information, measure_layer, read_results

RESULTS = {
    "syntax": ("upos", "tag", "class"),
    "topics": ("field", "category", "bertopic"),
    "routing": ("routing",),
}
PER_LAYER = (
    *("uncertainty_coefficient", "label_entropy", "conditional_information", "ambiguous_mutual_information"),
    *("load_variation", "load_peak", "load_entropy", "first_expert_repeats", "first_expert_repeats_chance"),
    *("any_expert_repeats", "any_expert_repeats_chance", "flow_uncertainty_coefficient", "next_layer_recall"),
    *("lru_hit_rate", "optimal_hit_rate", "segment_coverage", "same_token_overlap", "any_token_overlap"),
    *("signature_within", "signature_between", "common_committee_size"),
)


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
                rows.append(describe(getattr(found, quantity), about=about, quantity=quantity, layer=int(router.layer)))
    return pd.DataFrame(rows)


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
    whole = rows["label"].isna() | rows["label_set"].isin(["next_router", "cache_size"])  # these name what is predicted
    rows = rows[rows["metric"].isin(PER_LAYER) & rows["layer"].notna() & whole & rows["expert"].isna()]
    columns = ["label_set", "layer", "metric", "value", "unit", "ci_low", "ci_high", "ci_kind", "null_mean", "p_value"]
    return rows[columns].sort_values(["metric", "label_set", "layer"], kind="stable")

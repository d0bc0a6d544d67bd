"""Topics of corpora with gold labels, fitted in several configurations.

    python analyses/topics/compare.py -o FOLDER [--data FOLDER] [--dumps FOLDER] [--news FOLDER] [--packages FILE]

Writes `results/topics.csv`, one row per corpus, configuration and seed, and `results/means.csv`. All configurations are
fitted with the first seed, the default and the former one with both. Embeddings are kept in the output folder. Corpora
whose files are absent are left out.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from sklearn.metrics import normalized_mutual_info_score

sys.path.insert(0, str(Path(__file__).parents[2]))
from analyses.topics.corpora import Corpus, read_corpora

from specialize.annotators import topic_clusters, topics
from specialize.annotators.topics import annotate_topics

SEEDS = (0, 1)
FORMER = "former default"
DEFAULT = "default"


def configurations(corpus: Corpus) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return the arguments of `annotate_topics`, and the settings of the estimated number, by configuration."""
    number, gold = len(corpus.documents), corpus.documents["label"].nunique()
    former = {"clustering": "hdbscan", "min_topic_size": min(100, max(5, number // 200))}
    return {
        FORMER: (former, {}),
        DEFAULT: ({}, {}),
        "number at resolution 1": ({}, {"finest": 1.0}),
        "number up to resolution 2": ({}, {"finest": 2.0}),
        "graph of 30 neighbours": ({}, {"neighbours": 30}),
        "hdbscan, one in 100": ({"clustering": "hdbscan"}, {}),
        "hdbscan, BERTopic's size": ({"clustering": "hdbscan", "min_topic_size": 10}, {}),
        "pca": ({"reduction": "pca"}, {}),
        "gold number": ({"num_topics": gold}, {}),
        "gold number, no reduction": ({"num_topics": gold, "reduction": "none"}, {}),
        "former default, tfidf": (former | {"embedding": "tfidf"}, {}),
        "default, tfidf": ({"embedding": "tfidf"}, {}),
    }


class Remembered:
    """UMAP whose result is computed once for each seed and embedding, as configurations share it."""

    def __init__(self, seed: int, known: dict[Any, Any]) -> None:
        self._seed, self._known = seed, known

    def fit(self, embeddings: np.ndarray, y: object = None) -> "Remembered":
        del y
        key = (self._seed, embeddings.shape, float(embeddings.sum()))
        if key not in self._known:
            self._known[key] = topic_clusters.make_reducer("umap", self._seed).fit_transform(embeddings)
        self._reduced = self._known[key]
        return self

    def transform(self, embeddings: np.ndarray) -> np.ndarray:
        del embeddings
        return self._reduced


def measure(corpus: Corpus, name: str, seed: int, known: dict[Any, Any], cache: Path) -> dict[str, object]:
    """Fit one configuration and compare it with the gold labels; with the first seed, also with a fit of the second."""
    options, estimate = configurations(corpus)[name]

    def make_reducer(reduction: Any, seed: int) -> Any:
        return Remembered(seed, known) if reduction == "umap" else topic_clusters.make_reducer(reduction, seed)

    started = time.perf_counter()
    with (
        patch.object(topics, "make_reducer", make_reducer),
        patch.dict(topic_clusters.ESTIMATE, estimate),  # type: ignore[arg-type]
    ):
        model = annotate_topics(
            corpus.documents, seed=seed, stability_seeds=SEEDS[1:] if seed == SEEDS[0] else (), cache=cache, **options
        )
    gold, codes, inside = corpus.documents["label"].to_numpy(), model.annotation.codes, ~model.outliers
    quality = dict(zip(model.quality["quantity"], model.quality["value"], strict=True))
    return {
        "corpus": corpus.name,
        "role": corpus.role,
        "documents": len(gold),
        "gold_labels": len(set(gold)),
        "configuration": name,
        "seed": seed,
        "nmi": normalized_mutual_info_score(gold, codes),
        "nmi_without_outliers": normalized_mutual_info_score(gold[inside], codes[inside]),
        "ari_over_seeds": quality.get("ari_over_seeds", np.nan),
        "topics": int(quality["num_topics"]),
        "outlier_share": quality["outlier_share"],
        "seconds": time.perf_counter() - started,
    }


def average(table: pd.DataFrame) -> pd.DataFrame:
    """Return the means over the corpora that choose and over those that check, by configuration and seed."""
    columns = ["nmi", "nmi_without_outliers", "ari_over_seeds", "outlier_share"]
    groups = table.groupby(["role", "configuration", "seed"], sort=False)
    return groups[columns].mean().assign(corpora=groups.size()).reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the embeddings")
    parser.add_argument("--data", type=Path, help="folder with train_en.parquet and gold_pos_ewt.parquet")
    parser.add_argument("--dumps", type=Path, help="folder with gpt_oss_20b/documents.parquet")
    parser.add_argument("--news", type=Path, help="folder with a folder of text files for each label")
    parser.add_argument("--packages", type=Path, help="one of apt's lists of packages")
    parser.add_argument("--corpus", action="append", help="only this corpus; may be repeated")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    given.results.mkdir(exist_ok=True)
    rows = []
    for corpus in read_corpora(given.data, given.dumps, given.news, given.packages):
        if given.corpus and corpus.name not in given.corpus:
            continue
        known: dict[Any, Any] = {}
        fits = [(name, SEEDS[0]) for name in configurations(corpus)]
        for name, seed in fits + [(name, seed) for name in (FORMER, DEFAULT) for seed in SEEDS[1:]]:
            rows.append(measure(corpus, name, seed, known, given.output))
            print({key: round(value, 3) if isinstance(value, float) else value for key, value in rows[-1].items()})
            sys.stdout.flush()
        table = pd.DataFrame(rows).drop(columns="seconds")  # which differ from machine to machine
        table.to_csv(given.results / "topics.csv", index=False, float_format="%.4f")
        average(table).to_csv(given.results / "means.csv", index=False, float_format="%.4f")


if __name__ == "__main__":
    main()

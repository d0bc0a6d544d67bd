"""Topics of corpora with gold labels, fitted in several configurations.

    python analyses/topics/compare.py -o FOLDER [--data FOLDER] [--dumps FOLDER] [--news FOLDER] [--packages FILE]

Writes `results/topics.csv`, one row per corpus, configuration and seed, and `results/means.csv`. All configurations are
fitted with the first two seeds, the default and the former one with all. Embeddings are kept in the output folder.
Corpora whose files are absent are left out.
"""

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

sys.path.insert(0, str(Path(__file__).parents[2]))
from analyses.topics.corpora import Corpus, read_corpora

from specialize.annotators import topic_clusters, topics
from specialize.annotators.topics import TopicModel, annotate_topics

SEEDS = (0, 1, 2)
FORMER = "former default"
DEFAULT = "default"


@dataclass(frozen=True)
class Configuration:
    """How topics are fitted.

    Attributes:
        options: arguments of `annotate_topics`.
        estimate: settings of the estimated number of topics.
    """

    options: dict[str, Any] = field(default_factory=dict)
    estimate: dict[str, Any] = field(default_factory=dict)


def configurations(corpus: Corpus) -> dict[str, Configuration]:
    """Return the configurations by name."""
    number, gold = len(corpus.documents), corpus.documents["label"].nunique()
    former = {"clustering": "hdbscan", "min_topic_size": min(100, max(5, number // 200))}
    return {
        FORMER: Configuration(former),
        DEFAULT: Configuration(),
        "number at resolution 1": Configuration(estimate={"finest": 1.0}),
        "number up to resolution 2": Configuration(estimate={"finest": 2.0}),
        "graph of 30 neighbours": Configuration(estimate={"neighbours": 30}),
        "hdbscan, one in 100": Configuration({"clustering": "hdbscan"}),
        "hdbscan, BERTopic's size": Configuration({"clustering": "hdbscan", "min_topic_size": 10}),
        "pca": Configuration({"reduction": "pca"}),
        "gold number": Configuration({"num_topics": gold}),
        "gold number, no reduction": Configuration({"num_topics": gold, "reduction": "none"}),
        "former default, tfidf": Configuration(former | {"embedding": "tfidf"}),
        "default, tfidf": Configuration({"embedding": "tfidf"}),
    }


class Remembered:
    """UMAP whose result is computed once for each seed and embedding, as configurations share it."""

    def __init__(self, seed: int, known: dict[Any, Any]) -> None:
        self._seed, self._known = seed, known

    def fit(self, embeddings: np.ndarray, y: object = None) -> "Remembered":
        del y
        key = (self._seed, embeddings.shape, embeddings.tobytes())
        if key not in self._known:
            self._known[key] = topic_clusters.make_reducer("umap", self._seed).fit_transform(embeddings)
        self._reduced = self._known[key]
        return self

    def transform(self, embeddings: np.ndarray) -> np.ndarray:
        del embeddings
        return self._reduced


def fit(corpus: Corpus, chosen: Configuration, seed: int, known: dict[Any, Any], cache: Path) -> TopicModel:
    """Fit the topics of a corpus in one configuration."""

    def make_reducer(reduction: Any, seed: int) -> Any:
        return Remembered(seed, known) if reduction == "umap" else topic_clusters.make_reducer(reduction, seed)

    with (
        patch.object(topics, "make_reducer", make_reducer),
        patch.dict(topic_clusters.ESTIMATE, chosen.estimate),  # type: ignore[arg-type]
    ):
        return annotate_topics(corpus.documents, seed=seed, stability_seeds=(), cache=cache, **chosen.options)


def measure(corpus: Corpus, name: str, known: dict[Any, Any], cache: Path) -> list[dict[str, object]]:
    """Fit one configuration with each of its seeds; compare each fit with the gold labels and with the other fits."""
    seeds = SEEDS if name in (FORMER, DEFAULT) else SEEDS[:2]
    started = time.perf_counter()
    fits = [fit(corpus, configurations(corpus)[name], seed, known, cache) for seed in seeds]
    print(corpus.name, name, f"{(time.perf_counter() - started) / len(seeds):.0f} seconds a fit")
    gold = corpus.documents["label"].to_numpy()
    rows: list[dict[str, object]] = []
    for seed, model in zip(seeds, fits, strict=True):
        codes, inside = model.annotation.codes, ~model.outliers
        others = [other.annotation.codes for other in fits if other is not model]
        rows.append(
            {
                "corpus": corpus.name,
                "role": corpus.role,
                "documents": len(gold),
                "gold_labels": len(set(gold)),
                "configuration": name,
                "seed": seed,
                "nmi": normalized_mutual_info_score(gold, codes),
                "nmi_without_outliers": normalized_mutual_info_score(gold[inside], codes[inside]),
                "ari_over_seeds": np.mean([adjusted_rand_score(codes, other) for other in others]),
                "topics": int(codes.max()) + 1,
                "outlier_share": model.outliers.mean(),
            }
        )
    return rows


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
    rows: list[dict[str, object]] = []
    for corpus in read_corpora(given.data, given.dumps, given.news, given.packages):
        if given.corpus and corpus.name not in given.corpus:
            continue
        known: dict[Any, Any] = {}
        for name in configurations(corpus):
            rows += measure(corpus, name, known, given.output)
            print(pd.DataFrame(rows[-len(SEEDS) :]).query("configuration == @name").iloc[:, 5:].to_string(index=False))
            sys.stdout.flush()
        table = pd.DataFrame(rows)
        table.to_csv(given.results / "topics.csv", index=False, float_format="%.4f")
        average(table).to_csv(given.results / "means.csv", index=False, float_format="%.4f")


if __name__ == "__main__":
    main()

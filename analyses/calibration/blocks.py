"""What the assignment of documents to blocks costs: coverage and width of 95 % intervals, by design and choice.

python analyses/calibration/blocks.py    # about three minutes on one core
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from planted import PlantedRouting, plant_channel, plant_document_labels
from specialize.measure import label_entropy, measure_layer

DATA_SETS = 1000
DOCUMENTS, BLOCKS = 400, 50
BOOK = 4  # documents of a book
TOKENS = 20  # of a document
RESULTS = Path(__file__).parent / "results" / "blocks.csv"
WORDS = np.array([0.35, 0.25, 0.2, 0.12, 0.08])
TOPICS = np.full(4, 0.25)


@dataclass(frozen=True)
class Corpus:
    """A planted corpus, the book of each document, and the true information."""

    planted: PlantedRouting
    level: str
    books: NDArray[np.int64]


def channel(num_labels: int, num_experts: int, share: float) -> NDArray[np.float64]:
    """Return P(expert | label): a share goes to an expert of the label's own, the rest to all alike."""
    own = np.eye(num_experts)[:num_labels]
    return share * own + (1 - share) / num_experts


def plant(level: str, order: str, seed: int) -> Corpus:
    """Plant a corpus of words or topics: independent documents, or books of neighbouring documents with one mix."""
    related = order == "books"
    units, length = (DOCUMENTS // BOOK, BOOK * TOKENS) if related else (DOCUMENTS, TOKENS)
    if level == "token":
        planted = plant_channel(
            WORDS, channel(5, 8, 0.5), num_documents=units, tokens_per_document=length, concentration=10, seed=seed
        )
        codes = planted.codes
    else:
        planted = plant_document_labels(
            TOPICS, channel(4, 8, 0.5), num_documents=units, tokens_per_document=length, concentration=5, seed=seed
        )
        codes = np.repeat(planted.codes, DOCUMENTS // units)
    experts = planted.experts.reshape(DOCUMENTS, TOKENS, -1)
    if order == "sorted":
        by_label = np.argsort(codes, kind="stable")
        codes, experts = codes[by_label], experts[by_label]
    planted = PlantedRouting(
        codes=codes,
        experts=experts.reshape(DOCUMENTS * TOKENS, -1),
        documents=np.repeat(np.arange(DOCUMENTS, dtype=np.int32), TOKENS),
        num_labels=planted.num_labels,
        num_experts=planted.num_experts,
        information=planted.information,
    )
    return Corpus(planted, level, np.arange(DOCUMENTS) // BOOK)


CHOICES = {
    "consecutive documents": lambda corpus: np.arange(DOCUMENTS) // (DOCUMENTS // BLOCKS),
    "documents at random": lambda corpus: None,
    "books at random": lambda corpus: corpus.books,
}


def measure(level: str, order: str, data_sets: int) -> Iterator[dict[str, object]]:
    """Measure planted corpora with each choice of blocks."""
    for seed in range(data_sets):
        corpus = plant(level, order, seed)
        planted = corpus.planted
        for choice, groups in CHOICES.items():
            measured = measure_layer(
                planted.codes,
                planted.experts,
                planted.documents,
                level=corpus.level,
                num_labels=planted.num_labels,
                num_experts=planted.num_experts,
                groups=groups(corpus),
                permutations=0,
                num_blocks=BLOCKS,
            )
            estimate = measured.uncertainty_coefficient
            truth = planted.information / label_entropy((WORDS if level == "token" else TOPICS)[:, None])
            yield {
                "labels": "of tokens" if level == "token" else "of documents",
                "corpus": order,
                "blocks": choice,
                "covered": estimate.ci_low <= truth <= estimate.ci_high,
                "width": estimate.ci_high - estimate.ci_low,
                "bias": estimate.value - truth,
            }


def tabulate(rows: pd.DataFrame) -> pd.DataFrame:
    """Return coverage with its Monte Carlo error, mean width and bias of U, by design and choice."""
    keys = ["labels", "corpus", "blocks"]
    table = rows.groupby(keys, sort=False).agg(
        data_sets=("covered", "size"), coverage=("covered", "mean"), width=("width", "mean"), bias=("bias", "mean")
    )
    table["error"] = np.sqrt(table["coverage"] * (1 - table["coverage"]) / table["data_sets"])
    return table.reset_index()[[*keys, "data_sets", "coverage", "error", "width", "bias"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-sets", type=int, default=DATA_SETS, help=f"of each design (default: {DATA_SETS})")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    designs = [("token", "independent"), ("token", "books")]
    designs += [("document", order) for order in ("independent", "sorted", "books")]
    rows = [row for level, order in designs for row in measure(level, order, options.data_sets)]
    table = tabulate(pd.DataFrame(rows))
    table.to_csv(options.output, index=False, float_format="%.4f")
    print(table.to_string(index=False, float_format="%.4f"))


if __name__ == "__main__":
    main()

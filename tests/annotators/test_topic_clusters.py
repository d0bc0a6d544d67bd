"""The number of topics, and the smallest one."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from specialize.annotators.topic_clusters import ESTIMATE, EstimatedKMeans, candidate_numbers
from specialize.annotators.topic_settings import default_topic_size

pytest.importorskip("networkx")


def plant_topics(sizes, *, dimensions=30, spread=0.12, seed=0):
    """Unit vectors around as many directions as there are sizes, and the direction of each, in random order."""
    draw = np.random.default_rng(seed)
    topics = draw.permutation(np.repeat(np.arange(len(sizes)), sizes))
    directions = np.linalg.qr(draw.normal(size=(dimensions, dimensions)))[0][: len(sizes)]
    vectors = directions[topics] + draw.normal(scale=spread, size=(len(topics), dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), topics


@pytest.mark.parametrize("sizes", [[60, 40, 30], [40, 35, 30, 30, 25, 20], [20] * 12])
def test_the_number_of_planted_topics_is_found(sizes):
    vectors, topics = plant_topics(sizes)
    labels = EstimatedKMeans(vectors, size=5, seed=0).fit(vectors).labels_
    assert len(np.unique(labels)) == len(sizes)
    assert adjusted_rand_score(topics, labels) > 0.98


def test_topics_below_the_smallest_size_join_the_nearest():
    vectors, topics = plant_topics([60, 50, 40, 4])
    small = topics == 3
    vectors[small] = vectors[small] + 1.5 * vectors[topics == 2].mean(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    clusters = EstimatedKMeans(vectors, size=8, seed=0).fit(vectors)
    counts = np.bincount(clusters.labels_)
    assert counts.sum() == len(vectors)
    assert counts.min() >= 8
    [joined] = np.unique(clusters.labels_[small])
    assert joined == np.bincount(clusters.labels_[topics == 2]).argmax()
    np.testing.assert_array_equal(clusters.predict(vectors[topics == 0]), clusters.labels_[topics == 0])


def test_no_number_leaves_topics_below_the_smallest_size_on_average():
    vectors, _ = plant_topics([10] * 12)
    assert max(candidate_numbers(vectors, size=5, seed=0)) <= 24
    assert candidate_numbers(vectors, size=60, seed=0) == [2]


def test_large_corpora_are_sampled(monkeypatch):
    vectors, _ = plant_topics([60] * 6)
    monkeypatch.setattr("specialize.annotators.topic_clusters._DOCUMENTS_IN_GRAPH", 120)
    drawn = candidate_numbers(vectors, size=5, seed=0)
    assert drawn[0] <= 6 <= drawn[-1]
    assert drawn == candidate_numbers(vectors, size=5, seed=0)


@pytest.mark.parametrize(("documents", "size"), [(30, 5), (499, 5), (2400, 24), (100_000, 1000)])
def test_the_smallest_topic_grows_with_the_corpus(documents, size):
    assert default_topic_size(documents) == size


PRINT_NUMBERS = """
import numpy as np
from specialize.annotators.topic_clusters import EstimatedKMeans
vectors = np.load(sys.argv[1])
print(EstimatedKMeans(vectors, size=5, seed=3).fit(vectors).labels_.tolist())
"""


def test_another_process_finds_the_same(tmp_path):
    vectors, _ = plant_topics([30, 30, 20, 20], spread=0.3)
    np.save(tmp_path / "vectors.npy", vectors)
    command = [sys.executable, "-c", "import sys" + PRINT_NUMBERS, str(tmp_path / "vectors.npy")]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert found.strip() == str(EstimatedKMeans(vectors, size=5, seed=3).fit(vectors).labels_.tolist())
    assert ESTIMATE["coarsest"] <= ESTIMATE["finest"]

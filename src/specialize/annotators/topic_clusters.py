"""How embeddings of documents are reduced and clustered, and how many topics there are where the number is not set."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.choices import Clustering, Reduction
from specialize.errors import AnnotationError

# How the number of topics is estimated; chosen in analyses/topics on corpora other than the demo's.
ESTIMATE = {"neighbours": 15, "coarsest": 1.0, "finest": 3.0, "candidates": 8}

_DOCUMENTS_IN_GRAPH = 5000  # beyond it, a sample gives the range of the number
_DOCUMENTS_IN_SILHOUETTE = 2000
_STARTS = 10  # of k-means


class EstimatedKMeans:
    """K-means whose number of clusters is estimated.

    The number lies between those of the communities that the Louvain method finds in the graph of nearest neighbours at
    resolution 1 and at resolution 3 (Blondel et al. 2008; resolution: Reichardt & Bornholdt 2006). Of up to eight
    numbers in this range, on a logarithmic scale, that with the highest mean silhouette (Rousseeuw 1987) of the reduced
    embeddings is taken. Clusters below the smallest size are then dissolved: their members join the nearest other one.

    Args:
        embeddings: float32 [documents, d], rows of length 1, of which the graph is made (cosine similarity).
        size: fewest documents of a cluster.
        seed: random seed of the communities, k-means and samples.

    Attributes:
        labels_: int [documents], the cluster of each document once it is fitted.
    """

    def __init__(self, embeddings: NDArray[np.float32], *, size: int, seed: int) -> None:
        self._embeddings = embeddings
        self._size = size
        self._seed = seed

    def fit(self, reduced: NDArray[np.float32], y: object = None) -> "EstimatedKMeans":
        """Cluster reduced embeddings, float32 [documents, dimensions], in the order of the embeddings."""
        del y
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.metrics import silhouette_score

        best = -np.inf
        self._centers = reduced.mean(axis=0, keepdims=True)
        self.labels_ = np.zeros(len(reduced), dtype=np.int64)
        for number in candidate_numbers(self._embeddings, size=self._size, seed=self._seed):
            with warnings.catch_warnings():  # documents that are alike may leave fewer clusters
                warnings.simplefilter("ignore", ConvergenceWarning)
                fitted = KMeans(number, random_state=self._seed, n_init=_STARTS).fit(reduced)
            shown = min(len(reduced), _DOCUMENTS_IN_SILHOUETTE)
            value = silhouette_score(reduced, fitted.labels_, sample_size=shown, random_state=self._seed)
            if value > best:
                best, self._centers, self.labels_ = value, fitted.cluster_centers_, fitted.labels_
        self._dissolve(reduced)
        return self

    def predict(self, reduced: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the cluster with the nearest mean for each row."""
        from sklearn.metrics import pairwise_distances_argmin

        nearest: NDArray[np.int64] = pairwise_distances_argmin(reduced, self._centers)  # a part in memory at a time
        return nearest

    def _dissolve(self, reduced: NDArray[np.float32]) -> None:
        """Dissolve clusters below the smallest size, the smallest first, as long as two are left."""
        while len(self._centers) > 2:
            counts = np.bincount(self.labels_, minlength=len(self._centers))
            smallest = int(counts.argmin())
            if counts[smallest] >= self._size:
                return
            members = self.labels_ == smallest
            self._centers = np.delete(self._centers, smallest, axis=0)
            self.labels_ = self.labels_ - (self.labels_ > smallest)
            self.labels_[members] = self.predict(reduced[members])


def candidate_numbers(embeddings: NDArray[np.float32], *, size: int, seed: int) -> list[int]:
    """Return the numbers of topics among which one is chosen, in ascending order; see `EstimatedKMeans`."""
    if len(embeddings) > _DOCUMENTS_IN_GRAPH:
        drawn = np.random.default_rng(seed).choice(len(embeddings), _DOCUMENTS_IN_GRAPH, replace=False)
        embeddings = embeddings[np.sort(drawn)]
    bounds = _count_communities(embeddings, (ESTIMATE["coarsest"], ESTIMATE["finest"]), seed=seed)
    most = max(2, len(embeddings) // size)
    lowest, highest = (min(max(2, bound), most) for bound in bounds)
    spaced = np.geomspace(lowest, max(lowest, highest), int(ESTIMATE["candidates"]))
    return sorted({int(number) for number in spaced.round()})


def _count_communities(embeddings: NDArray[np.float32], resolutions: tuple[float, ...], *, seed: int) -> list[int]:
    """Return the number of Louvain communities in the graph of nearest neighbours at each resolution.

    An edge weighs 2 where each of its ends is among the nearest neighbours of the other, else 1.
    """
    import networkx
    from scipy.sparse import triu
    from sklearn.neighbors import kneighbors_graph

    neighbours = min(int(ESTIMATE["neighbours"]), len(embeddings) - 1)
    nearest = kneighbors_graph(embeddings, neighbours, metric="cosine")
    edges = triu(nearest + nearest.T, k=1).tocoo()
    graph = networkx.Graph()
    graph.add_nodes_from(range(len(embeddings)))
    graph.add_weighted_edges_from(zip(edges.row.tolist(), edges.col.tolist(), edges.data.tolist(), strict=True))
    find = networkx.community.louvain_communities
    return [len(find(graph, resolution=resolution, seed=seed)) for resolution in resolutions]


def make_reducer(reduction: Reduction, seed: int) -> Any:
    """Return what reduces embeddings to 5 dimensions, with the methods that BERTopic needs.

    Raises:
        AnnotationError: BERTopic or a package that it needs is not installed.
    """
    if reduction == "pca":
        from sklearn.decomposition import PCA

        return PCA(n_components=5, random_state=seed)
    need_topic_libraries()
    if reduction == "none":
        from bertopic.dimensionality import BaseDimensionalityReduction

        return BaseDimensionalityReduction()
    from umap import UMAP

    return UMAP(n_neighbors=15, n_components=5, min_dist=0.0, metric="cosine", random_state=seed, n_jobs=1)


def make_clusters(
    clustering: Clustering, embeddings: NDArray[np.float32], *, size: int, num_topics: int | None, seed: int
) -> Any:
    """Return what clusters reduced embeddings, with the methods that BERTopic needs.

    Args:
        clustering: kmeans or hdbscan.
        embeddings: float32 [documents, d], rows of length 1, from which k-means estimates an unknown number.
        size: fewest documents of a topic; not used by k-means where the number is set.
        num_topics: the number of topics of k-means.
        seed: random seed of k-means.

    Raises:
        AnnotationError: BERTopic or a package that it needs is not installed.
    """
    need_topic_libraries()
    if clustering == "kmeans" and num_topics is None:
        return EstimatedKMeans(embeddings, size=size, seed=seed)
    if clustering == "kmeans":
        from sklearn.cluster import KMeans

        return KMeans(n_clusters=num_topics, random_state=seed, n_init=_STARTS)
    from hdbscan import HDBSCAN

    return HDBSCAN(min_cluster_size=size, core_dist_n_jobs=1)


def need_topic_libraries() -> None:
    """Raise AnnotationError unless BERTopic and what it needs are installed."""
    try:
        import bertopic  # noqa: F401 (whether it is installed)
        import hdbscan  # noqa: F401
        import networkx  # noqa: F401
        import umap  # noqa: F401
    except ImportError as error:
        raise AnnotationError(
            f"topics need BERTopic, UMAP, HDBSCAN and NetworkX, {error.name} is not installed; "
            "pip install 'specialize[topics]'"
        ) from None

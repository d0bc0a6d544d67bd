"""Topics of documents, fitted with BERTopic, and how far they can be trusted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from specialize.annotation import NO_LABEL, Annotation
from specialize.annotators.columns import annotate_column, label_columns, read_texts
from specialize.annotators.embedding import embed_texts
from specialize.annotators.language import read_languages, stop_words
from specialize.annotators.quiet import quiet_topic_libraries
from specialize.choices import Clustering, Outliers, Reduction
from specialize.errors import AnnotationError

if TYPE_CHECKING:
    from bertopic import BERTopic

FEWEST_DOCUMENTS = 30
_WORDS_IN_LABEL = 3
_EXAMPLE_CHARACTERS = 200


@dataclass(frozen=True)
class TopicModel:
    """Fitted topics.

    Attributes:
        annotation: `bertopic`, one code a document; outliers that are kept carry `NO_LABEL`. Labels read
            `"3: river, lake, water"`: the topic's number (by size, from 0) and its leading words.
        outliers: bool [documents], those that clustering left in no topic.
        info: one row a topic: topic (int), size (documents that clustering put there), assigned (outliers nearest to
            it, if they are assigned), top_words (ten, by class-based TF-IDF of the former), example (start of the
            document nearest to the topic's mean embedding).
        centroids: mean embedding of each topic's documents, float32 [topics, d], rows of length 1.
        quality: columns quantity and value. `num_documents`, `num_topics`; `outlier_share`, and `unlabelled_share`,
            what of it stays without a topic; `ari_over_seeds`, mean adjusted Rand index against refits with other
            seeds, documents in no topic taken as one more cluster, and `ari_over_seeds_without_outliers` over the
            documents that are outliers in neither; `nmi_COLUMN` for each label column of the corpus, mutual
            information divided by the arithmetic mean of the two entropies, and `nmi_COLUMN_without_outliers`.
    """

    annotation: Annotation
    outliers: NDArray[np.bool_]
    info: pd.DataFrame
    quality: pd.DataFrame
    centroids: NDArray[np.float32]


def annotate_topics(
    documents: pd.DataFrame,
    *,
    embedding: str | Path | None = None,
    num_topics: int | None = None,
    min_topic_size: int | None = None,
    reduction: Reduction = "umap",
    clustering: Clustering = "hdbscan",
    outliers: Outliers = "nearest",
    language: str | None = None,
    seed: int = 0,
    stability_seeds: Sequence[int] = (1,),
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TopicModel:
    """Fit topics: embeddings, fewer dimensions, clusters, class-based TF-IDF (BERTopic, Grootendorst 2022).

    The same arguments give the same topics on the same machine and versions.

    Args:
        documents: one row a document with the column text, as `RoutingTrace.documents()` returns it; its
            label columns serve to judge the topics, never to fit them.
        embedding: name or path of a sentence-transformers model, or `"tfidf"`; default: the packaged
            all-MiniLM-L6-v2 if it is installed, else `"tfidf"` (see `embed_texts`).
        num_topics: merge topics until so many are left; default: as many as are found.
        min_topic_size: fewest documents in a topic; default: one document in 200, but at least 5 and at
            most 100.
        reduction: umap, to 5 dimensions; pca, to 5; or none, to cluster the embeddings themselves.
        clustering: hdbscan, which finds the number of topics and leaves outliers; or kmeans, which has neither and
            needs `num_topics`.
        outliers: nearest, to give a document that hdbscan leaves in no topic the one whose mean embedding is nearest
            by cosine, as new documents get theirs; or keep, to leave it without. Specialization over the clear
            documents alone is that of an easier corpus.
        language: code of the texts' language, whose stop words are kept out of the topics' words; by default the
            column lang or language tells, else they are English.
        seed: of UMAP, PCA and k-means.
        stability_seeds: further seeds to refit with, for `ari_over_seeds`; may be empty.
        cache: folder that keeps the embeddings.
        progress: called with (done, in all), in documents: each is embedded once and clustered once a seed.

    Raises:
        AnnotationError: BERTopic or the model is missing, there are fewer than 30 documents, or fewer than
            two topics were found, or documents have no text.
    """
    texts = read_texts(documents)
    if len(texts) < FEWEST_DOCUMENTS:
        raise AnnotationError(
            f"expected at least {FEWEST_DOCUMENTS} documents to fit topics, got {len(texts)}; use a larger corpus"
        )
    if num_topics is not None and num_topics < 2:
        raise AnnotationError(f"expected a number of topics of at least 2, got {num_topics}")
    if min_topic_size is not None and min_topic_size < 2:
        raise AnnotationError(f"expected a smallest topic of at least 2 documents, got {min_topic_size}")
    for name, given, kinds in (
        ("reduction", reduction, Reduction),
        ("clustering", clustering, Clustering),
        ("outliers", outliers, Outliers),
    ):
        if given not in get_args(kinds):
            raise AnnotationError(f"expected the {name} {', '.join(get_args(kinds))}, got {given!r}")
    if clustering == "kmeans" and num_topics is None:
        raise AnnotationError("k-means needs to be told how many topics to find: give num_topics")
    languages = sorted({code or "en" for code in read_languages(documents, language)})
    size = min_topic_size or min(100, max(5, len(texts) // 200))
    steps = len(texts) * (2 + len(stability_seeds))

    def report(done: int) -> None:
        if progress is not None:
            progress(done, steps)

    with quiet_topic_libraries():
        embeddings, embedding_name = embed_texts(texts, embedding=embedding, seed=seed, cache=cache, progress=report)
        codes = []
        for fits, fit_seed in enumerate((seed, *stability_seeds)):
            clusters = _make_clusters(clustering, size=size, num_topics=num_topics, seed=fit_seed)
            reducer = _make_reducer(reduction, fit_seed)
            fitted = _fit(texts, embeddings, reducer, clusters, num_topics=num_topics, languages=languages)
            codes.append(np.asarray(fitted.topics_, dtype=np.int32))
            if fits == 0:
                model = fitted
            report(len(texts) * (2 + fits))
    found = int(codes[0].max()) + 1
    if found < 2:
        raise AnnotationError(
            f"expected at least two topics in {len(texts)} documents, found {found}; "
            f"lower min_topic_size (now {size}), or use more varied documents"
        )
    info = _describe_topics(model, texts, embeddings, codes[0])
    labels = tuple(
        f"{topic}: {', '.join(words.split(', ')[:_WORDS_IN_LABEL])}"
        for topic, words in zip(info["topic"], info["top_words"], strict=True)
    )
    provenance: dict[str, Any] = {
        "tool": "bertopic",
        **{package: version(package) for package in ("bertopic", "umap-learn", "hdbscan", "scikit-learn")},
        "embedding": embedding_name,
        "reduction": reduction,
        "clustering": clustering,
        "min_topic_size": size,
        "num_topics": num_topics,
        "outliers": outliers,
        "language": ",".join(languages),
        "seed": seed,
        "stability_seeds": list(stability_seeds),
    }
    centroids = _centroids(embeddings, codes[0])
    lost = [fit == NO_LABEL for fit in codes]
    if outliers == "nearest":
        codes = [_assign_outliers(fit, embeddings) for fit in codes]
        info.insert(2, "assigned", np.bincount(codes[0][lost[0]], minlength=found))
    else:
        info.insert(2, "assigned", 0)
    annotation = Annotation("bertopic", "document", labels, codes[0], provenance)
    return TopicModel(annotation, lost[0], info, _judge(documents, codes, lost), centroids)


def _centroids(embeddings: NDArray[np.float32], codes: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the mean embedding of each topic's documents, [topics, d], rows of length 1."""
    means = np.stack([embeddings[codes == topic].mean(axis=0) for topic in range(codes.max() + 1)])
    return (means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def _assign_outliers(codes: NDArray[np.int32], embeddings: NDArray[np.float32]) -> NDArray[np.int32]:
    """Give each document without a topic the nearest one; a fit that found no topic stays as it is."""
    if codes.max() == NO_LABEL:
        return codes
    lost = codes == NO_LABEL
    assigned = codes.copy()
    assigned[lost] = np.argmax(embeddings[lost] @ _centroids(embeddings, codes).T, axis=1)
    return assigned


def _make_reducer(reduction: Reduction, seed: int) -> Any:
    if reduction == "pca":
        from sklearn.decomposition import PCA

        return PCA(n_components=5, random_state=seed)
    _need_topic_libraries()
    if reduction == "none":
        from bertopic.dimensionality import BaseDimensionalityReduction

        return BaseDimensionalityReduction()
    from umap import UMAP

    return UMAP(n_neighbors=15, n_components=5, min_dist=0.0, metric="cosine", random_state=seed, n_jobs=1)


def _make_clusters(clustering: Clustering, *, size: int, num_topics: int | None, seed: int) -> Any:
    _need_topic_libraries()
    if clustering == "kmeans":
        from sklearn.cluster import KMeans

        return KMeans(n_clusters=num_topics, random_state=seed, n_init=10)
    from hdbscan import HDBSCAN

    return HDBSCAN(min_cluster_size=size, core_dist_n_jobs=1)


def _need_topic_libraries() -> None:
    try:
        import bertopic  # noqa: F401 (only whether it is there)
        import hdbscan  # noqa: F401
        import umap  # noqa: F401
    except ImportError as error:
        raise AnnotationError(
            f"topics need BERTopic, UMAP and HDBSCAN, {error.name} is not installed; pip install 'specialize[topics]'"
        ) from None


def _fit(
    texts: list[str],
    embeddings: NDArray[np.float32],
    reducer: Any,
    clusters: Any,
    *,
    num_topics: int | None,
    languages: Sequence[str],
) -> "BERTopic":
    from bertopic import BERTopic
    from sklearn.feature_extraction.text import CountVectorizer

    model = BERTopic(
        language="multilingual",  # of its English it drops every character beyond ASCII
        umap_model=reducer,
        hdbscan_model=clusters,
        vectorizer_model=CountVectorizer(stop_words=stop_words(languages) or None),
    )
    try:
        model.fit(texts, embeddings)
        topics = np.asarray(model.topics_)
        if num_topics is not None and topics.max() + 1 > num_topics:
            has_outliers = int(topics.min() == NO_LABEL)  # BERTopic counts them as a topic
            model.reduce_topics(texts, nr_topics=num_topics + has_outliers)
    except ValueError as error:
        raise AnnotationError(
            f"BERTopic could not fit {len(texts)} documents ({error}); they may hold too few words"
        ) from None
    return model


def _describe_topics(
    model: "BERTopic", texts: list[str], embeddings: NDArray[np.float32], codes: NDArray[np.int32]
) -> pd.DataFrame:
    rows = []
    for topic in range(codes.max() + 1):
        members = np.flatnonzero(codes == topic)
        nearest = members[np.argmax(embeddings[members] @ embeddings[members].mean(axis=0))]
        words = [word for word, _ in model.get_topic(topic) if word]
        example = " ".join(texts[nearest].split())[:_EXAMPLE_CHARACTERS]
        rows.append((topic, len(members), ", ".join(words), example))
    return pd.DataFrame(rows, columns=["topic", "size", "top_words", "example"])


def _judge(
    documents: pd.DataFrame, fits: Sequence[NDArray[np.int32]], lost: Sequence[NDArray[np.bool_]]
) -> pd.DataFrame:
    """Judge the first of several fits, `lost` the outliers of each."""
    codes, inside = fits[0], ~lost[0]
    rows: list[tuple[str, float]] = [
        ("num_documents", len(codes)),
        ("num_topics", codes.max() + 1),
        ("outlier_share", 1 - inside.mean()),
        ("unlabelled_share", (codes == NO_LABEL).mean()),
    ]
    if len(fits) > 1:
        both = [inside & ~outliers for outliers in lost[1:]]
        kept = [adjusted_rand_score(codes[b], refit[b]) for b, refit in zip(both, fits[1:], strict=True)]
        rows.append(("ari_over_seeds", np.mean([adjusted_rand_score(codes, refit) for refit in fits[1:]])))
        rows.append(("ari_over_seeds_without_outliers", np.mean(kept)))
    for column in label_columns(documents):
        known = annotate_column(documents, column).codes
        for suffix, chosen in (("", known != NO_LABEL), ("_without_outliers", (known != NO_LABEL) & inside)):
            value = normalized_mutual_info_score(known[chosen], codes[chosen])
            rows.append((f"nmi_{column}{suffix}", value))
    return pd.DataFrame(rows, columns=["quantity", "value"]).astype({"value": float})

"""Topics of documents, fitted with BERTopic, and measures of their quality."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from specialize.annotation import NO_LABEL, Annotation
from specialize.annotators.columns import annotate_column, label_columns, read_texts
from specialize.annotators.embedding import embed_texts
from specialize.annotators.language import stop_words
from specialize.annotators.language_detection import Languages
from specialize.annotators.topic_clusters import ESTIMATE, make_clusters, make_reducer
from specialize.annotators.topic_settings import check_topic_settings, default_topic_size, list_languages
from specialize.choices import Clustering, Outliers, Reduction
from specialize.engine import LOCAL, Engine
from specialize.errors import AnnotationError, first_line
from specialize.events import Progress
from specialize.quiet import quiet_topic_libraries

if TYPE_CHECKING:
    from bertopic import BERTopic

FEWEST_DOCUMENTS = 30
_PACKAGES = ("bertopic", "umap-learn", "hdbscan", "networkx", "scikit-learn")
_WORDS_IN_LABEL = 3
_EXAMPLE_CHARACTERS = 200


@dataclass(frozen=True)
class TopicModel:
    """Fitted topics.

    Attributes:
        annotation: `bertopic`, codes int32 [documents]; outliers that are kept carry `NO_LABEL`. A label such as
            `"3: river, lake, water"` has the number of the topic (by size, from 0) and its leading words.
        outliers: bool [documents], those that the clustering assigned to no topic.
        info: one row per topic: topic (int), size (documents that the clustering assigned to it), assigned (outliers
            assigned to it as the nearest topic), top_words (ten, by class-based TF-IDF of the clustered documents),
            example (start of the document nearest to the mean embedding of the topic).
        centroids: mean embedding of the documents of each topic, float32 [topics, d], rows of length 1.
        quality: columns quantity and value. `num_documents`, `num_topics`; `outlier_share`; `unlabelled_share`, the
            share of documents without a topic after outliers are assigned; `ari_over_seeds`, mean adjusted Rand index
            against refits with other seeds, where documents without a topic are one more cluster, and
            `ari_over_seeds_without_outliers`, over the documents that are outliers in neither fit; `nmi_COLUMN` for
            each label column of the corpus, mutual information divided by the arithmetic mean of the two entropies,
            and `nmi_COLUMN_without_outliers`.
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
    clustering: Clustering = "kmeans",
    outliers: Outliers = "nearest",
    language: str | Languages | None = None,
    seed: int = 0,
    stability_seeds: Sequence[int] = (1,),
    cache: str | Path | None = None,
    engine: Engine = LOCAL,
    progress: Progress | None = None,
) -> TopicModel:
    """Fit topics: embedding, dimensionality reduction, clustering, class-based TF-IDF (BERTopic, Grootendorst 2022).

    The same arguments give the same topics on the same machine with the same versions.

    Args:
        documents: one row per document with the column text, as returned by `RoutingTrace.documents()`. Its label
            columns are used to assess the topics, not to fit them.
        embedding: name or path of a sentence-transformers model, or `"tfidf"`; default: the packaged
            all-MiniLM-L6-v2 if it is installed, else `"tfidf"` (see `embed_texts`).
        num_topics: number of topics of kmeans, by default estimated (see `EstimatedKMeans`); with hdbscan, the number
            to which those found are merged, by default none are.
        min_topic_size: minimum number of documents in a topic; default: one document in 100, but at least 5. It is not
            used where kmeans has the number of topics.
        reduction: umap or pca, both to 5 dimensions, or none, to cluster the embeddings themselves.
        clustering: kmeans, which leaves no outliers; or hdbscan, which does, and finds many small topics.
        outliers: nearest, to assign a document that hdbscan leaves in no topic to the topic whose mean embedding has
            the highest cosine similarity, as new documents are assigned; or keep, to leave it without a topic, in
            which case specialization is measured on the documents that are easy to cluster only.
        language: language code of the texts, whose stop words are excluded from the words of topics; or what
            `find_languages` returned; by default that in the column lang or language, else detected.
        seed: random seed of UMAP, PCA and k-means.
        stability_seeds: further seeds to refit with, for `ari_over_seeds`; may be empty.
        cache: folder in which embeddings are kept.
        engine: embeds chunks of texts.
        progress: called with (done, in all) in documents, each of which is embedded once and clustered once per seed.

    Raises:
        AnnotationError: an option has an invalid value, BERTopic or the embedding model is missing, there are fewer
            than 30 documents, documents have no text, or fewer than two topics are found.
    """
    texts = read_texts(documents)
    if len(texts) < FEWEST_DOCUMENTS:
        raise AnnotationError(
            f"expected at least {FEWEST_DOCUMENTS} documents to fit topics, got {len(texts)}; use a larger corpus"
        )
    check_topic_settings(
        num_topics=num_topics,
        min_topic_size=min_topic_size,
        reduction=reduction,
        clustering=clustering,
        outliers=outliers,
    )
    if len(set(texts)) < 2:
        raise AnnotationError(
            f"expected documents that differ to fit topics, got {len(texts)} with the same text; use another corpus"
        )
    languages = list_languages(documents, language)
    size = min_topic_size or default_topic_size(len(texts))
    steps = len(texts) * (2 + len(stability_seeds))

    def report(done: int, _: int = 0) -> None:
        if progress is not None:
            progress(done, steps)

    with quiet_topic_libraries():
        embeddings, embedding_name = embed_texts(
            texts, embedding=embedding, seed=seed, cache=cache, engine=engine, progress=report
        )
        codes = []
        for fits, fit_seed in enumerate((seed, *stability_seeds)):
            clusters = make_clusters(clustering, embeddings, size=size, num_topics=num_topics, seed=fit_seed)
            reducer = make_reducer(reduction, fit_seed)
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
        **{package: version(package) for package in _PACKAGES},
        "embedding": embedding_name,
        "reduction": reduction,
        "clustering": clustering,
        "min_topic_size": size,
        "num_topics": num_topics,
        "estimate": ESTIMATE if clustering == "kmeans" and num_topics is None else None,
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
    """Return the mean embedding of the documents of each topic, float32 [topics, d], rows of length 1."""
    means = np.stack([embeddings[codes == topic].mean(axis=0) for topic in range(codes.max() + 1)])
    return (means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def _assign_outliers(codes: NDArray[np.int32], embeddings: NDArray[np.float32]) -> NDArray[np.int32]:
    """Assign each document without a topic to the nearest one, if there are any topics."""
    if codes.max() == NO_LABEL:
        return codes
    lost = codes == NO_LABEL
    assigned = codes.copy()
    assigned[lost] = np.argmax(embeddings[lost] @ _centroids(embeddings, codes).T, axis=1)
    return assigned


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
        language="multilingual",  # with "english", BERTopic drops all characters outside ASCII
        umap_model=reducer,
        hdbscan_model=clusters,
        vectorizer_model=CountVectorizer(stop_words=stop_words(languages) or None),
    )
    try:
        model.fit(texts, embeddings)
        topics = np.asarray(model.topics_)
        if num_topics is not None and topics.max() + 1 > num_topics:
            has_outliers = int(topics.min() == NO_LABEL)  # which BERTopic counts as a topic
            model.reduce_topics(texts, nr_topics=num_topics + has_outliers)
    except Exception as error:  # of BERTopic, UMAP, HDBSCAN, SciPy: each has its own for too little to fit
        reason = first_line(error)
        raise AnnotationError(
            f"BERTopic could not fit {len(texts)} documents ({reason}); they may have too few words, or be too alike; "
            "use longer documents, or more varied ones"
        ) from error
    return model


def _describe_topics(
    model: "BERTopic", texts: list[str], embeddings: NDArray[np.float32], codes: NDArray[np.int32]
) -> pd.DataFrame:
    rows = []
    for topic in range(codes.max() + 1):
        members = np.flatnonzero(codes == topic)
        nearest = members[np.argmax(embeddings[members] @ embeddings[members].mean(axis=0))]
        words = [word for word, _ in model.get_topic(topic) or () if word]
        example = " ".join(texts[nearest].split())[:_EXAMPLE_CHARACTERS]
        rows.append((topic, len(members), ", ".join(words), example))
    return pd.DataFrame(rows, columns=["topic", "size", "top_words", "example"])


def _judge(
    documents: pd.DataFrame, fits: Sequence[NDArray[np.int32]], lost: Sequence[NDArray[np.bool_]]
) -> pd.DataFrame:
    """Return the quality of the first of several fits; `lost` has the outliers of each."""
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

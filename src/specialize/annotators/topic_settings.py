"""Settings of a topic fit: what is checked before anything is read, and what a fit uses where nothing is set."""

import pandas as pd

from specialize.annotators.language_detection import Languages, find_languages
from specialize.choices import Clustering, Outliers, Reduction, check_choice, check_whole
from specialize.errors import AnnotationError


def check_topic_settings(
    *,
    num_topics: int | None = None,
    min_topic_size: int | None = None,
    reduction: Reduction = "umap",
    clustering: Clustering = "kmeans",
    outliers: Outliers = "nearest",
) -> None:
    """Check the settings of `annotate_topics` that need no documents to be checked.

    Args:
        num_topics: number of topics, at least 2.
        min_topic_size: fewest documents of a topic, at least 2.
        reduction: umap, pca or none.
        clustering: kmeans or hdbscan.
        outliers: nearest or keep.

    Raises:
        AnnotationError: a number is out of range, or a choice is unknown.
    """
    for name, value in (("num_topics", num_topics), ("min_topic_size", min_topic_size)):
        if value is not None:
            check_whole(name, value, error=AnnotationError)
    if num_topics is not None and num_topics < 2:
        raise AnnotationError(f"expected at least 2 topics, got {num_topics}")
    if min_topic_size is not None and min_topic_size < 2:
        raise AnnotationError(f"expected a minimum topic size of at least 2 documents, got {min_topic_size}")
    check_choice("reduction", reduction, Reduction, error=AnnotationError)
    check_choice("clustering", clustering, Clustering, error=AnnotationError)
    check_choice("outliers", outliers, Outliers, error=AnnotationError)


def default_topic_size(num_documents: int) -> int:
    """Return the fewest documents of a topic where it is not set: one in 100, and at least 5."""
    return max(5, num_documents // 100)


def list_languages(documents: pd.DataFrame, language: str | Languages | None) -> list[str]:
    """Return the codes of the languages whose stop words are excluded, in alphabetical order.

    Args:
        documents: one row per document.
        language: code of all texts' language, or what `find_languages` returned; by default that in the column lang or
            language, else detected, without those of fewer than one document in twenty; en where it is unknown.

    Raises:
        AnnotationError: a value is not a language code.
    """
    return find_languages(documents, language).common() or ["en"]

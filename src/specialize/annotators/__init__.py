"""Labels of tokens or documents: parts of speech, topics, columns of the corpus, the user's own.

Every public name is loaded on first use, so that a trace can be measured where spaCy and BERTopic are not installed.
"""

from typing import TYPE_CHECKING

from specialize.lazy import load_on_use

if TYPE_CHECKING:
    from specialize.annotation import Annotation
    from specialize.annotators.columns import annotate_column, label_columns
    from specialize.annotators.gold import annotate_gold
    from specialize.annotators.store import list_annotations, load_annotation, save_annotation
    from specialize.annotators.syntax import annotate_syntax
    from specialize.annotators.token_classes import annotate_classes
    from specialize.annotators.topics import annotate_topics
    from specialize.annotators.user_labels import read_labels

_HOME = {
    "Annotation": "specialize.annotation",
    "annotate_classes": "specialize.annotators.token_classes",
    "annotate_column": "specialize.annotators.columns",
    "annotate_gold": "specialize.annotators.gold",
    "annotate_syntax": "specialize.annotators.syntax",
    "annotate_topics": "specialize.annotators.topics",
    "label_columns": "specialize.annotators.columns",
    "list_annotations": "specialize.annotators.store",
    "load_annotation": "specialize.annotators.store",
    "read_labels": "specialize.annotators.user_labels",
    "save_annotation": "specialize.annotators.store",
}

__all__ = [
    "Annotation",
    "annotate_classes",
    "annotate_column",
    "annotate_gold",
    "annotate_syntax",
    "annotate_topics",
    "label_columns",
    "list_annotations",
    "load_annotation",
    "read_labels",
    "save_annotation",
]


__getattr__ = load_on_use(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__

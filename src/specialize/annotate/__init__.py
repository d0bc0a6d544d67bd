"""Labels for tokens or documents: parts of speech, topics, corpus columns.

Every public name is loaded on first use: a trace is measured without spaCy and BERTopic.
"""

from typing import TYPE_CHECKING

from specialize.lazy import load_on_use

if TYPE_CHECKING:
    from specialize.annotate.annotation import Annotation
    from specialize.annotate.brought import read_labels
    from specialize.annotate.columns import annotate_column, label_columns
    from specialize.annotate.gold import annotate_gold
    from specialize.annotate.store import list_annotations, load_annotation, save_annotation
    from specialize.annotate.syntax import annotate_syntax
    from specialize.annotate.token_classes import annotate_classes
    from specialize.annotate.topics import annotate_topics

_HOME = {
    "Annotation": "specialize.annotate.annotation",
    "annotate_classes": "specialize.annotate.token_classes",
    "annotate_column": "specialize.annotate.columns",
    "annotate_gold": "specialize.annotate.gold",
    "annotate_syntax": "specialize.annotate.syntax",
    "annotate_topics": "specialize.annotate.topics",
    "label_columns": "specialize.annotate.columns",
    "list_annotations": "specialize.annotate.store",
    "load_annotation": "specialize.annotate.store",
    "read_labels": "specialize.annotate.brought",
    "save_annotation": "specialize.annotate.store",
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

"""Labels for tokens or documents: parts of speech, topics, corpus columns.

Every public name is loaded on first use: a trace is measured without spaCy and BERTopic.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
    "Annotation": "annotation",
    "annotate_classes": "token_classes",
    "annotate_column": "columns",
    "annotate_gold": "gold",
    "annotate_syntax": "syntax",
    "annotate_topics": "topics",
    "label_columns": "columns",
    "list_annotations": "store",
    "load_annotation": "store",
    "read_labels": "brought",
    "save_annotation": "store",
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


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"specialize.annotate.{_HOME[name]}"), name)
    raise AttributeError(f"module 'specialize.annotate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

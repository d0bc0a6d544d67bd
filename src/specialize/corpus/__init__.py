"""Reading documents: text, JSON Lines, CSV, Parquet, Arrow, CoNLL-U, folders, Hugging Face datasets, DataFrames."""

from specialize.corpus.document import Corpus, Document
from specialize.corpus.source import open_corpus

__all__ = ["Corpus", "Document", "open_corpus"]

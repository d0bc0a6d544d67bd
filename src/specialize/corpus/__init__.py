"""Reading documents: text, JSON Lines, CSV, Parquet, Arrow, CoNLL-U, folders, Hugging Face datasets, DataFrames."""

from specialize.corpus.document import Document, Message
from specialize.corpus.source import open_corpus
from specialize.corpus.stream import Corpus

__all__ = ["Corpus", "Document", "Message", "open_corpus"]

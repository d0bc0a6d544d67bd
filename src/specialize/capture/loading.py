"""Opening a checkpoint: a folder or a hub id, with errors that a person can act on."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from specialize.errors import CaptureError, did_you_mean
from specialize.manifest import digest_of
from specialize.quiet import without_transformers_bars

DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model with its tokenizer.

    Attributes:
        name: as the user gave it.
        model: in evaluation mode, on its device.
        tokenizer: a fast tokenizer: it must tell which characters each token stands for.
        facts: what the manifest says of it: name, revision, class, dtype, parameters, configuration and its digest.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    facts: dict[str, Any]


def load_checkpoint(
    name: str,
    *,
    dtype: str = "auto",
    device: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Checkpoint:
    """Load a causal language model and its tokenizer.

    Args:
        name: a folder written by ``save_pretrained``, or the id of a model on the Hugging Face hub.
        dtype: ``auto``: as stored on a GPU, float32 on a CPU; or float32, bfloat16, float16.
        device: ``cpu``, ``cuda``, ``cuda:1``; default: a GPU where there is one.
        revision: branch, tag or commit of a hub model.
        trust_remote_code: run code that comes with the checkpoint.

    Raises:
        CaptureError: there is no such checkpoint, or it cannot be loaded.
    """
    if dtype not in DTYPES:
        raise CaptureError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}.{did_you_mean(dtype, DTYPES)}")
    _refuse_what_is_no_checkpoint(name)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if dtype == "auto" and device == "cpu":
        dtype = "float32"  # half precision is slow on most CPUs, and decides ties between experts otherwise
    common = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        with without_transformers_bars():
            tokenizer = AutoTokenizer.from_pretrained(name, **common)
            model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, **common)
        model.to(device)  # type: ignore[arg-type]  # transformers wraps `to` and loses its signature
        model.eval()
    except Exception as error:  # whatever a checkpoint's files provoke, the user gets one line
        raise CaptureError(f"{name}: could not be loaded as a causal language model: {_first_line(error)}") from error
    if not tokenizer.is_fast:
        raise CaptureError(
            f"{name}: expected a fast tokenizer (tokenizer.json), which tells the characters of each token; "
            f"got {type(tokenizer).__name__}"
        )
    config = {key: value for key, value in model.config.to_diff_dict().items() if key != "transformers_version"}
    facts = {
        "name": name,
        "revision": getattr(model.config, "_commit_hash", None) or revision,
        "class": type(model).__name__,
        "dtype": str(model.dtype).removeprefix("torch."),
        "parameters": sum(p.numel() for p in model.parameters()),
        "config": config,
        "config_digest": digest_of({key: str(value) for key, value in config.items()}),
    }
    return Checkpoint(name, model, tokenizer, facts)


def _refuse_what_is_no_checkpoint(name: str) -> None:
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


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

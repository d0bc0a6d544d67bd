"""Opening a checkpoint: a folder or a hub id, with errors that a person can act on."""

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from specialize.errors import CaptureError, did_you_mean
from specialize.manifest import digest_of
from specialize.quiet import without_transformers_bars

# in this order: what can predict a next token first
MODEL_KINDS = ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModelForImageTextToText", "AutoModel")
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
    device_map: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Checkpoint:
    """Load a language model and its tokenizer: decoder, encoder-decoder, or the text side of a multimodal one.

    Args:
        name: a folder written by ``save_pretrained``, or the id of a model on the Hugging Face hub.
        dtype: ``auto``: as stored on a GPU, float32 on a CPU; or float32, bfloat16, float16.
        device: ``cpu``, ``cuda``, ``cuda:1``; default: a GPU where there is one.
        device_map: how accelerate spreads a model that is larger than one device: auto, balanced, sequential.
        revision: branch, tag or commit of a hub model.
        trust_remote_code: run code that comes with the checkpoint.

    Raises:
        CaptureError: there is no such checkpoint, or it cannot be loaded.
    """
    if dtype not in DTYPES:
        raise CaptureError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}.{did_you_mean(dtype, DTYPES)}")
    _refuse_what_is_no_checkpoint(name)
    if device_map is not None:
        _refuse_device_map(device_map, device)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if dtype == "auto" and device == "cpu":
        dtype = "float32"  # half precision is slow on most CPUs, and decides ties between experts otherwise
    common = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        with without_transformers_bars():
            kind = _model_kind(AutoConfig.from_pretrained(name, **common), trust_remote_code)
            tokenizer = AutoTokenizer.from_pretrained(name, **common)
            model = kind.from_pretrained(name, dtype=dtype, device_map=device_map, **common)
        if device_map is None:
            model.to(device)
        model.eval()
    except CaptureError:
        raise
    except Exception as error:  # whatever a checkpoint's files provoke, the user gets one line
        raise CaptureError(f"{name}: could not be loaded as a language model: {_first_line(error)}") from error
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


def _model_kind(config: PreTrainedConfig, trust_remote_code: bool) -> Any:
    """The transformers class that loads a model of this configuration with its head, where it has one."""
    kinds = [getattr(transformers, name) for name in MODEL_KINDS]
    theirs = getattr(config, "auto_map", None) or {}
    for kind in kinds:
        if type(config) in kind._model_mapping or (trust_remote_code and kind.__name__ in theirs):
            return kind
    return kinds[0]  # says what is wrong


def _refuse_device_map(device_map: str, device: str | None) -> None:
    if device is not None:
        raise CaptureError(f"expected --device or --device-map, got both ({device}, {device_map}); leave one out")
    if importlib.util.find_spec("accelerate") is None:
        raise CaptureError("--device-map needs the package accelerate; install it with `pip install accelerate`")


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

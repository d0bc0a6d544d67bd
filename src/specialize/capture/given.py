"""Models that the user loaded: what a manifest says of them, and digests by which a resumed trace recognises them."""

import hashlib
import json
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from specialize.capture.loading import Checkpoint, check_tokenizer, describe_model, load_tokenizer
from specialize.errors import CaptureError

_AS_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def check_given(model: Any, tokenizer: Any) -> None:
    """Check a loaded model and its tokenizer.

    Args:
        model: a transformers model.
        tokenizer: its fast tokenizer, or the folder or hub id of one.

    Raises:
        CaptureError: the model is not a transformers model, or the tokenizer is missing or not a fast one.
    """
    if not isinstance(model, nn.Module) or not hasattr(getattr(model, "config", None), "to_diff_dict"):
        raise CaptureError(
            f"model: expected a transformers model, its folder or hub id, or a Checkpoint, got {type(model).__name__}"
        )
    if tokenizer is None:
        raise CaptureError("tokenizer: expected the tokenizer of the loaded model, or its folder or hub id, got none")
    if not isinstance(tokenizer, str | PathLike):
        check_tokenizer(tokenizer)


def make_checkpoint(model: Any, tokenizer: Any, *, with_digests: bool = True) -> Checkpoint:
    """Describe a loaded model with its tokenizer as a checkpoint.

    Args:
        model: a transformers model.
        tokenizer: its fast tokenizer, or the folder or hub id of one.
        with_digests: add digests of weights and tokenizer to the facts, by which a resumed trace recognises them: the
            name of a model does not determine them, because they may have been changed since it was loaded.

    Raises:
        CaptureError: as `check_given`.
    """
    check_given(model, tokenizer)
    if isinstance(tokenizer, str | PathLike):
        tokenizer = load_tokenizer(tokenizer)
    name = str(getattr(model.config, "_name_or_path", "") or type(model).__name__)
    facts = describe_model(model, name=name)
    if with_digests:
        facts |= {"weights_digest": digest_weights(model), "tokenizer_digest": digest_tokenizer(tokenizer)}
    return Checkpoint(name, model, tokenizer, facts)


def digest_weights(model: nn.Module) -> str:
    """Return a digest (SHA-256, hexadecimal) of a model's weights that is the same on any device.

    Hashed are the names, types and shapes of parameters and buffers, and for each row along the first axis the exact
    sum of its values read as integers: one pass over the weights, with little copied from the device. Offloaded
    weights count by name, type and shape alone.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted([*model.named_parameters(), *model.named_buffers()]):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        if not tensor.is_meta and tensor.numel():
            digest.update(_sums(tensor.detach()).numpy().tobytes())
    return digest.hexdigest()


def _sums(tensor: Tensor) -> Tensor:
    rows = tensor.contiguous().reshape(len(tensor) if tensor.dim() > 1 else 1, -1)
    if rows.is_complex():
        rows = torch.view_as_real(rows).flatten(1)
    integers = rows.view(torch.uint8) if rows.dtype == torch.bool else rows.view(_AS_INTEGERS[rows.element_size()])
    return integers.sum(dim=1, dtype=torch.int64).cpu()


def digest_tokenizer(tokenizer: Any) -> str:
    """Return a digest (SHA-256, hexadecimal) of a fast tokenizer, apart from its current padding and truncation."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {key: value for key, value in state.items() if key not in ("padding", "truncation")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()

"""Models that the user loaded, and digests by which a resumed trace recognises any model."""

import hashlib
from contextlib import suppress
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from specialize.capture.loading import Checkpoint, describe_model
from specialize.errors import CaptureError
from specialize.tracing.checkpoints import check_tokenizer, digest_tokenizer, load_tokenizer

_INTEGERS = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}  # by their width in bytes


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


def make_checkpoint(model: Any, tokenizer: Any) -> Checkpoint:
    """Describe a loaded model with its tokenizer as a checkpoint.

    Args:
        model: a transformers model.
        tokenizer: its fast tokenizer, or the folder or hub id of one.

    Raises:
        CaptureError: as `check_given`.
    """
    check_given(model, tokenizer)
    if isinstance(tokenizer, str | PathLike):
        tokenizer = load_tokenizer(tokenizer)
    name = str(getattr(model.config, "_name_or_path", "") or type(model).__name__)
    return Checkpoint(name, model, tokenizer, describe_model(model, name=name))


def identify_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what determines the routing of a model and its tokens, as entries of the manifest's settings.

    Its name is not among them: a path can be written in several ways, and what it names may change.
    """
    facts = checkpoint.facts
    return {
        "config_digest": facts["config_digest"],
        "weights_digest": digest_weights(checkpoint.model),
        "tokenizer_digest": digest_tokenizer(checkpoint.tokenizer),
        "dtype": facts["dtype"],
        "device": checkpoint.model.device.type,
        # a trace with random weights is not resumed with the right ones
        **{name: facts[name]["number"] for name in ("missing_weights", "unused_weights") if name in facts},
    }


def digest_weights(model: nn.Module) -> str:
    """Return a digest (SHA-256, hexadecimal) of a model's weights that is the same on any device.

    Hashed are the names, types and shapes of parameters and buffers, and for each row along the last axis the sum of
    its bytes, read as integers of 64 bits, modulo 2^64: one pass over the weights, with little copied from the device.
    Weights whose bytes are not at hand (offloaded ones, some quantized ones) count by name, type and shape alone.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted([*model.named_parameters(), *model.named_buffers()]):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        if not tensor.is_meta and tensor.numel():
            with suppress(RuntimeError, NotImplementedError, TypeError):  # tensors of a class of their own
                digest.update(_sums(tensor.detach()).numpy().tobytes())
    return digest.hexdigest()


def _sums(tensor: Tensor) -> Tensor:
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    rows = tensor.contiguous().reshape(-1, tensor.shape[-1] if tensor.dim() else 1)
    size, offset = rows.shape[1] * rows.element_size(), rows.storage_offset() * rows.element_size()
    widest = next(dtype for width, dtype in _INTEGERS.items() if size % width == offset % width == 0)
    return rows.view(widest).sum(dim=1, dtype=torch.int64).cpu()

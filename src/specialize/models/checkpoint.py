"""The state of a training run on disk: one safetensors file, not a pickle."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from specialize.atomic import replacing
from specialize.errors import TrainingError, first_line

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
_MEASURED = {  # columns of the evaluations so far, and of metrics.csv
    "step": int,
    "tokens": int,
    "training_loss": float,
    "validation_perplexity": float,
    "unigram_perplexity": float,
    "lowest_load_entropy": float,
    "tokens_per_second": float,
}


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.AdamW,
    *,
    step: int,
    history: list[dict[str, Any]],
    identity: Mapping[str, str],
) -> None:
    """Write weights and AdamW moments as tensors, and as metadata the step, the evaluations so far and a checksum.

    Args:
        path: the file.
        model: the model.
        optimizer: of the model.
        step: steps done.
        history: the evaluations so far.
        identity: digests of what is trained, which a run that resumes must have too.
    """
    tensors = {f"model/{name}": parameter.detach().cpu() for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}/{name}"] = value.cpu()
    metadata = {"step": str(step), "history": json.dumps(history), **identity}
    metadata["sha256"] = _digest(tensors, metadata)
    with replacing(path) as partial:
        try:
            save_file(tensors, partial, metadata=metadata)
        except Exception as error:  # of its own class, where the disk is full
            raise OSError(first_line(error)) from error


def resume(
    path: Path, model: nn.Module, optimizer: torch.optim.AdamW, *, steps: int, identity: Mapping[str, str]
) -> tuple[int, list[dict[str, Any]]]:
    """Restore weights and moments in place; return the step and the evaluations so far, (0, []) without a file.

    Args:
        path: the file.
        model: the model, as it is before training.
        optimizer: of the model.
        steps: of the whole run.
        identity: as in `save_checkpoint`; earlier versions wrote none, and no checksum.

    Raises:
        TrainingError: the file is damaged, or is not the checkpoint of this run.
    """
    if not path.exists():
        return 0, []
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        checksum = metadata.pop("sha256", None)
        if checksum is not None and checksum != _digest(tensors, metadata):
            raise ValueError("contents that do not match their checksum")
        step, history = int(metadata["step"]), json.loads(metadata["history"])
        _check_contents(tensors, _expected(model), step, history, steps)
    except OSError as error:
        raise TrainingError(
            f"{path}: could not be read ({first_line(error)}); make it readable, or delete it to train from the start"
        ) from error
    except Exception as error:  # whatever the file causes, the user sees one line
        reason = f"no {error} in its metadata" if isinstance(error, KeyError) else first_line(error)
        raise TrainingError(
            f"{path}: expected the checkpoint of this run, got: {reason}; delete it to train from the start"
        ) from error
    for name, expected in identity.items():
        if metadata.get(name, expected) != expected:
            raise TrainingError(
                f"{path}: expected the checkpoint of this run, got that of a run with other {name}; put the one of "
                "this run back, or delete it to train from the start"
            )
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            parameter.copy_(tensors[f"model/{name}"])
        if parameter.requires_grad:
            optimizer.state[parameter] = {key: tensors[f"{key}/{name}"].to(parameter.device) for key in _MOMENTS}
    return step, history


def is_finite(model: nn.Module) -> bool:
    """Return whether no weight is NaN or infinite."""
    return all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def _expected(model: nn.Module) -> dict[str, tuple[torch.dtype, torch.Size]]:
    """Return the type and shape of each tensor of a checkpoint."""
    tensors = {}
    for name, parameter in model.named_parameters():
        tensors[f"model/{name}"] = (parameter.dtype, parameter.shape)
        if parameter.requires_grad:
            tensors |= {f"{key}/{name}": (parameter.dtype, parameter.shape) for key in _MOMENTS}
            tensors[f"step/{name}"] = (torch.float32, torch.Size())
    return tensors


def _check_contents(
    tensors: dict[str, Tensor],
    expected: dict[str, tuple[torch.dtype, torch.Size]],
    step: int,
    history: Any,
    steps: int,
) -> None:
    found = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise ValueError(f"other tensors than those of the model, such as {name!r}")
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"NaN or infinite values in {name!r}")
    if not 1 <= step <= steps:
        raise ValueError(f"step {step} of {steps}")
    rows: list[Any] = history if isinstance(history, list) else [None]
    if any(not isinstance(row, dict) or {key: type(value) for key, value in row.items()} != _MEASURED for row in rows):
        raise ValueError("evaluations of another form")
    done = [row["step"] for row in rows]
    if done != sorted(set(done)) or any(not 1 <= each <= step for each in done):
        raise ValueError("evaluations of other steps")


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 (hexadecimal) of tensors in the memory of the CPU, and of metadata."""
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

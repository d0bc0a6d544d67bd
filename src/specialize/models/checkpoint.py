"""The state of a training run on disk: one safetensors file, not a pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from specialize.atomic import replacing

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.AdamW, *, step: int, history: list[dict[str, Any]]
) -> None:
    """Write weights and AdamW moments as tensors, and the step and the evaluations so far as metadata."""
    tensors = {f"model/{name}": parameter.detach() for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}/{name}"] = value
    with replacing(path) as partial:
        save_file(tensors, partial, metadata={"step": str(step), "history": json.dumps(history)})


def resume(path: Path, model: nn.Module, optimizer: torch.optim.AdamW) -> tuple[int, list[dict[str, Any]]]:
    """Restore weights and moments in place; return the step and the evaluations so far, (0, []) without a file."""
    if not path.exists():
        return 0, []
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            parameter.copy_(tensors[f"model/{name}"])
        if parameter.requires_grad:
            optimizer.state[parameter] = {key: tensors[f"{key}/{name}"].to(parameter.device) for key in _MOMENTS}
    return int(metadata["step"]), json.loads(metadata["history"])

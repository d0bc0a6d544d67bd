"""Finding the Mixture-of-Experts types of the installed transformers, and building a tiny model of each."""

import ast
import importlib
import re
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers
from transformers import PreTrainedModel

from moe_zoo.shrink import shrink
from moe_zoo.types import NOT_MOE, OVERRIDES, UNBUILDABLE, WHOLE

TESTED_VERSION = "5.23.0"  # types and their configurations come and go
only_as_tested = pytest.mark.skipif(
    transformers.__version__ != TESTED_VERSION,
    reason=f"expected transformers {TESTED_VERSION}, which the zoo is of, got {transformers.__version__}",
)

MOE_CLASS = re.compile(r"(Experts?|Router|Routing|Gating\w*|SparseM\w+|MoE|Moe|MoA|Mo[Ee]\w*(Layer|Block|MLP))$")
SUFFIXES = ("ForCausalLM", "TextModel", "ForTokenClassification", "ForConditionalGeneration", "Model")


@cache
def moe_folders() -> tuple[str, ...]:
    """Folders of transformers.models with a class that sounds like experts or a router, or with ``self.experts``."""
    models = Path(transformers.__file__).parent / "models"
    found = []
    for path in sorted(models.glob("*/modeling_*.py")):
        source = path.read_text(encoding="utf-8")
        classes = [node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
        if "self.experts" in source or any(MOE_CLASS.search(name) for name in classes):
            found.append(path.parent.name)
    return tuple(dict.fromkeys(found))


def buildable() -> list[str]:
    return [name for name in moe_folders() if name not in NOT_MOE and name not in UNBUILDABLE]


def modeling(folder: str) -> ModuleType:
    """The models of a folder; a test that needs them is skipped where this transformers has none."""
    try:
        return importlib.import_module(f"transformers.models.{folder}.modeling_{folder}")
    except ModuleNotFoundError:
        pytest.skip(f"transformers {transformers.__version__} has no {folder}")


def model_class(folder: str) -> type[PreTrainedModel]:
    """The model of text in a folder, with its head where it has one."""
    module = modeling(folder)
    classes = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, PreTrainedModel) and value.__module__ == module.__name__
    }
    for suffix in SUFFIXES:
        for name, value in classes.items():
            if name.endswith(suffix) and not name.endswith("PreTrainedModel"):
                return value
    raise LookupError(f"{folder}: no model class")


def build(folder: str, **overrides: Any) -> PreTrainedModel:
    """A tiny random model, in evaluation mode."""
    cls = model_class(folder)
    return make(cls, shrink(cls.config_class, OVERRIDES.get(folder, {}) | overrides))


def build_whole(folder: str, name: str | None = None, parts: dict[str, Any] | None = None) -> PreTrainedModel:
    """A tiny random model of text and other things."""
    given, its_parts = WHOLE.get(folder, (name, parts or {}))
    cls = getattr(modeling(folder), given or "")
    return make(cls, shrink(cls.config_class, {"text_config": OVERRIDES.get(folder, {})} | its_parts))


def make(cls: type[PreTrainedModel], config: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model = cls(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():  # sharper routing than at initialization, and no ties
            if parameter.dim() > 1 and not parameter.any():
                parameter.normal_(std=0.1, generator=generator)
            else:
                parameter.mul_(3)
        for name, buffer in model.named_buffers():
            if re.search(r"bias(es)?$", name) and buffer.is_floating_point():
                buffer.copy_(torch.linspace(-0.3, 0.3, buffer.numel()).view_as(buffer))  # top-k of logits would miss it
            if name.endswith("tid2eid"):  # a table of token ids to experts
                draw = torch.rand(len(buffer), 8, generator=generator).argsort(dim=1)
                buffer.copy_(draw[:, : buffer.shape[1]])
    return model.eval()


def padded_batch(side: str, *, length: int = 12) -> dict[str, torch.Tensor]:
    """Three sequences of tokens that all differ, padding included, so that every row of hidden states does."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randperm(100, generator=generator)[: 3 * length].view(3, length) + 10
    mask = torch.ones_like(ids)
    for row, padding in enumerate((0, 3, 7)):
        mask[row, slice(length - padding, length) if side == "right" else slice(0, padding)] = 0
    return {"input_ids": ids, "attention_mask": mask}


def inputs_of(model: PreTrainedModel, side: str) -> dict[str, torch.Tensor]:
    inputs = padded_batch(side)
    if getattr(model.config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = padded_batch(side, length=9)["input_ids"] + 5
    return inputs


def set_implementation(model: PreTrainedModel, implementation: str) -> bool:
    """Choose how experts are computed; whether the model leaves that choice."""
    if not model._can_set_experts_implementation():
        return False
    model.set_experts_implementation(implementation)
    return True

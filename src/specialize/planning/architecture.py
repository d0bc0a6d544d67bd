"""The size of a model by its configuration: its routers, its parameters, and those that a token uses.

No weights are read: transformers builds the model without memory for them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specialize.errors import CaptureError, first_line
from specialize.quiet import quiet_loading
from specialize.trace.imports.model_config import read_model
from specialize.trace.schema import RouterSpec

if TYPE_CHECKING:
    from specialize.trace.imports.source import ModelFacts

_DTYPES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}
_OTHERWISE = "plan a Mixture-of-Experts model"


@dataclass(frozen=True)
class Architecture:
    """What a configuration says about the size of a model.

    Attributes:
        name: the folder, file or hub id.
        num_layers: layers of the model, dense ones included.
        num_experts: E.
        top_k: k.
        moe_layers: numbers of the layers with routers.
        hidden_size: width of the hidden states; None if the configuration does not say.
        expert_width: width of the hidden layer of an expert; None if it does not say.
        vocab_size: number of token ids; None if it does not say.
        longest: the longest sequence that the model was made for, in tokens; None if it does not say.
        stored_bytes: bytes of a parameter as the checkpoint stores it.
        parameters: number of parameters; None if the model cannot be built.
        active_parameters: those that a token uses, embeddings included; None if the model cannot be built.
        why_unknown: why it cannot be built, for messages.
    """

    name: str
    num_layers: int
    num_experts: int
    top_k: int
    moe_layers: tuple[int, ...]
    hidden_size: int | None
    expert_width: int | None
    vocab_size: int | None
    longest: int | None
    stored_bytes: int
    parameters: int | None = None
    active_parameters: float | None = None
    why_unknown: str | None = None

    def routers(self, control_draws: int = 0) -> list[RouterSpec]:
        """Return the routers that a trace records.

        Args:
            control_draws: random routers beside each of the model's.
        """
        specs = []
        for layer in self.moe_layers:
            own = RouterSpec(layer, f"layers.{layer}", self.num_experts, self.top_k)
            specs.append(own)
            specs += [
                RouterSpec(layer, own.name, self.num_experts, self.top_k, routing="random", draw=draw)
                for draw in range(control_draws)
            ]
        return specs

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable form."""
        return {
            "name": self.name,
            "layers": self.num_layers,
            "routers": len(self.moe_layers),
            "experts": self.num_experts,
            "top_k": self.top_k,
            "parameters": self.parameters,
            "active_parameters": self.active_parameters,
            "stored_bytes_per_parameter": self.stored_bytes,
        }


def read_architecture(
    model: str | PathLike[str], *, active_parameters: float | None = None, trust_remote_code: bool = False
) -> Architecture:
    """Read the size of a model from its configuration.

    Args:
        model: a folder with a config.json, such a file, or the id of a model on the Hugging Face hub.
        active_parameters: those that a token uses; default: those of the model that transformers builds.
        trust_remote_code: run code that comes with the checkpoint.

    Raises:
        CaptureError: the configuration does not say how many experts a token chooses.
        TraceError: there is no configuration, or it is not that of a Mixture-of-Experts model.
        MissingExtraError: the package for the hub is not installed.
    """
    facts = read_model(model, otherwise=_OTHERWISE)
    if facts.top_k is None:
        raise CaptureError(
            f"{facts.name}: expected a configuration with the number of experts that a token chooses (such as "
            f"num_experts_per_tok), got none; {_OTHERWISE}"
        )
    total, active, why = _count_parameters(facts, fspath(model), trust_remote_code)
    text = facts.config.get("text_config") if isinstance(facts.config.get("text_config"), dict) else {}
    config = {**facts.config, **(text or {})}
    return Architecture(
        name=facts.name,
        num_layers=facts.num_layers,
        num_experts=facts.num_experts,
        top_k=facts.top_k,
        moe_layers=facts.moe_layers,
        hidden_size=_find(config, "hidden_size", "n_embd", "d_model"),
        expert_width=_find(config, "moe_intermediate_size", "intermediate_size", "ffn_hidden_size"),
        vocab_size=_find(config, "vocab_size"),
        longest=_find(config, "max_position_embeddings", "n_positions"),
        stored_bytes=_DTYPES.get(str(config.get("dtype") or config.get("torch_dtype") or "bfloat16"), 2),
        parameters=total,
        active_parameters=active_parameters or active,
        why_unknown=None if active_parameters else why,
    )


def _find(config: Mapping[str, Any], *names: str) -> int | None:
    return next((config[name] for name in names if type(config.get(name)) is int and config[name] > 0), None)


def _count_parameters(
    facts: "ModelFacts", model: str, trust_remote_code: bool
) -> tuple[int | None, float | None, str | None]:
    """Return all parameters and the active ones, or why they are unknown."""
    try:
        import torch
        import transformers
    except ImportError as error:
        return None, None, f"{error.name} is not installed (pip install 'specialize[capture]')"
    import specialize.models  # noqa: F401 (registers this package's model with transformers)
    from specialize.capture.loading import MODEL_KINDS

    try:
        with quiet_loading(), torch.device("meta"):
            config = _read_config(facts, model, trust_remote_code)
            kinds = [getattr(transformers, name) for name in MODEL_KINDS]
            kind = next((each for each in kinds if type(config) in each._model_mapping), kinds[0])
            built = kind.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # whatever a configuration causes
        return None, None, f"transformers cannot build it ({first_line(error):.120})"
    sizes = {name: weight.numel() for name, weight in built.named_parameters()}
    routed = sum(size for name, size in sizes.items() if "experts" in name.split("."))
    if not routed:
        return sum(sizes.values()), None, "the weights of its experts are not found by their names"
    used = facts.top_k or 1
    return sum(sizes.values()), sum(sizes.values()) - routed * (1 - used / facts.num_experts), None


def _read_config(facts: "ModelFacts", model: str, trust_remote_code: bool) -> Any:
    from transformers import AutoConfig

    if trust_remote_code and not Path(model).is_file():
        return AutoConfig.from_pretrained(model, trust_remote_code=True)
    kept = json.loads(json.dumps(dict(facts.config)))
    kept.pop("quantization_config", None)  # the weights are counted, not how they are stored
    return AutoConfig.for_model(kept.pop("model_type"), **kept)


def is_hub_id(model: str | PathLike[str]) -> bool:
    """Return whether a model is named by its id on the hub, as it is no path."""
    return not Path(model).exists()


def find_weights(model: str | PathLike[str]) -> bool | None:
    """Return whether a folder has weights; None for a model of the hub, of which it is not known."""
    if is_hub_id(model):
        return None
    return any(True for suffix in ("safetensors", "bin") for _ in Path(model).glob(f"*.{suffix}"))

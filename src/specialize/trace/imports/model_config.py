"""What a model's configuration says about its routers: E, k, the number of layers, and which of them are dense.

Only config.json is read, as data: no code of the model runs, and nothing is downloaded but that file of a hub model.
"""

import re
from collections.abc import Iterator, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from specialize.corpus.json_lines import parse_json
from specialize.corpus.limits import LONGEST_LINE
from specialize.errors import MissingExtraError, TraceError, did_you_mean, first_line
from specialize.text import list_names
from specialize.trace.imports.source import Block, ModelFacts, Source, guard_parser
from specialize.trace.schema import LAYERS, MOST_EXPERTS

_NUM_EXPERTS = ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts")
_TOP_K = (
    "num_experts_per_tok",
    "num_experts_per_token",
    "moe_topk",
    "moe_top_k",
    "moe_k",
    "top_k_experts",
    "num_selected_experts",
)
_NUM_LAYERS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")
_CONFIG = "config.json"
_OTHERWISE = "set num_experts, top_k and layers instead of model"


def read_model(name: str | PathLike[str], *, otherwise: str = _OTHERWISE) -> ModelFacts:
    """Read the configuration of a model.

    Args:
        name: a folder with a config.json, such a file, or the id of a model on the Hugging Face hub.
        otherwise: what to do about a configuration that does not say enough, for messages.

    Raises:
        TraceError: there is no configuration, or it is not that of a Mixture-of-Experts model.
        MissingExtraError: the package for the hub is not installed.
    """
    name = fspath(name)
    path = _find(name)
    try:
        if path.stat().st_size > LONGEST_LINE:
            raise TraceError(
                f"{path}: expected the configuration of a model, got a file of {path.stat().st_size:,} bytes"
            )
        data = path.read_bytes()
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror or error})") from error
    with guard_parser(path, "the configuration of a model as a JSON object"):
        config = parse_json(data)
        if not isinstance(config, dict):
            raise ValueError("another value")
    return _read(name, config, otherwise)


def _find(name: str) -> Path:
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        if not (path / _CONFIG).is_file():
            raise TraceError(f"{name}: expected a folder with the {_CONFIG} of a model, found none in it")
        return path / _CONFIG
    check_hub_id(name, "model", f"a folder with a {_CONFIG}")
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise MissingExtraError(
            f"{name}: reading a configuration from the hub needs the package huggingface-hub, which is not installed: "
            f"pip install 'specialize[capture]', or give a folder with the model's {_CONFIG}"
        ) from None
    try:
        return Path(hf_hub_download(name, _CONFIG))
    except Exception as error:  # whatever hub and network raise
        raise TraceError(
            f"{name}: expected a model on the hub whose {_CONFIG} can be read, got {first_line(error)}; a folder with "
            "that file serves as well"
        ) from None


def check_hub_id(name: str, option: str, expected: str) -> None:
    """Raise TraceError if something that is no path cannot be a hub id either.

    Args:
        name: what the user gave.
        option: as what.
        expected: what else it could have been, for the message.
    """
    path = Path(name)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith((".", "/")) or path.parent.is_dir():
        siblings = [each.name for each in path.parent.iterdir() if each.is_dir()] if path.parent.is_dir() else []
        raise TraceError(
            f"{option}: expected {expected}, or a hub id such as allenai/OLMoE-1B-7B-0924, got {name!r:.100}."
            + did_you_mean(path.name, siblings)
        )


def _read(name: str, config: Mapping[str, Any], otherwise: str) -> ModelFacts:
    found = next((each for each in _nested(config) if _first(each, _NUM_EXPERTS) is not None), None)
    if found is None:
        raise TraceError(
            f"{name}: expected the configuration of a Mixture-of-Experts model, with one of {', '.join(_NUM_EXPERTS)}, "
            f"got none; {otherwise}"
        )
    num_experts = _whole(name, found, _NUM_EXPERTS, MOST_EXPERTS, otherwise)
    identity = found.get("zero_expert_num")  # LongCat's, which are numbered after the others
    if isinstance(identity, int) and 0 < identity <= MOST_EXPERTS - num_experts:
        num_experts += identity
    num_layers = _count_layers(name, found if _first(found, _NUM_LAYERS) is not None else config, otherwise)
    top_k = _whole(name, found, _TOP_K, num_experts, otherwise) if _first(found, _TOP_K) is not None else None
    with guard_parser(name, "a configuration that says which layers have routers"):
        moe_layers = tuple(layer for layer in _moe_layers(found, num_layers) if 0 <= layer < num_layers)
        if not moe_layers:
            raise ValueError("one in which every layer is dense")
    return ModelFacts(name, num_experts, top_k, num_layers, moe_layers, config)


def _nested(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a configuration, and those of the parts of a model in it, the outer ones first."""
    level = [config]
    for _ in range(4):
        yield from level
        level = [value for each in level for value in each.values() if isinstance(value, dict)]


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((config[name] for name in names if config.get(name) is not None), None)


def _whole(name: str, config: Mapping[str, Any], names: tuple[str, ...], most: int, otherwise: str) -> int:
    """Return a whole number of a configuration; a list of equal ones, as of each layer, is that number."""
    value = _first(config, names)
    if isinstance(value, list) and value and all(each == value[0] for each in value):
        value = value[0]
    if type(value) is not int or not 1 <= value <= most:
        raise TraceError(
            f"{name}: expected {' or '.join(names)} in its configuration as a number from 1 to {most}, the same in all "
            f"layers, got {value!r:.100}; {otherwise}"
        )
    return value


def _count_layers(name: str, config: Mapping[str, Any], otherwise: str) -> int:
    kinds = _first(config, ("layers_block_type", "hybrid_override_pattern"))
    if _first(config, _NUM_LAYERS) is None and isinstance(kinds, list | str) and 0 < len(kinds) < LAYERS.stop:
        return len(kinds)
    return _whole(name, config, _NUM_LAYERS, LAYERS.stop, otherwise)


def _moe_layers(config: Mapping[str, Any], num_layers: int) -> list[int]:
    """Return the numbers of the layers with routers, as the families of transformers and the hub write them."""
    every = range(num_layers)
    if kinds := config.get("mlp_layer_types"):
        return [layer for layer, kind in enumerate(kinds) if kind != "dense"]
    if listed := config.get("moe_layers"):
        return sorted(listed)
    if listed := config.get("moe_layers_enum"):  # Step's
        return sorted(int(layer) for layer in listed.split(","))
    if pattern := config.get("hybrid_override_pattern"):  # Nemotron-H's: M mamba, * attention, - dense, E experts
        return [layer for layer, kind in enumerate(pattern) if kind == "E"]
    if "moe" in (kinds := config.get("layers_block_type") or ()):
        return [layer for layer, kind in enumerate(kinds) if kind == "moe"]
    if step := config.get("interleave_moe_layer_step"):  # Llama 4's
        return list(every[step - 1 :: step])
    if period := config.get("expert_layer_period"):  # Jamba's
        return [layer for layer in every if layer % period == config.get("expert_layer_offset", 0)]
    if (first := config.get("moe_layer_start_index")) is not None:  # Ernie's; one number for text and images, or two
        start, end, step = (
            min(value) if isinstance(value, list) else value
            for value in (first, config.get("moe_layer_end_index", -1), config.get("moe_layer_interval", 1))
        )
        return [layer for layer in every[start : num_layers if end == -1 else end + 1] if (layer + 1) % step == 0]
    frequency = config.get("moe_layer_freq") or 1
    if isinstance(frequency, list):
        return [layer for layer, has_router in enumerate(frequency) if has_router]
    dense = config.get("first_k_dense_replace") or config.get("num_dense_layers") or 0
    alone, step = set(config.get("mlp_only_layers") or ()), config.get("decoder_sparse_step") or 1
    return [
        layer
        for layer in every
        if layer >= dense and layer % frequency == 0 and layer not in alone and (layer + 1) % step == 0
    ]


def fit_layers(
    model: ModelFacts, source: Source, asked: tuple[int, ...] | None
) -> tuple[tuple[int, ...] | None, tuple[str, ...]]:
    """Return the numbers of the layers to import, by the model's configuration, and notes on what was assumed.

    Args:
        model: the configuration.
        source: the input.
        asked: numbers that the user gave; None for the model's MoE layers.

    Raises:
        TraceError: the input cannot be of this model.
    """
    if source.num_experts not in (None, model.num_experts):
        raise TraceError(
            f"{source.path}: expected E = {model.num_experts}, as in the configuration of {model.name}, got "
            f"{source.num_experts}; is it of another model?"
        )
    wanted = asked or tuple(layer for layer in source.layers or () if layer not in source.names)
    dense = sorted(set(wanted) - set(model.moe_layers))
    if dense:
        raise TraceError(
            f"{source.path}: expected layers with routers of {model.name}, {list_names(model.moe_layers)}, got "
            f"{list_names(dense)}; name other layers with `layers`"
        )
    block: Block | None = next((each for each in source.read() if len(each.experts)), None)
    if block is None:
        return asked, ()
    count, top_k = block.experts.shape[1], source.top_k if source.is_usage else block.experts.shape[2]
    notes = [] if model.top_k in (None, top_k) else [
        f"k = {top_k} in the input, {model.top_k} in the configuration of {model.name}: the input decides"
    ]  # fmt: skip
    if asked is not None or source.layers is not None:
        return asked, tuple(notes)
    if count not in (model.num_layers, len(model.moe_layers)):
        raise TraceError(
            f"{source.path}: expected the {len(model.moe_layers)} MoE layers of {model.name}, or all "
            f"{model.num_layers}, got {count}; name them with `layers`"
        )
    if model.dense_layers:
        which = list_names(model.dense_layers)
        notes.append(
            f"the input has all {count} layers of {model.name}; the dense ones are left out: {which}"
            if count == model.num_layers
            else f"the input has the {count} MoE layers of {model.name}, without the dense ones: {which}"
        )
    return model.moe_layers, tuple(notes)

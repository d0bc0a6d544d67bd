"""Models with their tokenizers: loaded from a folder or the hub, or given by the user.

Importing this module is quick: torch is imported when a model is loaded.
"""

import importlib.util
from dataclasses import dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from specialize.capture.completeness import check_completeness, check_conversion, fixed_random_weights
from specialize.choices import Dtype, check_choice
from specialize.errors import CaptureError, first_line
from specialize.quiet import quiet_loading
from specialize.tracing.checkpoints import check_name, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# The first that fits is loaded, and those with a language-model head come first.
MODEL_KINDS = ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModelForImageTextToText", "AutoModel")


@dataclass(frozen=True)
class Checkpoint:
    """A model with its tokenizer.

    Attributes:
        name: the folder or hub id that it was loaded from, or the name of a model that the user gave.
        model: in evaluation mode, on its device.
        tokenizer: a fast tokenizer, which reports the characters of each token.
        facts: its entry in the manifest: name, revision, class, dtype, parameters, configuration and its digest, and
            missing and unused weights, if they were allowed.
        missing_head: names of the weights of the language-model head that the checkpoint lacks, which predictions
            need, but routing does not.
    """

    name: str
    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    facts: dict[str, Any]
    missing_head: tuple[str, ...] = ()


def load_checkpoint(
    name: str | PathLike[str],
    *,
    dtype: Dtype = "auto",
    device: str | None = None,
    device_map: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_missing_weights: bool = False,
) -> Checkpoint:
    """Load a language model and its tokenizer: a decoder, an encoder-decoder, or a multimodal model with text input.

    Args:
        name: a folder written by ``save_pretrained``, or the id of a model on the Hugging Face hub.
        dtype: ``auto`` (as stored on a GPU, float32 on a CPU), float32, bfloat16 or float16.
        device: ``cpu``, ``cuda``, ``cuda:1``; default: a GPU if there is one.
        device_map: how accelerate spreads a model that is larger than one device: auto, balanced, sequential.
        revision: branch, tag or commit of a hub model.
        trust_remote_code: run code that comes with the checkpoint.
        allow_missing_weights: accept a checkpoint that lacks weights of the model, which are then random (the same in
            each load), or has weights in its layers that the model does not use.

    Returns:
        The checkpoint, its model in evaluation mode.

    Raises:
        CaptureError: an option is invalid, there is no such checkpoint, it cannot be loaded, or it lacks weights on
            which routing depends.
    """
    name = fspath(name)
    check_loading(name, dtype=dtype, device=device, device_map=device_map)
    import torch
    from transformers import AutoConfig

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if dtype == "auto" and device == "cpu":
        dtype = "float32"  # half precision is slow on most CPUs, and resolves near-ties between experts differently
    common = {"revision": revision, "trust_remote_code": trust_remote_code}
    hidden: list[str] = []
    try:
        with quiet_loading() as hidden, fixed_random_weights(allow_missing_weights):
            kind = _model_kind(AutoConfig.from_pretrained(name, **common), trust_remote_code)
            tokenizer = load_tokenizer(name, **common)
            # a weight of another shape is reported, not raised, because the report that explains it is hidden
            report = {"output_loading_info": True, "ignore_mismatched_sizes": True}
            model, info = kind.from_pretrained(name, dtype=dtype, device_map=device_map, **report, **common)
        loaded = check_completeness(name, model, info, allow=allow_missing_weights)
        if device_map is None:
            model.to(device)
        model.eval()
    except CaptureError:
        raise
    except Exception as error:  # whatever the files of a checkpoint cause, the user sees one line
        check_conversion(name, hidden)
        raise CaptureError(f"{name}: could not be loaded as a language model: {first_line(error)}") from error
    facts = describe_model(model, name=name, revision=revision) | loaded.facts
    return Checkpoint(name, model, tokenizer, facts, loaded.missing_head)


def describe_model(model: "PreTrainedModel", *, name: str, revision: str | None = None) -> dict[str, Any]:
    """Return the manifest's entry of a model.

    Args:
        model: the model.
        name: of the model.
        revision: that was asked for, if the model does not say which one it is.
    """
    from specialize.manifest import digest_of

    config = {key: value for key, value in model.config.to_diff_dict().items() if key != "transformers_version"}
    return {
        "name": name,
        "revision": getattr(model.config, "_commit_hash", None) or revision,
        "class": type(model).__name__,
        "dtype": str(model.dtype).removeprefix("torch."),
        "parameters": sum(p.numel() for p in model.parameters()),
        "config": config,
        "config_digest": digest_of({key: str(value) for key, value in config.items()}),
    }


def check_loading(name: str, *, dtype: str = "auto", device: str | None = None, device_map: str | None = None) -> None:
    """Check what can be checked before a checkpoint is loaded.

    Raises:
        CaptureError: an option is invalid, accelerate is missing, or `name` is no checkpoint folder or hub id.
    """
    check_choice("dtype", dtype, Dtype, error=CaptureError)
    if device_map is not None:
        if device is not None:
            raise CaptureError(f"expected a device or a device map, got both ({device}, {device_map}); leave one out")
        if importlib.util.find_spec("accelerate") is None:
            raise CaptureError("a device map needs the package accelerate: pip install 'specialize[large]'")
    check_name(name)


def _model_kind(config: "PreTrainedConfig", trust_remote_code: bool) -> Any:
    """Return the transformers class that loads a model of this configuration, with its head if it has one."""
    import transformers

    kinds = [getattr(transformers, name) for name in MODEL_KINDS]
    custom = getattr(config, "auto_map", None) or {}
    for kind in kinds:
        if type(config) in kind._model_mapping or (trust_remote_code and kind.__name__ in custom):
            return kind
    return kinds[0]  # its error message says what is wrong

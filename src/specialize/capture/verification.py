"""The verification pass: a short forward pass that proves that the hooks see the routing of a model."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from specialize.capture.convention import is_integer
from specialize.capture.points import Adapter, Choice, LogitsSource, tensors_of, watch
from specialize.errors import CaptureError

SEQUENCE_LENGTH = 16
Inputs = Mapping[str, Any] | tuple[Any, ...]


@dataclass
class Neighbour:
    """A module beside a routing point, possibly its router, and what the pass observed of it.

    Attributes:
        module: the module.
        hidden: the first tensor it was called with, as [tokens, hidden size].
        read_ids: whether it was called with the token ids.
        ids: integer tensors that it returned.
        scores: floating tensors [..., E or E + 1] that it or one of its children returned, with their sources.
    """

    module: nn.Module
    hidden: Tensor | None = None
    read_ids: bool = False
    ids: list[Tensor] = field(default_factory=list)
    scores: list[tuple[LogitsSource | None, Tensor]] = field(default_factory=list)


@dataclass
class Candidate:
    """A module that resembles a routing point, and what the pass observed there.

    Attributes:
        path: its path in the model; empty for the model itself.
        module: the module.
        adapter: reads its decisions.
        num_experts: E; None if the module does not state it.
        choices: the decisions.
        neighbours: the modules beside it.
    """

    path: str
    module: nn.Module
    adapter: Adapter
    num_experts: int | None
    choices: list[Choice] = field(default_factory=list)
    neighbours: list[Neighbour] = field(default_factory=list)


def check_hookable(model: nn.Module) -> None:
    """Raise CaptureError for models in which hooks would see nothing.

    These are models that are compiled, have no weights, or run a fused kernel for their experts, in whole or in part.
    """
    title = type(model).__name__
    hooked = False
    for path, module in model.named_modules():
        where = f" ({path})" if path else ""
        if _is_compiled(module):
            raise CaptureError(
                f"{title}: expected a model that is not compiled, got a compiled one{where}; attach before "
                "torch.compile"
            )
        if _runs_fused_experts(module):
            raise CaptureError(
                f"{title}: expected the model's own experts, got the kernel {module.kernel_layer_name}{where}, which "
                "hides its routing; load the model with use_kernels=False"
            )
        hooked |= hasattr(module, "_hf_hook")  # of accelerate, which loads offloaded weights when needed
    if not hooked and any(parameter.is_meta for parameter in model.parameters()):
        raise CaptureError(f"{title}: expected a model with weights, got one on the meta device; load its weights")


def _is_compiled(module: nn.Module) -> bool:
    return (
        type(module).__name__ == "OptimizedModule"
        or getattr(module, "_compiled_call_impl", None) is not None
        or hasattr(module.forward, "_torchdynamo_orig_callable")
    )


def _runs_fused_experts(module: nn.Module) -> bool:
    replaced = getattr(vars(module).get("forward"), "__func__", None)
    fused = "Moe" in str(getattr(module, "kernel_layer_name", ""))
    return fused and replaced is not None and replaced is not type(module).forward and not hasattr(module, "_hf_hook")


def run_verification_pass(
    model: nn.Module, candidates: Mapping[str, Candidate], inputs: Inputs | None
) -> tuple[list[str], set[str]]:
    """Run the model once, without gradients, and note the decisions of the candidates.

    The state of the model does not change.

    Args:
        model: the model.
        candidates: by path; their choices and neighbours are filled in.
        inputs: keywords or positional arguments of the model; default: a few token ids.

    Returns:
        Paths of the candidates in the order of their decisions, and of the modules above candidates that were called.

    Raises:
        CaptureError: the pass fails, or `inputs` are needed.
    """
    arguments, keywords = _arguments_of_pass(model, inputs)
    token_ids = [value for value in tensors_of(arguments, keywords) if is_integer(value)]
    decided: list[str] = []
    called: set[str] = set()
    with ExitStack() as stack:
        for candidate in candidates.values():
            _note_choices(candidate, decided, stack)
            _note_neighbours(model, candidate, token_ids, stack)
        for path in {above for candidate in candidates for above in paths_above(candidate)}:
            handle = model.get_submodule(path).register_forward_pre_hook(lambda *_, path=path: called.add(path))
            stack.callback(handle.remove)
        run_once(model, inputs)
    return decided, called


def run_once(model: nn.Module, inputs: Inputs | None) -> None:
    """Run the model on the inputs of a verification pass, without gradients and in evaluation mode.

    Raises:
        CaptureError: it fails, or `inputs` are needed.
    """
    arguments, keywords = _arguments_of_pass(model, inputs)
    try:
        with evaluating(model), torch.no_grad(), torch.random.fork_rng(devices=_cuda_devices(model)):
            model(*arguments, **keywords)
    except CaptureError:
        raise
    except Exception as error:
        given = f"2 x {SEQUENCE_LENGTH} token ids" if inputs is None else "the given inputs"
        hint = "" if inputs is not None else "; give the arguments of the model as inputs"
        raise CaptureError(
            f"{type(model).__name__}: the verification pass over {given} failed: {type(error).__name__}: {error}{hint}"
        ) from error


def _cuda_devices(model: nn.Module) -> list[torch.device]:
    return list({parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"})


def encoder_of(model: nn.Module) -> nn.Module | None:
    """Return the encoder of a model that reads ``input_ids`` and ``decoder_input_ids``; None for other models."""
    get_encoder: Any = getattr(model, "get_encoder", None)
    if get_encoder is None or "decoder_input_ids" not in signature(model.forward).parameters:
        return None
    encoder = get_encoder()
    return encoder if isinstance(encoder, nn.Module) and encoder is not model else None


def paths_above(path: str) -> list[str]:
    """Return the paths of the modules that contain a module, the model itself first."""
    parts = path.split(".") if path else []
    return [".".join(parts[:count]) for count in range(len(parts))]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Keep a model in evaluation mode: training mode may draw random numbers and update router statistics."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _arguments_of_pass(model: nn.Module, inputs: Inputs | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, tuple):
        return inputs, {}
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if inputs is not None:
        raise CaptureError(
            f"inputs: expected keywords (a mapping) or a tuple of arguments, got {type(inputs).__name__}"
        )
    embedding = _embedding(model)
    if embedding is None:
        raise CaptureError(
            f"{type(model).__name__}: expected a language model with token embeddings, found none; give the "
            "arguments of the model as inputs, keywords or a tuple"
        )
    config = getattr(model, "config", None)
    ids = _ordinary_ids(embedding.num_embeddings, config)
    generator = torch.Generator().manual_seed(0)
    place = embedding.weight.device if not embedding.weight.is_meta else torch.device("cpu")
    draw = ids[torch.randint(len(ids), (2, 2, SEQUENCE_LENGTH), generator=generator)].to(place)
    keywords = {"input_ids": draw[0]}
    if encoder_of(model) is not None:
        keywords["decoder_input_ids"] = draw[1]
    return (), keywords


def _embedding(model: nn.Module) -> nn.Embedding | None:
    try:
        declared = model.get_input_embeddings()  # type: ignore[operator]  # transformers' models have it
    except (AttributeError, NotImplementedError):
        declared = None
    if isinstance(declared, nn.Embedding):
        return declared
    return next((module for module in model.modules() if isinstance(module, nn.Embedding)), None)


def _ordinary_ids(size: int, config: Any) -> Tensor:
    """Return the ids of ordinary tokens, without special ones such as the placeholder of an image."""
    configs = [config, *(getattr(config, name, None) for name in getattr(config, "sub_configs", ()))]
    special = {
        value
        for each in configs
        if each is not None
        for name, value in vars(each).items()
        if name.endswith(("token_id", "token_index")) and isinstance(value, int) and 0 <= value < size
    }
    ordinary = torch.ones(size, dtype=torch.bool)
    ordinary[list(special)] = len(special) == size
    return ordinary.nonzero().flatten()


def _note_choices(candidate: Candidate, decided: list[str], stack: ExitStack) -> None:
    def note(choice: Choice) -> None:
        hidden, logits = (None if part is None else part.detach().clone() for part in (choice.hidden, choice.logits))
        decided.append(candidate.path)
        candidate.choices.append(Choice(choice.experts.clone(), choice.weights.detach().clone(), hidden, logits))

    stack.callback(watch(candidate.module, candidate.adapter, note).remove)


def _note_neighbours(model: nn.Module, candidate: Candidate, token_ids: list[Tensor], stack: ExitStack) -> None:
    """Hook the modules beside a candidate for their inputs, and also their children for their outputs."""
    if not candidate.path or candidate.num_experts is None:
        return
    widths = (candidate.num_experts, candidate.num_experts + 1)  # one more if there is a class for no expert
    for module in model.get_submodule(candidate.path.rpartition(".")[0]).children():
        if module is candidate.module:
            continue
        neighbour = Neighbour(module)
        candidate.neighbours.append(neighbour)

        def note_input(module: nn.Module, arguments: Any, keywords: Any, neighbour: Neighbour = neighbour) -> None:
            tensors = tensors_of(arguments, keywords)
            if tensors and tensors[0].is_floating_point():
                neighbour.hidden = tensors[0].detach().reshape(-1, tensors[0].shape[-1]).clone()
            neighbour.read_ids = any(
                is_integer(given) and given.numel() == ids.numel() and torch.equal(given.reshape(-1), ids.reshape(-1))
                for given in tensors
                for ids in token_ids
            )

        def note_output(source: nn.Module, arguments: Any, output: Any, neighbour: Neighbour = neighbour) -> None:
            values = output if isinstance(output, tuple) else (output,)
            for index, value in enumerate(values):
                if not isinstance(value, Tensor) or value.dim() < 2:
                    continue
                if is_integer(value) and source is neighbour.module:
                    neighbour.ids.append(value.clone())
                elif value.is_floating_point() and value.shape[-1] in widths:
                    place = LogitsSource(source, index if isinstance(output, tuple) else None)
                    neighbour.scores.append((place, value.detach().clone()))

        stack.callback(module.register_forward_pre_hook(note_input, with_kwargs=True).remove)
        for source in (module, *module.children()):
            stack.callback(source.register_forward_hook(note_output).remove)

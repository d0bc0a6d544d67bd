"""One short forward pass, which proves that the routing of a model can be seen."""

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

PROBE_LENGTH = 16
Inputs = Mapping[str, Any] | tuple[Any, ...]


@dataclass
class Neighbour:
    """A module beside a routing point, of which one is the router, and what the probe saw of it.

    Attributes:
        module: the module.
        hidden: the first tensor it was called with, as [tokens, hidden size].
        read_ids: whether it was called with the token ids.
        ids: integer tensors that it returned.
        scores: floating tensors [..., E or E + 1] that it or a child of it returned, and where.
    """

    module: nn.Module
    hidden: Tensor | None = None
    read_ids: bool = False
    ids: list[Tensor] = field(default_factory=list)
    scores: list[tuple[LogitsSource | None, Tensor]] = field(default_factory=list)


@dataclass
class Candidate:
    """A module that looks like a routing point, and what the probe saw there.

    Attributes:
        path: its place in the model; empty for the model itself.
        module: the module.
        adapter: how its decisions are read.
        num_experts: E; None when the module does not tell.
        choices: the decisions.
        neighbours: the modules beside it.
    """

    path: str
    module: nn.Module
    adapter: Adapter
    num_experts: int | None
    choices: list[Choice] = field(default_factory=list)
    neighbours: list[Neighbour] = field(default_factory=list)


def refuse_what_cannot_be_seen(model: nn.Module) -> None:
    """Refuse models in which hooks would see nothing.

    Raises:
        CaptureError: the model, or a part of it, is compiled, has no weights, or runs a fused kernel for its experts.
    """
    title = type(model).__name__
    hooked = False
    for path, module in model.named_modules():
        where = f" ({path})" if path else ""
        if _is_compiled(module):
            raise CaptureError(
                f"{title}: expected a model that is not compiled, got one that is{where}: attach before torch.compile"
            )
        if _runs_fused_experts(module):
            raise CaptureError(
                f"{title}: expected the model's own experts, got the kernel {module.kernel_layer_name}{where}, which "
                "does not show its routing: load the model with use_kernels=False"
            )
        hooked |= hasattr(module, "_hf_hook")  # of accelerate, which brings offloaded weights when they are needed
    if not hooked and any(parameter.is_meta for parameter in model.parameters()):
        raise CaptureError(f"{title}: expected a model with weights, got one on the meta device: load its weights")


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


def probe(model: nn.Module, candidates: Mapping[str, Candidate], inputs: Inputs | None) -> tuple[list[str], set[str]]:
    """Run the model once, without gradients, and note what is seen at the candidates.

    The model is left as it was.

    Returns:
        Paths of the candidates in the order in which they decided, each as often as it did, and paths of the modules
        above candidates that were called.

    Raises:
        CaptureError: the pass fails, or there is nothing to call the model with.
    """
    arguments, keywords = _probe_inputs(model, inputs)
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
        stack.enter_context(_evaluating(model))
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=_cuda_devices(model)):
                model(*arguments, **keywords)
        except CaptureError:
            raise
        except Exception as error:
            given = f"2 x {PROBE_LENGTH} token ids" if inputs is None else "the inputs given"
            hint = "" if inputs is not None else "; give what it is to be called with as inputs"
            raise CaptureError(
                f"{type(model).__name__}: a test pass over {given} failed: {type(error).__name__}: {error}{hint}"
            ) from error
    return decided, called


def _cuda_devices(model: nn.Module) -> list[torch.device]:
    return list({parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"})


def encoder_of(model: nn.Module) -> nn.Module | None:
    """The encoder of a model that reads two sequences, ``input_ids`` and ``decoder_input_ids``; None for others."""
    get_encoder: Any = getattr(model, "get_encoder", None)
    if get_encoder is None or "decoder_input_ids" not in signature(model.forward).parameters:
        return None
    encoder = get_encoder()
    return encoder if isinstance(encoder, nn.Module) and encoder is not model else None


def paths_above(path: str) -> list[str]:
    """Paths of the modules that hold a module, the model itself first."""
    parts = path.split(".") if path else []
    return [".".join(parts[:count]) for count in range(len(parts))]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """A training pass may draw random numbers and update router statistics."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _probe_inputs(model: nn.Module, inputs: Inputs | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
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
            f"{type(model).__name__}: expected a language model with token embeddings, found none: give what it is to "
            "be called with as inputs, keywords or a tuple"
        )
    config = getattr(model, "config", None)
    ids = _ordinary_ids(embedding.num_embeddings, config)
    generator = torch.Generator().manual_seed(0)
    place = embedding.weight.device if not embedding.weight.is_meta else torch.device("cpu")
    draw = ids[torch.randint(len(ids), (2, 2, PROBE_LENGTH), generator=generator)].to(place)
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
    """Ids without a meaning of their own, such as the place of an image."""
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
    """Hook the modules beside a candidate, for what they were given, and their children, for what they returned."""
    if not candidate.path or candidate.num_experts is None:
        return
    widths = (candidate.num_experts, candidate.num_experts + 1)  # one more: a class of its own for no expert
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

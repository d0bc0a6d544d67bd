"""Evaluation of a trained model: perplexity, and the load of its experts."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from specialize.models.data import TokenStore
from specialize.models.modeling import GPTMoEForCausalLM, counted_positions, token_losses
from specialize.models.moe import Experts


@dataclass(frozen=True)
class Evaluation:
    """Quality of a model on held-out windows.

    Attributes:
        perplexity: exp of the mean loss over the compared positions; not finite if the model diverged.
        unigram_perplexity: the same for the training set's unigram frequencies (add-one smoothed), on the
            same target tokens.
        load: for each layer, the share of slots of each expert.
        load_entropy: for each layer, the entropy of its load in bits; log2 E if the load is even.
        tokens: number of losses averaged.
        is_causal: False if the router reads the whole sequence; then the perplexity is not comparable.
    """

    perplexity: float
    unigram_perplexity: float
    load: list[list[float]]
    load_entropy: list[float]
    tokens: int
    is_causal: bool

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable form."""
        return asdict(self)


@contextmanager
def _count_load(model: GPTMoEForCausalLM) -> Iterator[list[Tensor]]:
    modules = [module for module in model.modules() if isinstance(module, Experts)]
    counts = [torch.zeros(module.num_experts, dtype=torch.int64) for module in modules]

    def hook(layer: int) -> Any:
        def count(module: Experts, inputs: tuple[Tensor, ...]) -> None:
            counts[layer] += torch.bincount(inputs[1].flatten(), minlength=module.num_experts).cpu()

        return count

    handles = [module.register_forward_pre_hook(hook(layer)) for layer, module in enumerate(modules)]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def unigram_log_probabilities(store: TokenStore, vocab_size: int) -> Tensor:
    """Return the add-one smoothed log probability of each token id in the training documents, float64 [V]."""
    counts = np.bincount(store.tokens, minlength=vocab_size).astype(np.float64) + 1
    return torch.from_numpy(np.log(counts / counts.sum()))


def _exp(loss: float) -> float:
    """Return the perplexity of a mean loss in nats; infinite where that is too large for a float."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


@torch.no_grad()
def evaluate(
    model: GPTMoEForCausalLM,
    store: TokenStore,
    unigram: Tensor,
    *,
    length: int,
    batch_size: int,
    compare_from: int,
    max_windows: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Evaluation:
    """Evaluate on held-out windows, spread evenly over the documents if there are more than `max_windows`.

    Args:
        model: the model; its mode is kept.
        store: held-out documents.
        unigram: log probabilities of the token ids in the training documents, float64 [V].
        length: tokens per window.
        batch_size: windows per batch.
        compare_from: first position whose loss counts; the model's own uncounted positions never count.
        max_windows: largest number of windows; None for all.
        dtype: precision of the forward pass.
    """
    starts = store.windows(length)
    if max_windows is not None and len(starts) > max_windows:
        starts = starts[np.linspace(0, len(starts) - 1, max_windows).astype(np.int64)]
    skip = max(compare_from, model.config.uncounted_positions)
    was_training = model.training
    model.eval()
    device = model.device
    total, unigram_total, tokens = 0.0, 0.0, 0
    with (
        _count_load(model) as counts,
        torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32),
    ):
        for first in range(0, len(starts), batch_size):
            ids = torch.from_numpy(store.batch(starts[first : first + batch_size], length)).to(device)
            losses = token_losses(model.model(ids).last_hidden_state, model.lm_head, ids)
            counted = counted_positions(ids, None, skip=skip)
            total += losses[counted].double().sum().item()
            unigram_total -= unigram[ids[:, 1:][counted].cpu()].sum().item()
            tokens += int(counted.sum())
    model.train(was_training)
    load = [(count / count.sum()).tolist() for count in counts]
    return Evaluation(
        perplexity=_exp(total / tokens),
        unigram_perplexity=_exp(unigram_total / tokens),
        load=load,
        load_entropy=[-sum(p * math.log2(p) for p in layer if p > 0) for layer in load],
        tokens=tokens,
        is_causal=model.config.is_causal,
    )

"""Training speed of Mixtures of Experts relative to a plain dense model with as many active parameters.

    python analyses/benchmarks/train.py -o analyses/benchmarks/results

Tokens per second of whole training steps (forward, backward, AdamW; bfloat16). Each round times every model once, in an
order that changes; a ratio is the median over rounds of the ratio within a round. On a CPU, with one thread and with
two. The plain model is defined here and shares no code with the package.
"""

import argparse
import random
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from specialize.models import GPTMoEConfig, GPTMoEForCausalLM
from specialize.models.moe import Experts

Model = tuple[str, Callable[[Tensor], Tensor], nn.Module]  # the plain model beside it, its loss, and the module
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = {  # width, expert width, layers, heads, vocabulary, batch, context
    "cpu": (128, 256, 4, 4, 2048, 16, 128),
    "cuda": (384, 1536, 8, 6, 8192, 64, 256),
}


class PlainBlock(nn.Module):
    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.attend, self.project = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, inner, bias=False), nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.attend(self.first(x)).chunk(3, -1)
        )
        if x.device.type == "cpu":  # the fastest kernel on a CPU, used by both models
            q, k, v = q.float(), k.float(), v.float()
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, h, T, C/h)
        x = x + self.project(mixed.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.second(x)), approximate="tanh"))


class PlainGPT(nn.Module):
    def __init__(self, width: int, inner: int, layers: int, heads: int, vocabulary: int, context: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(PlainBlock(width, inner, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width, bias=False), nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        logits = self.head(self.norm(self.blocks(x)))
        return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())


def build_models() -> dict[str, Model]:
    """Return the models by name; the plain model beside each has as many active parameters."""
    width, inner, layers, heads, vocabulary, _, context = SIZES[DEVICE]
    models: dict[str, Model] = {}
    for k in (1, 2):
        plain = PlainGPT(width, k * inner, layers, heads, vocabulary, context).to(DEVICE)
        models[f"plain dense, {k} x expert width"] = (f"plain dense, {k} x expert width", plain, plain)

    def add(name: str, k: int, **choices: object) -> None:
        config = GPTMoEConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=choices.pop("intermediate_size", inner),
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=context,
            num_experts_per_tok=k,
            **choices,
        )
        model = GPTMoEForCausalLM(config).to(DEVICE).train()
        models[name] = (f"plain dense, {k} x expert width", lambda ids: model(input_ids=ids, labels=ids).loss, model)

    add("dense of this package", 1, num_experts=0)
    for experts in (4, 16):
        for k in (1, 2):
            add(f"token, top-{k} of {experts}", k, num_experts=experts)
    add("token, top-2 of 16, loop over experts", 2, num_experts=16)
    for module in models["token, top-2 of 16, loop over experts"][2].modules():
        if isinstance(module, Experts):
            module._grouped = module._one_by_one  # type: ignore[method-assign]
    add("sequence, top-2 of 4", 2, num_experts=4, routing_unit="sequence")
    return models


def measure(models: dict[str, Model], *, rounds: int, steps: int) -> pd.DataFrame:
    """Time training steps of every model once per round, in an order that changes; return one row per model."""
    *_, vocabulary, batch, context = SIZES[DEVICE]
    optimizers = {
        name: torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=1e-3, fused=True)
        for name, (_, _, module) in models.items()
    }
    ids = torch.randint(0, vocabulary, (batch, context), device=DEVICE)
    order, seconds = list(models), []
    for number in range(rounds + 1):
        random.Random(number).shuffle(order)
        times = {}
        for name in order:
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(steps):
                with torch.autocast(DEVICE, dtype=torch.bfloat16):
                    loss = models[name][1](ids)
                loss.backward()
                optimizers[name].step()
                optimizers[name].zero_grad(set_to_none=True)
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            times[name] = time.perf_counter() - start
        if number:  # the first round is a warm-up
            seconds.append(times)
    measured = pd.DataFrame(seconds)
    rows = []
    for name, (plain, _, module) in models.items():
        ratio = (measured[plain] / measured[name]).quantile([0.25, 0.5, 0.75])
        rows.append(
            {
                "model": name,
                "beside": plain,
                "relative_tokens_per_second": ratio[0.5],
                "quartile_low": ratio[0.25],
                "quartile_high": ratio[0.75],
                "tokens_per_second": steps * ids.numel() / measured[name].median(),
                "parameters": sum(p.numel() for p in module.parameters()),
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=4, help="training steps timed at a time")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2], help="of a CPU")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)  # first: what is measured takes minutes
    torch.manual_seed(0)
    models = build_models()
    tables = []
    for threads in given.threads if DEVICE == "cpu" else [1]:
        torch.set_num_threads(threads)
        device = torch.cuda.get_device_name() if DEVICE == "cuda" else f"cpu, {threads} thread{'s' * (threads > 1)}"
        tables.append(measure(models, rounds=given.rounds, steps=given.steps).assign(device=device))
        print(tables[-1].to_string(index=False), flush=True)
        pd.concat(tables).to_csv(given.output / f"train-{DEVICE}.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()

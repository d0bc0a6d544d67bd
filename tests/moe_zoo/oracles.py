"""What a model really routes, told without hooks: by patching its own functions and looking at what they are given.

Each oracle is a class made with (model, monkeypatch); `answer(name)` gives the experts and weights of a routing
point, [tokens, k] each, once the model has run. Tokens are recognised by their rows of hidden states.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

Answer = tuple[Tensor, Tensor]


class Oracle:
    """Keeps what is seen by the path of the module that saw it."""

    def __init__(self, model: nn.Module, monkeypatch: Any) -> None:
        self.model = model
        self.monkeypatch = monkeypatch
        self.paths = {id(module): path for path, module in model.named_modules()}
        self.seen: dict[str, list[Any]] = defaultdict(list)
        self.install()

    def install(self) -> None:
        raise NotImplementedError

    def answer(self, name: str) -> Answer:
        raise NotImplementedError

    def wrap(self, cls: type, note: Any, method: str = "forward") -> None:
        """Replace a method: `note(path, module, arguments, output)` is called after it."""
        original = getattr(cls, method)

        def replacement(module: nn.Module, *arguments: Any, **keywords: Any) -> Any:
            given = [value.clone() if isinstance(value, Tensor) else value for value in arguments]
            output = original(module, *arguments, **keywords)
            note(self.paths[id(module)], module, given, output)
            return output

        self.monkeypatch.setattr(cls, method, replacement)

    def classes_of(self, *names: str) -> set[type]:
        return {type(module) for module in self.model.modules() if type(module).__name__ in names}


class ExpertsOracle(Oracle):
    """The convention: what experts modules are given."""

    def install(self) -> None:
        for cls in {type(m) for path, m in self.model.named_modules() if path.rpartition(".")[2] == "experts"}:
            self.wrap(cls, lambda path, _, given, __: self.seen[path].append((given[1], given[2])))

    def answer(self, name: str) -> Answer:
        (answer,) = self.seen[name]
        return answer


class ZayaOracle(ExpertsOracle):
    """The router's best class beyond the experts is a skip."""

    def install(self) -> None:
        super().install()
        for cls in self.classes_of("ZayaRouter"):
            self.wrap(cls, self._note)

    def _note(self, path: str, router: Any, given: list[Any], output: Any) -> None:
        scores = output[0].softmax(dim=-1) + router.balancing_biases
        self.seen[path].append(scores.argmax(dim=-1) == router.num_experts)

    def answer(self, name: str) -> Answer:
        experts, weights = super().answer(name)
        (skipped,) = self.seen[name.replace("experts", "gate")]
        return experts.masked_fill(skipped[:, None], -1), weights


class Llama4Oracle(Oracle):
    """Scores that are not zero: all others multiply their expert's input by nothing."""

    def install(self) -> None:
        for cls in self.classes_of("Llama4Router"):
            self.wrap(cls, lambda path, router, _, output: self.seen[path].append((router.top_k, output[0].clone())))

    def answer(self, name: str) -> Answer:
        ((top_k, scores),) = self.seen[name]
        rows = [sorted(((s, e) for e, s in enumerate(row) if s > 0), reverse=True) for row in scores.tolist()]
        assert {len(row) for row in rows} == {top_k}
        experts = torch.tensor([[e for _, e in row] for row in rows])
        return experts, torch.tensor([[s for s, _ in row] for row in rows], dtype=scores.dtype)


class JetMoeOracle(Oracle):
    """Rows that the first of the parallel experts are given, expert by expert."""

    def install(self) -> None:
        for cls in self.classes_of("JetMoeParallelExperts"):
            self.wrap(cls, lambda path, _, given, __: self.seen[path].append((given[0], given[1])))
        for cls in self.classes_of("JetMoeTopKGating"):
            self.wrap(cls, self._note)

    def _note(self, path: str, gating: Any, given: list[Any], output: Any) -> None:
        self.seen[path].append((given[0], gating.layer(given[0])))

    def answer(self, name: str) -> Answer:
        ((hidden, logits),) = self.seen[name]
        (rows, sizes), *_ = self.seen[name.replace(".router", ".input_linear")]
        places = {row_key(row): token for token, row in enumerate(hidden)}
        assert len(places) == len(hidden)
        chosen: dict[int, list[int]] = defaultdict(list)
        for expert, given in enumerate(rows.split(list(sizes))):
            for row in given:
                chosen[places[row_key(row)]].append(expert)
        experts = torch.tensor(
            [sorted(chosen[token], key=lambda e: -logits[token, e].item()) for token in range(len(hidden))]
        ).to(logits.device)
        return experts, logits.gather(1, experts).softmax(dim=-1)


class SwitchOracle(Oracle):
    """Which tokens each expert's own dense layer is called with, and by what the block scales what it returns."""

    def install(self) -> None:
        for cls in self.classes_of("SwitchTransformersDenseActDense"):
            self.wrap(cls, lambda path, _, given, __: self.seen[path].append(given[0]))
        for cls in self.classes_of("SwitchTransformersSparseMLP"):
            self.wrap(cls, lambda path, _, given, __: self.seen[path].append(given[0]))

    def answer(self, name: str) -> Answer:
        block = name.removesuffix(".experts")
        (hidden,) = self.seen[block]
        router = self.model.get_submodule(f"{block}.router")
        flat = hidden.reshape(-1, hidden.shape[-1])
        places = {row_key(row): token for token, row in enumerate(flat)}
        assert len(places) == len(flat)
        experts = torch.full((len(flat), 1), -1)
        for expert in range(router.num_experts):
            for rows in self.seen.get(f"{name}.expert_{expert}", []):
                for row in rows:
                    experts[places[row_key(row)]] = expert
        probability = router.classifier(hidden).softmax(dim=-1).amax(dim=-1).reshape(-1, 1)
        experts = experts.to(probability.device)
        return experts, probability.masked_fill(experts < 0, 0)


class NllbOracle(Oracle):
    """What the router means to do: the two likeliest experts, their probabilities made to sum to one."""

    def install(self) -> None:
        for cls in self.classes_of("NllbMoeTop2Router"):
            self.wrap(cls, lambda path, _, given, output: self.seen[path].append((output[2].clone(), given[1])))
        for cls in self.classes_of("NllbMoeDenseActDense"):
            self.wrap(cls, lambda path, _, given, __: self.seen[path].append(len(given[0])))

    def answer(self, name: str) -> Answer:
        ((logits, padding),) = self.seen[name.replace(".experts", ".router")]
        probabilities = logits.softmax(dim=-1)
        first = probabilities.argmax(dim=-1)
        second = logits.scatter(1, first[:, None], -torch.inf).argmax(dim=-1)
        experts = torch.stack([first, second], dim=-1)
        both = probabilities.gather(1, experts)
        weights = both / (both[:, :1] + both[:, 1:])
        if padding is not None:
            hidden = padding[:, :, -1, :].reshape(-1, 1)[-len(logits) :].bool()
            experts, weights = experts.masked_fill(hidden, -1), weights.masked_fill(hidden, 0)
        return experts, weights

    def executed(self, name: str) -> list[int]:
        """How many rows each expert was called with."""
        experts = self.model.get_submodule(name)
        return [sum(self.seen.get(f"{name}.expert_{i}", [])) for i in range(experts.num_experts)]


class DogeOracle(Oracle):
    """Rows of the experts' embedding that are looked up, and the softmax that scales them."""

    def install(self) -> None:
        from transformers.models.doge import modeling_doge

        blocks = {id(m.down_embed): p for p, m in self.model.named_modules() if type(m).__name__ == "DogeCDMoE"}
        lookup, softmax = nn.Embedding.forward, modeling_doge.F.softmax
        recent: list[Tensor] = []

        def noting_lookup(module: nn.Module, ids: Tensor) -> Tensor:
            if id(module) in blocks:
                self.seen[blocks[id(module)]].append((ids.clone(), recent[-1]))
            return lookup(module, ids)

        def noting_softmax(scores: Tensor, *arguments: Any, **keywords: Any) -> Tensor:
            result = softmax(scores, *arguments, **keywords)
            recent.append(result)  # not a copy: the block may normalise it in place
            return result

        self.monkeypatch.setattr(nn.Embedding, "forward", noting_lookup)
        self.monkeypatch.setattr(modeling_doge.F, "softmax", noting_softmax)

    def answer(self, name: str) -> Answer:
        (answer,) = self.seen[name]
        return answer


ORACLES: dict[str, type[Oracle]] = {
    "doge": DogeOracle,
    "jetmoe": JetMoeOracle,
    "llama4": Llama4Oracle,
    "nllb_moe": NllbOracle,
    "switch_transformers": SwitchOracle,
    "zaya": ZayaOracle,
}


def oracle_for(folder: str) -> type[Oracle]:
    return ORACLES.get(folder, ExpertsOracle)


def row_key(row: Tensor) -> bytes:
    return row.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes()

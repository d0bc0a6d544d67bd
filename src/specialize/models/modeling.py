"""A GPT-2-style Mixture-of-Experts language model, as a Hugging Face model.

Differences from GPT-2 (Radford et al. 2019): no biases in the linear layers, and every feed-forward layer is a
Mixture of Experts. Shapes: B batch, T positions, C hidden size, E experts, k experts per token, V vocabulary.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GenerationMixin, PreTrainedModel
from transformers.utils.generic import ModelOutput

from specialize.models.configuration import GPTMoEConfig
from specialize.models.folders import CHECKSUMS, check_checksums
from specialize.models.moe import Decision, DenseLayer, Experts, MoELayer, Router, in_full_precision


@dataclass
class GPTMoEOutput(ModelOutput):
    """Output of the model.

    Attributes:
        loss: () mean cross-entropy of the counted positions plus the weighted balance loss; only with labels.
        logits: (B, T, V).
        last_hidden_state: (B, T, C).
        balance_loss: () mean over the layers with a router, unweighted (with a guide, the guide's loss); 0 if dense.
        router_logits: a (B*T, E) tensor for each layer; empty for a dense model.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    last_hidden_state: Tensor | None = None
    balance_loss: Tensor | None = None
    router_logits: tuple[Tensor, ...] | None = None


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, config: GPTMoEConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.output = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor, attend: Tensor | None) -> Tensor:
        """Map (B, T, C) to (B, T, C); `attend` (B, 1, T, T) marks the keys of each query, None for plain causal."""
        batch, length, width = hidden.shape
        q, k, v = self.qkv(hidden).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # (B, h, T, C/h)
        dtype = q.dtype
        if hidden.device.type == "cpu":
            # the backward pass of torch's CPU kernel is 3.6 times slower in bfloat16
            q, k, v = in_full_precision(q), in_full_precision(k), in_full_precision(v)
        with torch.autocast(hidden.device.type, enabled=False):
            mixed = F.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=attend,
                is_causal=attend is None,
                dropout_p=self.dropout if self.training else 0.0,
            )
        return self.output(mixed.transpose(1, 2).reshape(batch, length, width).to(dtype))


class Block(nn.Module):
    """Attention, then a routed (or dense) feed-forward layer, both on a normalised residual stream."""

    def __init__(self, config: GPTMoEConfig, layer: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon, bias=False)
        self.attention = Attention(config)
        self.norm_mlp = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon, bias=False)
        decides = config.router_scope == "layer" or layer == 0
        self.mlp = MoELayer(config, decides=decides) if config.num_experts else DenseLayer(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor,
        attend: Tensor | None,
        decision: Decision | None,
        guide: Tensor | None = None,
    ) -> tuple[Tensor, Decision | None]:
        """Return the hidden states (B, T, C) and the routing decision used."""
        hidden = hidden + self.dropout(self.attention(self.norm_attention(hidden), attend))
        if isinstance(self.mlp, DenseLayer):
            output = self.mlp(self.norm_mlp(hidden))
        else:
            output, decision = self.mlp(self.norm_mlp(hidden), mask, decision, guide)
        return hidden + self.dropout(output), decision


class GPTMoEPreTrainedModel(PreTrainedModel):
    """Initialization and loading shared by the model and its language-model head."""

    config_class = GPTMoEConfig
    base_model_prefix = "model"
    _no_split_modules = ["Block"]  # noqa: RUF012 (the name and its type are those of transformers)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *model_args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint, as in transformers; the files of a folder are compared with their checksums before."""
        folder = Path(pretrained_model_name_or_path or "")
        if pretrained_model_name_or_path and folder.is_dir():
            check_checksums(folder, remedy=f"restore it, or delete {CHECKSUMS} if it was changed on purpose")
        return super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        # GPT-2 scales what is added to the residual stream by the number of additions
        residual = std / (2 * self.config.num_hidden_layers) ** 0.5
        if isinstance(module, Router):
            module.reset_parameters()
        elif isinstance(module, Experts):
            nn.init.normal_(module.up, std=std)
            nn.init.normal_(module.down, std=residual)
        elif isinstance(module, Attention):
            nn.init.normal_(module.qkv.weight, std=std)
            nn.init.normal_(module.output.weight, std=residual)
        elif isinstance(module, DenseLayer):
            nn.init.normal_(module.up.weight, std=std)
            nn.init.normal_(module.down.weight, std=residual)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=std)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)


class GPTMoEModel(GPTMoEPreTrainedModel):
    """The transformer without its language-model head."""

    def __init__(self, config: GPTMoEConfig) -> None:
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the token embedding."""
        return self.tokens

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, guide: Tensor | None = None, **kwargs: Any
    ) -> GPTMoEOutput:
        """Run token ids (B, T); `attention_mask` (B, T) is 0 for padding, on the left or right.

        `guide` (B,) is the expert that a guided router should send each sequence to.
        """
        mask, attend = _masks(input_ids, attention_mask)
        rank = (mask.cumsum(dim=1) - 1).clamp(min=0)  # (B, T) position, padding not counted
        hidden = self.dropout(self.tokens(input_ids) + self.positions(rank))  # (B, T, C)
        decision: Decision | None = None
        decisions: list[Decision] = []
        for block in self.layers:
            hidden, decision = block(hidden, mask, attend, decision, guide)
            if decision is not None:
                decisions.append(decision)
        losses = [d.loss for d in decisions]
        return GPTMoEOutput(
            last_hidden_state=self.norm(hidden),
            balance_loss=torch.stack(losses).mean() if losses else hidden.new_zeros(()),
            router_logits=tuple(d.logits for d in decisions),
        )


class GPTMoEForCausalLM(GPTMoEPreTrainedModel, GenerationMixin):
    """The language model. It has no key-value cache: `generate` reads the whole sequence again at each step."""

    _tied_weights_keys = {"lm_head.weight": "model.tokens.weight"}  # noqa: RUF012 (the name is transformers')

    def __init__(self, config: GPTMoEConfig) -> None:
        super().__init__(config)
        self.model = GPTMoEModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        """Return the language-model head."""
        return self.lm_head

    def prepare_inputs_for_generation(  # type: ignore[override]  # there is no cache to pass on
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> dict[str, Tensor | None]:
        """Pass the whole sequence to each step."""
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        guide: Tensor | None = None,
        **kwargs: Any,
    ) -> GPTMoEOutput:
        """Return the logits of the next token, and the training loss if `labels` (B, T; -100 ignored) are given.

        As everywhere in transformers the labels are the inputs themselves and are shifted here. In training mode
        with labels the logits are not computed. `guide` as in `GPTMoEModel`.
        """
        output = self.model(input_ids, attention_mask, guide)
        if labels is None or not self.training:
            output.logits = self.lm_head(output.last_hidden_state)  # (B, T, V)
        if labels is not None:
            losses = token_losses(output.last_hidden_state, self.lm_head, labels)
            counted = counted_positions(labels, attention_mask, skip=self.config.uncounted_positions)
            # a sum over all: for the number of rows of a selection, a GPU would have to be waited for
            mean = torch.where(counted, losses, 0.0).sum() / counted.sum()
            output.loss = mean + self.config.router_aux_loss_coef * output.balance_loss
        return output


def token_losses(hidden: Tensor, head: nn.Module, labels: Tensor) -> Tensor:
    """Return the cross-entropy in nats of each position's next token: (B, T, C), (B, T) -> (B, T-1).

    Logits are computed for some positions at a time, because all of them together need far more memory than the rest of
    a small model.
    """
    chunk = 512 if hidden.device.type == "cpu" else 8192  # what fits a processor's cache; what keeps a GPU busy
    # the last position has no next token; shifting the labels is cheaper than copying the hidden states
    targets = torch.cat([labels[:, 1:], labels.new_full((labels.shape[0], 1), -100)], dim=1)
    losses = [
        F.cross_entropy(head(states).float(), target, reduction="none")
        for states, target in zip(hidden.flatten(0, 1).split(chunk), targets.flatten().split(chunk), strict=True)
    ]
    return torch.cat(losses).view_as(labels)[:, :-1]


def counted_positions(labels: Tensor, attention_mask: Tensor | None, *, skip: int) -> Tensor:
    """Return which next-token losses count, bool (B, T-1): not padding, and past the first `skip` of a sequence."""
    mask, _ = _masks(labels, attention_mask)
    rank = mask.cumsum(dim=1) - 1
    return (mask & (rank >= skip))[:, :-1] & mask[:, 1:] & (labels[:, 1:] != -100)


def _masks(input_ids: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return which tokens are not padding (B, T), and the keys of each query (B, 1, T, T); None for plain causal."""
    if attention_mask is None or bool(attention_mask.all()):
        return torch.ones_like(input_ids, dtype=torch.bool), None
    mask = attention_mask.bool()
    length = mask.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    itself = torch.eye(length, dtype=torch.bool, device=mask.device)  # a padded query needs at least one key
    return mask, (causal & (mask[:, None, None, :] | itself))

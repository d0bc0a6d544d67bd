"""Configuration of the GPT-2-style Mixture-of-Experts language model."""

import math
from numbers import Real
from typing import Any

from transformers import PretrainedConfig

from specialize.choices import check_whole
from specialize.errors import ConfigError, did_you_mean, show_value

CHOICES = {
    "routing_unit": ("token", "sequence"),
    "router_scope": ("layer", "global"),
    "router_type": ("learned", "frozen", "rerandomized", "guided"),
    "sequence_summary": ("prefix", "full"),
}
_LARGEST = {  # far above any model of this kind; more is a slip, or a damaged file
    "vocab_size": 2**24,
    "hidden_size": 2**20,
    "intermediate_size": 2**24,
    "num_hidden_layers": 2**9,
    "num_attention_heads": 2**20,
    "max_position_embeddings": 2**24,
    "num_experts": 2**15 - 1,
}
_WHOLE = (*_LARGEST, "num_experts_per_tok", "routing_prefix")
_SWITCHES = ("norm_topk_prob", "tie_word_embeddings")
_NUMBERS = {  # what is expected, and whether a finite number is that
    "router_aux_loss_coef": ("a number of at least 0", lambda number: number >= 0),
    "dropout": ("a number from 0 to below 1", lambda number: 0 <= number < 1),
    "layer_norm_epsilon": ("a number above 0", lambda number: number > 0),
    "initializer_range": ("a number above 0", lambda number: number > 0),
}


class GPTMoEConfig(PretrainedConfig):
    """Sizes and routing of `GPTMoEForCausalLM`.

    Args:
        vocab_size: number of token ids.
        hidden_size: width of the residual stream.
        intermediate_size: width of one expert's hidden layer (of the whole feed-forward layer when dense).
        num_hidden_layers: number of blocks; every block has a Mixture-of-Experts feed-forward layer.
        num_attention_heads: heads of each attention layer.
        max_position_embeddings: longest sequence, in tokens.
        num_experts: experts per layer; 0 makes a dense model.
        num_experts_per_tok: experts per token (top-k).
        routing_unit: ``token``: every token is routed by its own hidden state; ``sequence``: all tokens of a
            sequence share one decision.
        router_scope: ``layer``: every layer decides; ``global``: all layers use the decision of the first.
        router_type: ``learned``; ``frozen``: random at initialization and not trained; ``rerandomized``: random
            again at every training step (evaluation uses the last weights, which the checkpoint keeps); ``guided``:
            trained to send each sequence to the expert of its label (for instance its language), in place of the
            balance loss; labels are needed in training only.
        sequence_summary: the input of a sequence router. ``prefix``: the mean hidden state of the first
            ``routing_prefix`` tokens, so that no later token can influence an earlier one outside the prefix.
            ``full``: the mean over the whole sequence; then the model is not causal, and its perplexity is not
            comparable.
        routing_prefix: length of the prefix, in tokens.
        norm_topk_prob: rescale the probabilities of the chosen experts to sum to one. Off by default, because with
            top-1 a learned router would have no gradient.
        router_aux_loss_coef: weight of the load-balancing loss (Fedus et al. 2022, eq. 4), or of the guide's.
        dropout: dropout probability of attention and residual paths.

    Raises:
        ConfigError: a value is of another type or out of range, or values contradict each other.
    """

    model_type = "specialize_gpt_moe"
    keys_to_ignore_at_inference = ("router_logits",)

    def __init__(
        self,
        *,
        vocab_size: int = 50257,
        hidden_size: int = 768,
        intermediate_size: int = 3072,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        max_position_embeddings: int = 1024,
        num_experts: int = 4,
        num_experts_per_tok: int = 2,
        routing_unit: str = "token",
        router_scope: str = "layer",
        router_type: str = "learned",
        sequence_summary: str = "prefix",
        routing_prefix: int = 32,
        norm_topk_prob: bool = False,
        router_aux_loss_coef: float = 0.01,
        dropout: float = 0.0,
        layer_norm_epsilon: float = 1e-5,
        initializer_range: float = 0.02,
        tie_word_embeddings: bool = True,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.max_position_embeddings = max_position_embeddings
        self.num_experts = num_experts
        self.num_experts_per_tok = num_experts_per_tok
        self.routing_unit = routing_unit
        self.router_scope = router_scope
        self.router_type = router_type
        self.sequence_summary = sequence_summary
        self.routing_prefix = routing_prefix
        self.norm_topk_prob = norm_topk_prob
        self.router_aux_loss_coef = router_aux_loss_coef
        self.dropout = dropout
        self.layer_norm_epsilon = layer_norm_epsilon
        self.initializer_range = initializer_range
        self.tie_word_embeddings = tie_word_embeddings
        self._check()
        super().__init__(**kwargs)

    def _check(self) -> None:
        self._check_types()
        for name, largest in _LARGEST.items():
            least, meaning = (0, "0 (dense) or more") if name == "num_experts" else (1, "1 or more")
            value = getattr(self, name)
            if value < least:
                raise ConfigError(f"{name}: expected {meaning}, got {show_value(value)}")
            if value > largest:
                raise ConfigError(f"{name}: expected at most {largest}, got {show_value(value)}")
        if self.num_experts and not 1 <= self.num_experts_per_tok <= self.num_experts:
            raise ConfigError(
                f"num_experts_per_tok: expected 1 to num_experts = {self.num_experts}, "
                f"got {show_value(self.num_experts_per_tok)}"
            )
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"hidden_size: expected a multiple of num_attention_heads = {self.num_attention_heads}, "
                f"got {self.hidden_size}"
            )
        if not 1 <= self.routing_prefix <= self.max_position_embeddings:
            raise ConfigError(
                f"routing_prefix: expected 1 to max_position_embeddings = {self.max_position_embeddings}, "
                f"got {show_value(self.routing_prefix)}"
            )

    def _check_types(self) -> None:
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise ConfigError(
                    f"{name}: expected one of {', '.join(allowed)}, got {show_value(value)}."
                    + (did_you_mean(value, allowed) if isinstance(value, str) else "")
                )
        for name in _WHOLE:
            check_whole(name, getattr(self, name), error=ConfigError)
        for name in _SWITCHES:
            if not isinstance(value := getattr(self, name), bool):
                raise ConfigError(f"{name}: expected true or false, got {show_value(value)}")
        for name, (expected, fits) in _NUMBERS.items():
            value = getattr(self, name)
            is_number = isinstance(value, Real) and not isinstance(value, bool)
            if not is_number or not abs(value) < math.inf or not fits(value):
                raise ConfigError(f"{name}: expected {expected}, got {show_value(value)}")

    @property
    def num_parameters(self) -> int:
        """Number of parameters of the model with its language-model head."""
        width = self.hidden_size
        experts = max(self.num_experts, 1) * 2 * width * self.intermediate_size
        routers = 1 if self.router_scope == "global" else self.num_hidden_layers
        heads = 1 if self.tie_word_embeddings else 2
        return (
            (heads * self.vocab_size + self.max_position_embeddings + 1) * width
            + self.num_hidden_layers * (4 * width**2 + 2 * width + experts)
            + routers * self.num_experts * width
        )

    @property
    def is_causal(self) -> bool:
        """Whether no logit whose loss counts depends on a later token."""
        return not (self.num_experts and self.routing_unit == "sequence" and self.sequence_summary == "full")

    @property
    def uncounted_positions(self) -> int:
        """Number of leading positions of each sequence whose losses must be excluded from comparisons.

        A sequence router passes information from later to earlier positions of the prefix it reads. The last
        position of the prefix has read the whole prefix anyway, so its loss counts.
        """
        reads_prefix = self.num_experts and self.routing_unit == "sequence" and self.sequence_summary == "prefix"
        return self.routing_prefix - 1 if reads_prefix else 0

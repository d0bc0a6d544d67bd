"""Tiny random models of the families that the toolkit is most used on."""

from copy import deepcopy

import torch
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    GptOssConfig,
    MixtralConfig,
    OlmoeConfig,
    PretrainedConfig,
    Qwen3MoeConfig,
)

from specialize.models import GPTMoEConfig

SIZES = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
OWN = {key: value for key, value in SIZES.items() if key != "num_key_value_heads"} | {"num_experts": 8}

CONFIGS: dict[str, PretrainedConfig] = {
    "mixtral": MixtralConfig(**SIZES, num_local_experts=8, num_experts_per_tok=2),
    "olmoe": OlmoeConfig(**SIZES, num_experts=16, num_experts_per_tok=4),
    "qwen3_moe": Qwen3MoeConfig(
        **SIZES, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=16, head_dim=8, norm_topk_prob=True
    ),
    "deepseek_v3": DeepseekV3Config(
        **(SIZES | {"num_key_value_heads": 4}),
        n_routed_experts=8,
        num_experts_per_tok=2,
        n_group=2,
        topk_group=1,
        moe_intermediate_size=16,
        first_k_dense_replace=1,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
    ),
    "gpt_oss": GptOssConfig(
        **SIZES,
        num_local_experts=8,
        num_experts_per_tok=2,
        head_dim=8,
        layer_types=["full_attention"] * 3,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    ),
    "own, by token": GPTMoEConfig(**OWN, num_experts_per_tok=2),
    "own, by sequence": GPTMoEConfig(**OWN, num_experts_per_tok=1, routing_unit="sequence", routing_prefix=4),
    "own, global": GPTMoEConfig(**OWN, num_experts_per_tok=2, router_scope="global"),
}


def build(name: str, **changes: int) -> torch.nn.Module:
    """A model of CONFIGS; `changes` are entries of its configuration."""
    torch.manual_seed(0)
    config = deepcopy(CONFIGS[name])
    config.update(changes)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():  # sharper routing than at initialization, and no ties
            parameter.mul_(3)
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith("e_score_correction_bias"):  # selection that top-k of the logits would miss
                buffer.copy_(torch.linspace(-0.5, 0.5, buffer.numel()))
    return model.eval()

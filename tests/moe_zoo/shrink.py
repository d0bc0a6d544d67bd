"""Small configurations of any model type: sizes are recognised by the names of the fields."""

import inspect
import re
from typing import Any

from transformers import PretrainedConfig

SMALL: tuple[tuple[str, Any], ...] = (  # the first pattern that a field's name matches in full
    (r"vocab_size", 128),
    (r"hidden_size|d_model|dim|model_dim|embedding_size|n_embd", 32),
    (r"depth", 2),
    (r"num_hidden_layers|num_layers|n_layers?|n_layer|encoder_layers|decoder_layers|num_decoder_layers", 3),
    (r"num_attention_heads|n_heads|num_heads|n_head|encoder_attention_heads|decoder_attention_heads", 4),
    (r"num_key_value_heads", 2),
    (r"(.*_)?head_dim|v_head_dim|d_kv|kv_channels", 8),
    (r"(num_local_|num_|n_routed_|moe_num_)experts|num_local_experts", 8),
    (r"num_experts_per_tok|num_experts_per_token|moe_top_k|moe_k|top_k_experts|moe_topk|num_selected_experts", 2),
    (r".*intermediate_size|.*ffn_hidden_size|.*ffn_dim|d_ff|mlp_dim", 24),
    (r"n_group|num_expert_group|num_group", 2),
    (r"topk_group", 1),
    (r"first_k_dense_replace|num_dense_layers|moe_layer_start_index|first_num_dense_layers", 1),
    (r"max_position_embeddings|n_positions|max_seq_len", 64),
    (r".*lora_rank", 16),
    (r"pad_token_id", 0),
    (r"bos_token_id|decoder_start_token_id", 1),
    (r"eos_token_id", 2),
    (r"router_bias|expert_bias", None),  # booleans: left alone
)


def shrink(config_class: type[PretrainedConfig], overrides: dict[str, Any]) -> PretrainedConfig:
    """A small configuration; overrides have the last word, and ``None`` among them leaves a field at its default."""
    default = config_class()
    subs = {name: type(getattr(default, name, None)) for name in getattr(config_class, "sub_configs", {})}
    subs = {name: value for name, value in subs.items() if issubclass(value, PretrainedConfig)}
    known = set(inspect.signature(config_class.__init__).parameters) | set(default.to_dict())
    small = {}
    for name in sorted(known):
        for pattern, value in SMALL:
            if value is not None and re.fullmatch(pattern, name):
                small[name] = value
                break
    for name, value in overrides.items():
        small[name] = value
        if value is None:
            del small[name]
    for name, sub_config in subs.items():
        small[name] = shrink(sub_config, small.get(name) or {}).to_dict()
    return config_class(**small)

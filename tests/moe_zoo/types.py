"""What the shrinker cannot know of single types."""

from typing import Any

NOT_MOE = {
    "granite_docling": "its density router decides once a page whether a finer connector is run; there are no experts",
    "kyutai_speech_to_text": "its gating MLP is a gated linear unit",
    "moshi": "its gating MLP is a gated linear unit",
    "vitpose_backbone": "its experts are picked by the number of the data set that an image is from, not by a router",
}

UNBUILDABLE: dict[str, str] = {}  # none of transformers 5.23.0

MLA = {"num_key_value_heads": 4, "qk_head_dim": 16}
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
MIXED = ["linear_attention", "full_attention", "linear_attention"]

OVERRIDES: dict[str, dict[str, Any]] = {
    "axk1": MLA,
    "axk2": MLA,
    "bailing_hybrid": MLA | {"layer_types": MIXED},
    "beam": {"mlp_layer_types": ["dense", "sparse", "sparse"]},
    "dbrx": {
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 24, "moe_num_experts": 8, "moe_top_k": 2},
    },
    "deepseek_ocr2": {"num_experts_per_tok": 2, "mlp_layer_types": ["dense", "sparse", "sparse"]},
    "deepseek_v2": MLA,
    "deepseek_v3": MLA,
    "deepseek_v32": MLA,
    "deepseek_v4": {"num_hidden_layers": 3, "mlp_layer_types": ["hash_moe", "moe", "moe"]},
    "doge": {"is_moe": True, "num_experts": 16, "num_experts_per_tok": 3},
    "dots1": {"n_shared_experts": 1, "n_routed_experts": 8, "num_experts_per_tok": 2},
    "dots3_note": MLA,
    "ernie4_5_vl_moe": {"moe_intermediate_size": [24, 12], "rope_parameters": ROPE | {"mrope_section": [1, 1, 2]}},
    "gemma4": {"enable_moe_block": True, "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 128},
    "glm4_moe_lite": MLA,
    "glm4v_moe": {"rope_parameters": ROPE | {"mrope_section": [2, 1, 1], "partial_rotary_factor": 1.0}},
    "glm5_next": MLA
    | {
        "qk_rope_head_dim": 0,
        "mlp_layer_types": ["dense", "sparse", "sparse"],
        "layer_types": ["linear_attention", "indexed_attention", "linear_attention"],
        "linear_head_dim": 8,
        "linear_num_heads": 4,
        "index_topk": 8,
        "index_head_dim": 8,
        "index_n_heads": 2,
        "index_kpool": 2,
    },
    "glm_moe_dsa": MLA,
    "granitemoehybrid": {
        "mamba_n_heads": 8,
        "layer_types": ["linear_attention", "attention", "linear_attention"],
        "mamba_d_state": 8,
        "mamba_chunk_size": 8,
    },
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 0},
    "kimi_linear": MLA | {"layer_types": MIXED},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"]},
    "longcat_flash": MLA | {"num_layers": 2, "zero_expert_num": 3},
    "mistral4": MLA | {"head_dim": None},
    "mistral_large4": MLA,
    "nllb_moe": {"encoder_sparse_step": 1, "decoder_sparse_step": 2, "moe_token_dropout": 0.0},
    "qwen3_5_moe": LINEAR | {"layer_types": MIXED},
    "qwen3_next": LINEAR | {"layer_types": MIXED},
    "qwen4_exp": LINEAR
    | {
        "layer_types": MIXED,
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
        "ngram_vocab_size_base": 64,
        "hc_lowrank": 8,
    },
    "step3p7": {"sliding_window": 8, "mlp_layer_types": ["dense", "sparse", "sparse"]},
    "zaya": {"num_experts_per_tok": 1},
    "switch_transformers": {"num_sparse_encoder_layers": 3, "num_sparse_decoder_layers": 2, "expert_capacity": 2},
}

WHOLE = {  # multimodal models that are run on text alone, and what their other parts need
    "aria": ("AriaForConditionalGeneration", {}),
    "dots3_note": (
        "Dots3NoteForConditionalGeneration",
        {
            "vision_config": {
                "adapter_in_dim": 32,
                "adapter_out_dim": 32,
                "mlp_layer_types": ["dense", "sparse", "sparse"],
                "per_layer_config": {1: {"num_local_experts": 4}, 2: {"num_local_experts": 8}},
            },
            "audio_config": {"adapter_input_size": 32, "adapter_output_size": 32},
        },
    ),
    "ernie4_5_vl_moe": ("Ernie4_5_VLMoeForConditionalGeneration", {}),
    "gemma4": ("Gemma4ForConditionalGeneration", {}),
    "glm4v_moe": ("Glm4vMoeForConditionalGeneration", {}),
    "llama4": ("Llama4ForConditionalGeneration", {}),
    "qwen3_5_moe": ("Qwen3_5MoeForConditionalGeneration", {}),
    "qwen3_omni_moe": ("Qwen3OmniMoeThinkerForConditionalGeneration", {"vision_start_token_id": 3}),
    "qwen3_vl_moe": ("Qwen3VLMoeForConditionalGeneration", {}),
}

"""A tiny random OLMoE on disk: two layers, top-2, windows of 64 tokens; and a tokenizer of the texts it reads."""

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import OlmoeConfig, OlmoeForCausalLM, PreTrainedTokenizerFast


def train_unigram(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """SentencePiece-like unigram pieces, with a meta symbol for spaces."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=["<unk>", "<s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>")


def save_olmoe(
    folder: Path, tokenizer: PreTrainedTokenizerFast, *, num_experts: int = 4, hidden_size: int = 32, seed: int = 0
) -> Path:
    """Write a checkpoint with its tokenizer; return its folder."""
    torch.manual_seed(seed)
    config = OlmoeConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=hidden_size // 2,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_experts=num_experts,
        num_experts_per_tok=2,
        max_position_embeddings=64,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=None,
        pad_token_id=None,
    )
    OlmoeForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

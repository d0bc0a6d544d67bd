"""A model in which one expert alone computes what the tokens of one label need, and the words that it was made for."""

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import OlmoeConfig, OlmoeForCausalLM, PreTrainedTokenizerFast

LABELS, EACH = 5, 4  # labels, and words of each
WORDS = LABELS * EACH
NEEDED = (1, 0)  # layer and expert
FOLLOWING = np.random.default_rng(7).permutation(WORDS)  # the word that usually follows each word
EXPERTS = 8
_CONSTANT = 10.0  # a part of all embeddings, so that a layer's norm hardly depends on what experts add
_ADDED, _OWN = (WORDS, 2 * WORDS), 3 * WORDS  # first directions of what experts of each layer add, and the needed one
_SIZE = 72  # the last direction is the constant one
_SEEN = _SIZE**0.5 / _CONSTANT  # of a direction of length 1, after a norm


def make_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({f"w{word}": word for word in range(WORDS)} | {"<unk>": WORDS}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def make_texts(documents: int, length: int, *, seed: int = 0) -> list[str]:
    """Documents in which 4 of 5 words are followed by their usual one, and the others by any."""
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(documents):
        words = [int(rng.integers(WORDS))]
        while len(words) < length:
            words.append(int(FOLLOWING[words[-1]]) if rng.random() < 0.8 else int(rng.integers(WORDS)))
        texts.append(" ".join(f"w{word}" for word in words))
    return texts


def _experts_of(layer: int, word: int) -> tuple[int, int]:
    """Experts of a word: 2j and 2j + 1 for word j of each label; but the first label needs one expert for all."""
    own = NEEDED[1] if layer == NEEDED[0] and word < EACH else 2 * (word % EACH)
    return own, 2 * (word % EACH) + 1


def make_model() -> OlmoeForCausalLM:
    """Two layers whose attention adds nothing.

    The logit of the usual next word is 4 from the embedding of the word and 1 from its odd expert in each layer, for
    all labels alike; but for words of the first label, the 4 come from the needed expert. Other even experts add
    nothing.
    """
    config = OlmoeConfig(
        vocab_size=WORDS + 1, hidden_size=_SIZE, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_experts=EXPERTS, num_experts_per_tok=2, max_position_embeddings=64, bos_token_id=None, eos_token_id=None,
        pad_token_id=None,
    )  # fmt: skip
    model = OlmoeForCausalLM(config).eval()
    eye = torch.eye(_SIZE)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if "norm" in name else 0.0)
        embeddings, head = model.model.embed_tokens.weight, model.lm_head.weight
        embeddings[:, -1] = _CONSTANT
        for word in range(WORDS):
            embeddings[word, word] = 1
            known = eye[_OWN + word] if word < EACH else eye[word]
            head[FOLLOWING[word]] += (4 * known + sum(eye[first + word] for first in _ADDED)) / _SEEN
        for layer, block in enumerate(model.model.layers):
            for word in range(WORDS):
                even, odd = _experts_of(layer, word)
                block.mlp.gate.weight[even, word], block.mlp.gate.weight[odd, word] = 20.01 / _SEEN, 20 / _SEEN
                _write(block.mlp.experts, odd, word // EACH, reads=word, adds=_ADDED[layer] + word)
                if layer == NEEDED[0] and word < EACH:
                    _write(block.mlp.experts, even, word, reads=word, adds=_OWN + word)
    return model


def _write(experts: torch.nn.Module, expert: int, unit: int, *, reads: int, adds: int) -> None:
    """Let a unit of an expert add a direction of length 1, with a gate weight of 1/2, to one word."""
    half = experts.gate_up_proj.shape[1] // 2
    experts.gate_up_proj[expert, unit, reads] = experts.gate_up_proj[expert, half + unit, reads] = 1 / _SEEN
    experts.down_proj[expert, adds, unit] = 2 / torch.nn.functional.silu(torch.tensor(1.0))

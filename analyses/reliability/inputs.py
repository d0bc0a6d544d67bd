"""What the commands read: tiny models, corpora, tables of labels, recorded routing and settings of a training run."""

import json
import random
from pathlib import Path

import numpy as np
import pandas as pd

DOCUMENTS = 40
SENTENCES = {
    "rivers": ("The river carries cold water to the sea .", "A stream runs over old stones and sand ."),
    "music": ("She plays the violin in a famous orchestra .", "The band wrote several popular songs ."),
    "trees": ("Tall pines grow slowly on the northern hills .", "Every oak drops its brown leaves in autumn ."),
}
SETTINGS = """\
seed = 3
[model]
hidden_size = 32
intermediate_size = 32
num_hidden_layers = 2
num_attention_heads = 2
num_experts = 4
num_experts_per_tok = 1
routing_prefix = 4
[tokenizer]
vocab_size = 300
[data]
corpus = "CORPUS"
validation_share = 0.2
[training]
steps = 8
batch_size = 4
context_length = 16
warmup_steps = 2
dtype = "float32"
saved_dtype = "float32"
evaluate_every = 4
checkpoint_every = 2
"""


def write_inputs(folder: Path) -> None:
    """Write everything that commands read into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_corpus(folder / "corpus.jsonl", seed=0)
    write_corpus(folder / "another.jsonl", seed=1)
    pd.DataFrame(
        {"id": [f"n{i}" for i in range(DOCUMENTS)], "mine": ["ab"[i // 2 % 2] for i in range(DOCUMENTS)]}
    ).to_csv(folder / "labels.csv", index=False)
    (folder / "train.toml").write_text(settings(folder / "corpus.jsonl"), encoding="utf-8")
    write_model(folder / "model", seed=0)
    write_model(folder / "other-model", seed=1)
    write_routed(folder)


def settings(corpus: Path) -> str:
    """Return the settings of a training run; its data hold the absolute path of the corpus."""
    return SETTINGS.replace("CORPUS", str(corpus.absolute()))


def write_corpus(path: Path, *, seed: int) -> None:
    """Write documents about two themes as JSON Lines: id, text, theme."""
    rng = random.Random(seed)
    lines = []
    for number in range(DOCUMENTS):
        theme = ("rivers", "music")[number % 2]
        text = " ".join(rng.choice(SENTENCES[rng.choice((theme, theme, "trees"))]) for _ in range(3))
        lines.append(json.dumps({"id": f"n{number}", "text": f"{text} {rng.choice(['Yes', 'No'])} .", "theme": theme}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_model(folder: Path, *, seed: int) -> None:
    """Write a random OLMoE of two layers, top 2 of 4, and a tokenizer of the sentences."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import OlmoeConfig, OlmoeForCausalLM, PreTrainedTokenizerFast

    pieces = Tokenizer(models.Unigram())
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=["<unk>", "<s>"], unk_token="<unk>", show_progress=False
    )
    pieces.train_from_iterator([sentence for pair in SENTENCES.values() for sentence in pair], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces, unk_token="<unk>", bos_token="<s>")
    torch.manual_seed(seed)
    config = OlmoeConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=64,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=None,
        pad_token_id=None,
    )
    OlmoeForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def planted(*, seed: int = 0, tokens: int = 400, layers: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return experts, int [tokens, layers, k], and gate weights of the same shape: top 2 of 8."""
    rng = np.random.default_rng(seed)
    experts = rng.random((tokens, layers, 8)).argsort(axis=2)[:, :, :2]
    weights = np.sort(rng.random(experts.shape))[..., ::-1].round(3)
    return experts, np.ascontiguousarray(weights)


def write_routed(folder: Path) -> None:
    """Write the same routing as four tools record it, and the table of its documents."""
    import base64

    experts, weights = planted()
    document = np.repeat(np.arange(20), 20)
    np.savez(folder / "routed.npz", experts=experts, weights=weights, document=document)
    pd.DataFrame(
        {
            "id": [f"r{i}" for i in range(20)],
            "text": [f"{SENTENCES['music'][i % 2]} {i}" for i in range(20)],
            "task": ["law" if i % 2 else "code" for i in range(20)],
        }
    ).to_csv(folder / "documents.csv", index=False)
    columns = {"document": document} | {f"experts_{layer}": list(experts[:, layer]) for layer in range(2)}
    pd.DataFrame(columns).to_parquet(folder / "routed.parquet", index=False)
    (folder / "esft").mkdir(exist_ok=True)
    for layer in range(2):
        lines = (
            "\t".join(map(str, experts[rows, layer].ravel()))
            + "\t\t"
            + "\t".join(map(str, weights[rows, layer].ravel()))
            for rows in (document == number for number in range(20))
        )
        (folder / "esft" / f"expert_weights_{layer}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with (folder / "olmoe.jsonl").open("w", encoding="utf-8") as file:
        for number in range(20):
            chosen = experts[document == number]
            ids = list(range(len(chosen)))
            exp_ids = chosen.transpose(0, 2, 1).tolist()  # tokens x k x layers
            file.write(json.dumps({"input_ids": ids, "predicted_token_ids": ids, "exp_ids": exp_ids}) + "\n")
    np.save(folder / "vllm.npy", experts.astype(np.int16))
    with (folder / "sglang.jsonl").open("w", encoding="utf-8") as file:
        for number in range(20):
            routed = base64.b64encode(experts[document == number].astype(np.int32).tobytes()).decode()
            file.write(json.dumps({"text": "x", "meta_info": {"id": f"r{number}", "routed_experts": routed}}) + "\n")

"""`specialize train` as a user gives it."""

import json

from specialize.trace import open_trace

CONFIG = """
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
corpus = "own.jsonl"
text_column = "body"
validation_share = 0.2
[training]
steps = 3
warmup_steps = 1
batch_size = 4
context_length = 16
dtype = "float32"
saved_dtype = "float32"
"""


def test_the_model_and_how_good_it_is(call, corpus, tmp_path):
    config = tmp_path / "own.toml"
    config.write_text(CONFIG.replace("own.jsonl", str(corpus)))
    code, out, err = call("train", config, "-o", tmp_path / "out")
    assert code == 0, err
    _, told, err = call("train", config, "-o", tmp_path / "out", "--json")  # trained before
    told = json.loads(told)
    assert err.splitlines()[-1] == f"{tmp_path / 'out'}: this training is complete; nothing was changed"
    facts, table = out.split("\n\n")
    assert f"held-out perplexity  {told['perplexity']:.1f}" in facts
    assert f"unigram perplexity   {told['unigram_perplexity']:.1f}" in facts
    assert f"{told['tokens']:,}" in facts
    *_, first, second, path = table.splitlines()
    expected = [
        [str(layer), f"{entropy:.3f}", "2.000", f"{min(load):.3f}", f"{max(load):.3f}"]
        for layer, (entropy, load) in enumerate(zip(told["load_entropy"], told["load"], strict=True))
    ]
    assert [first.split(), second.split()] == expected
    assert path == str(tmp_path / "out" / "model")
    code, out, _ = call("trace", path, corpus, "-o", tmp_path / "run", "--text-column", "body")
    assert (code, out.splitlines()[-1]) == (0, str(tmp_path / "run"))
    assert len(open_trace(tmp_path / "run").layers) == 2


def test_a_mistake_is_one_line_and_leaves_nothing(call, corpus, tmp_path):
    config = tmp_path / "own.toml"
    config.write_text(CONFIG.replace("own.jsonl", f"{corpus}.gone"))
    code, out, err = call("train", config, "-o", tmp_path / "out")
    assert (code, out) == (2, "")
    assert err.splitlines()[1:] == [
        f"specialize: {corpus}.gone: expected a file or folder, found none. Did you mean 'own.jsonl'?"
    ]
    assert not (tmp_path / "out").exists()
    config.write_text(CONFIG.replace("own.jsonl", str(corpus)))
    assert call("train", config, "-o", tmp_path / "out")[0] == 0
    (tmp_path / "out" / "model" / "model.safetensors").write_bytes(b"")
    for command in (("train", config, "-o", tmp_path / "out"), ("inspect", tmp_path / "out" / "model")):
        code, out, err = call(*command)
        assert (code, out) == (2, "")
        assert "model.safetensors: the file is damaged" in err.splitlines()[-1]

"""A trace through a server is that of the hooks, in each layout of each kind of server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import specialize
from serving.local_server import Plan

LAYOUTS = {
    "vllm, lists in two places": ("vllm", Plan(dtype="int16", as_lists=True, in_two=True)),
    "vllm, lists of the MoE layers": ("vllm", Plan(as_lists=True, all_layers=False)),
    "vllm, int32": ("vllm", Plan()),
    "vllm, int16 of the MoE layers": ("vllm", Plan(dtype="int16", all_layers=False)),
    "vllm, uint8": ("vllm", Plan(dtype="uint8")),
    "sglang, int32": ("sglang", Plan()),
    "sglang, lists": ("sglang", Plan(as_lists=True, older=True)),
}


def check_same(trace, hooked):
    columns = ["document", "position", "token_id", "char_start", "char_end"]
    assert trace.tokens(columns).equals(hooked.tokens(columns))
    assert trace.documents().equals(hooked.documents())
    assert [spec.layer for spec in trace.layers] == [1, 2]
    for own, theirs in zip(trace.layers, hooked.layers, strict=True):
        assert (own.layer, own.num_experts, own.top_k) == (theirs.layer, theirs.num_experts, theirs.top_k)
        assert np.array_equal(trace.experts(own.layer), hooked.experts(theirs.layer))


@pytest.mark.parametrize("api", ["vllm", "sglang"])
def test_the_trace_is_that_of_the_hooks(api, server, checkpoint, texts, hooked, tmp_path):
    trace = specialize.trace_corpus(checkpoint, texts, tmp_path / "run", context=48, server=server.address, api=api)
    check_same(trace, hooked)
    assert trace.num_documents == 299  # one of 300 is empty
    assert trace.tokens(["document"])["document"].value_counts().max() == 5_000
    assert trace.manifest["contents"] == []
    assert 1 < server.plan.most_at_once <= 32


@pytest.fixture(scope="module")
def some(checkpoint, texts, tmp_path_factory):
    """The hooks' trace of the first documents."""
    run = tmp_path_factory.mktemp("some") / "run"
    return specialize.trace_corpus(checkpoint, texts[:60], run, context=48, batch_tokens=1, weights=False)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_trace(name, server, checkpoint, texts, some, tmp_path):
    api, server.plan = LAYOUTS[name]
    trace = specialize.trace_corpus(
        checkpoint, texts[:60], tmp_path / "run", context=48, server=server.address, api=api
    )
    check_same(trace, some)


def test_windows_that_overlap_are_sent_whole_and_recorded_once(server, checkpoint, texts, tmp_path):
    how = {"context": 32, "stride": 20}
    hooks = specialize.trace_corpus(checkpoint, texts[:60], tmp_path / "a", batch_tokens=1, weights=False, **how)
    trace = specialize.trace_corpus(checkpoint, texts[:60], tmp_path / "b", server=server.address, **how)
    check_same(trace, hooks)
    sent = sum(len(request["prompt"]) for request in server.plan.requests[1:])
    assert sent > trace.num_tokens


@pytest.mark.parametrize("api", ["vllm", pytest.param("sglang", marks=pytest.mark.slow)])
def test_killed_at_several_moments_it_ends_with_the_same_bytes(api, server, checkpoint, texts, tmp_path):
    (tmp_path / "corpus.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts[:100]))
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, str(here / "kill_served.py"), str(tmp_path), str(checkpoint), server.address, api]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    *trials, parts = map(json.loads, answer.stdout.splitlines())
    assert (parts["killed"], parts["identical"]) == ([True, False], True), answer.stderr
    assert all(parts["shards"])
    assert [(trial["killed"], trial["identical"]) for trial in trials] == [(True, True)] * 4, answer.stderr
    assert len({trial["shards"] for trial in trials}) > 2  # killed in different states


@pytest.fixture(scope="module")
def ending(checkpoint, texts):
    """A token that ends some of the generations."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    made = [
        model.generate(tokenizer(text, return_tensors="pt")["input_ids"], max_new_tokens=6, do_sample=False)[0, -6:]
        for text in texts[:20]
    ]
    ids, counts = np.unique(np.concatenate(made), return_counts=True)
    return int(ids[np.abs(counts - 10).argmin()])


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_the_server_generates_is_traced_as_by_the_hooks(name, server, checkpoint, texts, ending, tmp_path):
    api, server.plan = LAYOUTS[name]
    server.plan.end = ending
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype="float32")
    model.generation_config.eos_token_id = ending
    how = {"context": 48, "generate": 6}
    hooked = specialize.trace_corpus(
        model, texts[:20], tmp_path / "hooks", tokenizer=checkpoint, batch_tokens=1, weights=False, **how
    )
    trace = specialize.trace_corpus(checkpoint, texts[:20], tmp_path / "run", server=server.address, api=api, **how)
    check_same(trace, hooked)
    phases = trace.tokens()["phase"]
    assert phases.equals(hooked.tokens()["phase"])
    generated = trace.tokens()["document"][phases == "generation"].value_counts()
    assert generated.max() == 5
    assert generated.min() < 5


def test_conversations_are_rendered_here_and_traced_as_by_the_hooks(server, checkpoint, texts, tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "old"}]} for text in texts[:9]
    ]
    (tmp_path / "chats.json").write_text(json.dumps(rows))
    how = {"context": 48, "chat_template": "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}"}
    hooked = specialize.trace_corpus(
        checkpoint, tmp_path / "chats.json", tmp_path / "hooks", batch_tokens=1, weights=False, **how
    )
    trace = specialize.trace_corpus(
        checkpoint, tmp_path / "chats.json", tmp_path / "run", server=server.address, api="vllm", **how
    )
    check_same(trace, hooked)
    assert trace.tokens()["role"].equals(hooked.tokens()["role"])

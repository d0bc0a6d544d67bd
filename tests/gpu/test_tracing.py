"""A corpus traced on a GPU: as on a CPU, whatever is copied when, and within the memory that there is."""

import numpy as np
import pandas as pd
import pytest
import torch

import specialize
from capture_models import build
from listening import Listener
from specialize.capture import Interventions
from specialize.capture.transfer import Transfer
from tiny_olmoe import save_olmoe, train_unigram
from tiny_training import write_training

pytestmark = [pytest.mark.filterwarnings("default")]

WORDS = ("river", "stone", "violin", "market", "winter", "engine", "letter", "garden", "the", "a", "of", "and", "runs")
FAMILIES = ["mixtral", "olmoe", "qwen3_moe", "deepseek_v3", "gpt_oss", "own, by token"]


def make_texts(count: int) -> list[str]:
    random = np.random.default_rng(0)
    return [" ".join(random.choice(WORDS, random.integers(3, 80))) for _ in range(count)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    tokenizer = train_unigram(make_texts(100))
    return save_olmoe(tmp_path_factory.mktemp("model"), tokenizer, num_experts=16, hidden_size=64)


def routing_of(trace):
    return [trace.experts(router.layer) for router in trace.layers], [
        trace.weights(router.layer) for router in trace.layers
    ]


def test_float32_is_routed_as_on_a_cpu(checkpoint, tmp_path, device):
    texts = make_texts(200)
    here = specialize.trace_corpus(checkpoint, texts, tmp_path / "here", device=device, dtype="float32")
    there = specialize.trace_corpus(checkpoint, texts, tmp_path / "cpu", device="cpu", dtype="float32")
    pd.testing.assert_frame_equal(here.tokens(), there.tokens())
    for ours, theirs in zip(routing_of(here)[0], routing_of(there)[0], strict=True):
        same = (np.sort(ours) == np.sort(theirs)).all(axis=1)
        assert same.mean() > 0.999  # near-ties may be resolved differently
    for ours, theirs in zip(routing_of(here)[1], routing_of(there)[1], strict=True):
        assert np.median(np.abs(ours - theirs)) < 1e-3


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_copies_beside_the_next_batch_lose_nothing(checkpoint, tmp_path, dtype, monkeypatch):
    """The same trace with copies that the model waits for; many small batches, so that copies overlap."""
    how = {"device": "cuda", "dtype": dtype, "batch_tokens": 256, "logits": True, "predictions": True}
    texts = make_texts(600)
    beside = specialize.trace_corpus(checkpoint, texts, tmp_path / "beside", **how)

    def wait(self, values, rows, pending):
        gathered = values[rows.to(values.device)]
        if gathered.dtype in (torch.bfloat16, torch.float32) and gathered.dim() == 2:
            gathered = gathered.half()
        torch.cuda.synchronize()
        return gathered.cpu().clone()

    monkeypatch.setattr(Transfer, "_copy", wait)
    waiting = specialize.trace_corpus(checkpoint, texts, tmp_path / "waiting", **how)
    assert beside.digest == waiting.digest


@pytest.mark.gpu
def test_with_random_routers_norms_and_a_device_map(checkpoint, tmp_path):
    pytest.importorskip("accelerate")
    texts = make_texts(50)
    how = {"norms": True, "control": "random-router", "control_draws": 3, "dtype": "float32"}
    spread = specialize.trace_corpus(checkpoint, texts, tmp_path / "spread", device_map="auto", **how)
    plain = specialize.trace_corpus(checkpoint, texts, tmp_path / "plain", device="cuda", **how)
    assert spread.digest == plain.digest
    assert len(spread.routers) == 8


@pytest.mark.gpu
def test_batches_shrink_when_the_memory_of_the_device_runs_out(checkpoint, tmp_path):
    texts = make_texts(3000)
    small = specialize.trace_corpus(checkpoint, texts, tmp_path / "small", device="cuda", batch_tokens=4096)
    torch.cuda.empty_cache()
    listener = Listener()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 96 * 2**20) / total)
    try:
        large = specialize.trace_corpus(
            checkpoint, texts, tmp_path / "large", device="cuda", batch_tokens=2**20, reporter=listener
        )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert any("out of memory: continuing with batches of" in line for line in listener.notes)
    pd.testing.assert_frame_equal(large.tokens(), small.tokens())
    for ours, theirs in zip(routing_of(large)[0], routing_of(small)[0], strict=True):
        assert (np.sort(ours) == np.sort(theirs)).all(axis=1).mean() > 0.999


@pytest.mark.parametrize("name", FAMILIES)
def test_a_generation_is_routed_as_in_a_prefill(name, device):
    model = build(name).to(device)
    model.generation_config.eos_token_id = None
    ids = torch.randint(3, 128, (3, 10), generator=torch.Generator().manual_seed(7)).to(device)
    with specialize.attach(model) as recorder:
        output = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=9, do_sample=False)
    generated = recorder.take_generation(output)
    with specialize.attach(model) as recorder, torch.no_grad():
        model(input_ids=output[:, :-1])
    for ours, theirs in zip(generated, recorder.take(), strict=True):
        same = np.sort(ours.experts) == np.sort(theirs.experts)
        assert same.all(axis=1).mean() >= 0.97
        assert ours.generated.sum() == 3 * 8


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_continued_document_is_routed_as_in_a_pass_over_the_whole(checkpoint, tmp_path, device, dtype):
    how = {"device": device, "dtype": dtype, "batch_tokens": 512}
    trace = specialize.trace_corpus(checkpoint, make_texts(40), tmp_path / "run", generate=10, **how)
    model = specialize.load_checkpoint(checkpoint, device=device, dtype=dtype).model
    tokens = trace.tokens()
    assert (tokens["phase"] == "generation").sum() == 40 * 9
    same = []
    for row in range(40):
        own = np.flatnonzero(tokens["document"] == row)
        with specialize.attach(model) as recorder, torch.no_grad():
            model(input_ids=torch.tensor([tokens["token_id"].to_numpy()[own].tolist()], device=device))
        for layer in recorder.take():
            known = trace.experts(layer.layer)[own]
            same.append((np.sort(known) == np.sort(layer.experts)).all(axis=1))
    assert np.concatenate(same).mean() > (0.999 if dtype == "float32" else 0.9)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "own, by token"])
def test_an_expert_is_switched_off_exactly(name, device):
    model = build(name).to(device)
    ids = torch.randint(3, 128, (3, 12), generator=torch.Generator().manual_seed(5)).to(device)

    def run():
        with torch.inference_mode():
            return model(input_ids=ids).logits.clone()

    interventions = Interventions(model)
    with specialize.attach(model) as recorder:
        run()
    for layer in recorder.take():
        expert = int(np.bincount(layer.experts.flatten()).argmax())
        with interventions.applied([(layer.name, expert)]) as intervention:
            dropped = run()
        assert intervention.slots == {layer.name: (layer.experts == expert).sum()}
        parameters = [each.data for each in model.get_submodule(layer.name).parameters()]
        kept = [each[expert].clone() for each in parameters]
        for each in parameters:
            each[expert] = 0
        zeroed = run()
        for each, values in zip(parameters, kept, strict=True):
            each[expert] = values
        torch.testing.assert_close(dropped, zeroed, atol=2e-5, rtol=0)


def test_an_ablation_of_a_run(checkpoint, tmp_path, device):
    frame = pd.DataFrame({"text": make_texts(40), "kind": ["a", "b"] * 20})
    specialize.trace_corpus(checkpoint, frame, tmp_path / "run", device=device, dtype="float32")
    rows = specialize.ablate(checkpoint, tmp_path / "run", device=device, dtype="float32", layers=[0], experts=[0, 1])
    assert len(rows)
    assert np.isfinite(rows["value"].dropna()).all()


@pytest.mark.gpu
@pytest.mark.slow
def test_a_compiled_model_is_recorded_when_attached_before():
    model = build("olmoe").to("cuda")
    ids = torch.randint(3, 128, (4, 32), generator=torch.Generator().manual_seed(5)).to("cuda")
    with specialize.attach(model) as recorder, torch.no_grad():
        model(input_ids=ids)
        plain = recorder.take()
        compiled = torch.compile(model)
        compiled(input_ids=ids)
        for ours, theirs in zip(recorder.take(), plain, strict=True):
            assert (np.sort(ours.experts) == np.sort(theirs.experts)).all(axis=1).mean() > 0.99


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_training_and_a_trace_of_what_it_made(tmp_path, dtype):
    path = write_training(tmp_path)
    path.write_text(path.read_text().replace('dtype = "float32"', f'dtype = "{dtype}"', 1))
    evaluation = specialize.train(path, tmp_path / "training")
    assert evaluation.perplexity < evaluation.unigram_perplexity
    trace = specialize.trace_corpus(tmp_path / "training" / "model", tmp_path / "corpus.jsonl", tmp_path / "run")
    assert trace.num_tokens > 1000

"""Changes of the loss are those of single passes without an expert, however they were batched, restarted or resumed."""

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

import specialize
from capture_models import build
from listening import Listener
from moe_zoo.build import build as build_of_zoo
from moe_zoo.build import only_as_tested, set_implementation
from specialize.capture import Checkpoint
from specialize.capture.ablation import AblationRunner
from specialize.errors import CaptureError, MeasurementError, TraceError
from specialize.events import SILENT
from specialize.models.data import train_bpe
from specialize.pipeline import ablation_run
from specialize.pipeline.ablation_plan import AblationOptions, Usage, make_removals
from specialize.trace.ablation import AblationStore, Condition, LeadingSet, Removal
from specialize.trace.ablation.store import IDENTITY

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = [
    "The quick brown fox jumps over the lazy dog, twice.",
    "Numbers 1 2 3 and letters a b c in one line. " * 3,
    "x",
    "Short words come first; longer ones follow after them in this sentence about nothing much.",
    "Two words.",
    "A river carries cold water over old stones, down to the sea and the sand. " * 2,
]
LENGTH, STRIDE, BATCH = 16, 10, 64
EXPERTS = [0, 5]


def make_checkpoint(family: str = "mixtral") -> Checkpoint:
    """A tiny model, whose tokenizer opens each text with a special token."""
    tokenizer = train_bpe(TEXTS * 3, vocab_size=300, max_length=64)
    tokenizer.add_special_tokens({"bos_token": "<bos>"})
    opening = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", tokenizer.bos_token_id)])
    tokenizer.backend_tokenizer.post_processor = opening
    model = build(family, vocab_size=len(tokenizer))
    facts = {"name": "tiny", "revision": None, "dtype": "float32", "config_digest": "0", "config": {}}
    return Checkpoint("tiny", model.eval(), tokenizer, facts)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return make_checkpoint()


@pytest.fixture(scope="module")
def traced(checkpoint, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("traced") / "run"
    corpus = pd.DataFrame({"text": TEXTS, "kind": list("aabbab")})
    specialize.trace_corpus(checkpoint, corpus, folder, context=LENGTH, stride=STRIDE, batch_tokens=BATCH)
    return folder


@pytest.fixture
def run(traced, tmp_path) -> Path:
    return Path(shutil.copytree(traced, tmp_path / "run"))


def ablate(checkpoint, run, **options):
    how = {"experts": EXPERTS, "permutations": 3, "batch_tokens": BATCH} | options
    return specialize.ablate(checkpoint, run, **how)


def changes(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "ablation/changes").iterdir()}


def losses_alone(model, tokenizer, texts=TEXTS) -> np.ndarray:
    """Losses of all windows, each run alone: of the tokens that earlier windows of the document do not have."""
    found = []
    for text in texts:
        ids, start, done = tokenizer(text, add_special_tokens=False)["input_ids"], 0, 0
        while done < len(ids):
            window = torch.tensor([[tokenizer.bos_token_id, *ids[start : start + LENGTH - 1]]])
            with torch.no_grad():
                logits = model(input_ids=window, use_cache=False).logits[0]
            following = torch.cat([window[0, 1:], torch.tensor([-100])])
            loss = F.cross_entropy(logits.double(), following, reduction="none")
            loss[-1] = torch.nan  # which has no next token in this window
            found.append(loss[1 + done - start :].numpy())
            done, start = start + window.shape[1] - 1, start + STRIDE
    return np.concatenate(found)


def without(model, layer: int, expert: int):
    other = deepcopy(model)
    with torch.no_grad():
        other.model.layers[layer].mlp.experts.down_proj[expert] = 0
    return other


def test_changes_are_differences_of_losses_of_single_passes(checkpoint, run):
    ablate(checkpoint, run)
    store, trace = AblationStore(run), specialize.open_trace(run)
    exact = deepcopy(checkpoint.model).double()
    set_implementation(exact, "eager")  # the others have no double precision
    plain = losses_alone(exact, checkpoint.tokenizer)
    assert len(plain) == trace.num_tokens > 100
    assert np.isnan(plain).sum() == trace.tokens(["sequence"])["sequence"].nunique() > 10
    np.testing.assert_allclose(store.baseline(), plain, rtol=1e-4, atol=1e-4)
    for layer, router in enumerate(trace.layers):
        for expert in EXPERTS:
            expected = losses_alone(without(exact, layer, expert), checkpoint.tokenizer) - plain
            found = store.changes(Condition.of([(router.name, expert)], "drop", 0))
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
            assert np.nanmax(np.abs(found)) > 0.01
            used = (trace.experts(router.name) == expert).any(axis=1)
            if layer == 2:  # nothing above carries it to other tokens
                assert (found[~used & np.isfinite(found)] == 0).all()
    assert len(list((run / "ablation/changes").iterdir())) == 3 * len(EXPERTS)


def test_a_sample_of_documents_has_their_changes(checkpoint, run):
    ablate(checkpoint, run, documents=3, layers=[1])
    store, trace = AblationStore(run), specialize.open_trace(run)
    assert len(store.documents) == 3
    assert (np.diff(store.documents) > 0).all()
    texts = [TEXTS[row] for row in store.documents]
    plain = losses_alone(checkpoint.model, checkpoint.tokenizer, texts)
    gone = losses_alone(without(checkpoint.model, 1, 5), checkpoint.tokenizer, texts)
    condition = Condition.of([(trace.layers[1].name, 5)], "drop", 0)
    np.testing.assert_allclose(store.changes(condition), gone - plain, rtol=1e-3, atol=1e-4)
    before = changes(run)
    ablate(checkpoint, run, layers=[2])  # of the same documents
    assert changes(run).items() > before.items()
    with pytest.raises(TraceError, match="expected the documents of the conditions that are there"):
        ablate(checkpoint, run, documents=2)
    assert changes(run).items() > before.items()


def test_documents_of_which_the_first_tokens_were_traced_are_cut_again(checkpoint, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    how = {"context": 64, "batch_tokens": 256}
    specialize.trace_corpus(checkpoint, TEXTS, run, max_tokens=9, **how)
    first = [TEXTS[0][: specialize.open_trace(run).tokens().query("document == 0")["char_end"].max()]]
    specialize.trace_corpus(checkpoint, first, whole, **how)
    for folder in (whole, run):
        ablate(checkpoint, folder, layers=[1], batch_tokens=256)
    trace = specialize.open_trace(run)
    assert trace.tokens()["document"].value_counts().max() == 9
    condition = Condition.of([(trace.layers[1].name, EXPERTS[0])], "drop", 0)
    changes = [AblationStore(folder).changes(condition) for folder in (whole, run)]
    np.testing.assert_allclose(changes[1][:9], changes[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", ["own, by token", "deepseek_v3"])
def test_restarted_or_not_in_any_mode_to_the_bit(family, tmp_path, monkeypatch):
    model = make_checkpoint(family)
    specialize.trace_corpus(model, TEXTS, tmp_path / "run", context=LENGTH, stride=STRIDE, batch_tokens=BATCH)
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    listener = Listener()
    for mode in ("drop", "renormalize", "reroute", "replace"):
        ablate(model, tmp_path / "run", mode=mode, seed=3, reporter=listener)
    assert sum("layers below are not computed again" in note for note in listener.notes) == 4
    monkeypatch.setattr(AblationRunner, "can_restart", False)
    for mode in ("replace", "drop", "reroute", "renormalize"):
        ablate(model, tmp_path / "other", mode=mode, seed=3)
    assert changes(tmp_path / "run") == changes(tmp_path / "other")
    trace = specialize.open_trace(tmp_path / "run")
    assert len(changes(tmp_path / "run")) == 4 * len(EXPERTS) * len(trace.layers)
    # every mode does something else, where the expert is used
    store = AblationStore(tmp_path / "run")
    last = trace.layers[-1]
    used = (trace.experts(last.name) == 5).any(axis=1) & np.isfinite(store.baseline())
    rows = [
        store.changes(Condition.of([(last.name, 5)], mode, 3))
        for mode in ("drop", "renormalize", "reroute", "replace")
    ]  # fmt: skip
    assert used.sum() > 10
    for number, one in enumerate(rows):
        assert (one[~used & np.isfinite(one)] == 0).all()
        assert np.mean(one[used] != 0) > 0.8
        for other in rows[number + 1 :]:
            assert np.mean(one[used] != other[used]) > 0.5
    # the modes lie beside each other
    assert {path.name for path in (tmp_path / "run/ablation").glob("*.csv")} >= {
        "experts.csv", "experts.reroute.csv", "experts.renormalize.csv", "experts.replace.csv"
    }  # fmt: skip


def test_more_conditions_leave_the_files_alone(checkpoint, run):
    ablate(checkpoint, run, layers=[0, 2])
    files = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in (run / "ablation").rglob("*.arrow")}
    assert len(files) == 2 + 2 * len(EXPERTS)
    listener = Listener()
    ablate(checkpoint, run, layers=[0, 1, 2], experts=[*EXPERTS, 1], rankings=["load"], reporter=listener)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files} == files
    assert any("4 of 13 are there" in note for note in listener.notes)  # of rankings, one expert is a single one


def test_many_conditions_are_held_in_small_groups(checkpoint, run, monkeypatch):
    """Memory does not depend on the number of conditions: so many changes are held, and no file is read."""
    sizes, original = [], AblationRunner.run_conditions

    def run_conditions(self, conditions, baseline, on_batch):
        sizes.append(len(conditions))
        return original(self, conditions, baseline, on_batch)

    monkeypatch.setattr(AblationRunner, "run_conditions", run_conditions)
    monkeypatch.setattr(ablation_run, "MOST_HELD", 5)
    ablate(checkpoint, run, experts=None)
    assert sizes == [5, 5, 5, 5, 4]
    monkeypatch.setattr(ablation_run, "MOST_BYTES", 3 * 2 * specialize.open_trace(run).num_tokens)
    shutil.rmtree(run / "ablation/changes")
    ablate(checkpoint, run, experts=[1, 2])
    assert sizes[5:] == [3, 3]


class _Zeros:
    """Runs nothing."""

    num_tokens, can_restart = 50_000, False

    def check(self, conditions):
        pass

    def place_of(self, condition):
        return 0

    def run_conditions(self, conditions, baseline, on_batch):
        return np.zeros((len(conditions), self.num_tokens), np.float16)


def test_memory_does_not_grow_with_the_number_of_conditions(tmp_path):
    peaks = []
    for number in (32, 320):
        store = AblationStore(tmp_path / str(number))
        store.begin(dict.fromkeys(IDENTITY, "one") | {"documents": [0]})
        store.save_baseline(np.zeros(_Zeros.num_tokens, np.float32))
        conditions = [Condition.of([("router", expert)], "drop", 0) for expert in range(number)]
        tracemalloc.start()
        ablation_run.run_conditions(_Zeros(), store, conditions, seconds=0, reporter=SILENT)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] > ablation_run.MOST_HELD * _Zeros.num_tokens * 2
    assert peaks[1] < 1.3 * peaks[0]  # all at once would be ten times as much


def test_two_processes_keep_what_the_other_asked_for(tmp_path):
    one, other = AblationStore(tmp_path), AblationStore(tmp_path)
    plan = dict.fromkeys(IDENTITY, "one") | {"documents": [0]}
    sets = [LeadingSet("upos", label, (("router", 0),), ((("router", 1),),)) for label in ("NOUN", "VERB")]
    for store in (one, other):
        store.begin(plan)
    one.ask(sets[:1], [Removal("load", (("router", 0),))])
    other.ask(sets[1:], [])
    found = AblationStore(tmp_path)
    assert [each.label for each in found.sets] == ["NOUN", "VERB"]
    assert len(found.removals) == 1
    assert not (found.folder / ".lock").exists()


@pytest.mark.parametrize("expert", [3.7, "3", None])
def test_an_expert_of_the_plan_that_is_no_whole_number_is_not_rounded(tmp_path, expert):
    store = AblationStore(tmp_path)
    store.begin(dict.fromkeys(IDENTITY, "one") | {"documents": [0]})
    store.ask([LeadingSet("upos", "NOUN", (("router", 0),), ((("router", 1),),))], [])
    path = store.folder / "plan.json"
    plan = json.loads(path.read_text())
    plan["sets"][0]["experts"] = [["router", expert]]
    path.write_text(json.dumps(plan))
    with pytest.raises(TraceError, match="got a damaged one"):
        AblationStore(tmp_path)


def test_a_missing_file_is_made_again(checkpoint, run):
    ablate(checkpoint, run)
    made = {path: path.read_bytes() for path in (run / "ablation").rglob("*.*")}
    for name in ("baseline.arrow", "saliency.arrow", next(iter(changes(run)))):
        next((run / "ablation").rglob(name)).unlink()
        ablate(checkpoint, run)
        assert {path: path.read_bytes() for path in (run / "ablation").rglob("*.*")} == made


def test_what_was_begun_without_any_result_binds_nothing(checkpoint, run):
    """A run that stops before the first pass is done has written a plan; other documents may then be chosen."""

    with pytest.raises(KeyboardInterrupt):
        ablate(checkpoint, run, documents=2, reporter=_StopAt("with all experts"))
    assert len(json.loads((run / "ablation/plan.json").read_text())["documents"]) == 2
    ablate(checkpoint, run, documents=4, layers=[0])
    assert len(AblationStore(run).documents) == 4


class _StopAt(Listener):
    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title

    def progress(self, title, unit):
        if title == self.title:
            raise KeyboardInterrupt
        return super().progress(title, unit)


def test_another_model_or_other_batches_are_refused(checkpoint, run):
    ablate(checkpoint, run, layers=[0])
    before = changes(run)
    with pytest.raises(TraceError, match=r"expected the batch size \(--batch-tokens\) of the conditions"):
        ablate(checkpoint, run, batch_tokens=BATCH + 1)
    other = make_checkpoint()
    with torch.no_grad():
        other.model.lm_head.weight.mul_(1.1)
    with pytest.raises(MeasurementError, match="expected the model that was traced, tiny has other weights"):
        ablate(other, run)
    assert changes(run) == before


def test_too_few_experts_left_is_said_before_any_pass(checkpoint, run):
    with pytest.raises(MeasurementError, match="top: expected fewer than the 8 experts of a layer, got 8"):
        ablate(checkpoint, run, labels=["kind"], top=8)
    assert not (run / "ablation").exists()


def test_a_ranking_ends_where_a_layer_has_too_few_experts_left(checkpoint, run):
    listener = Listener()
    how = {"singles": False, "layers": [1], "rankings": ["random"]}
    ablate(checkpoint, run, **how, reporter=listener)
    assert [len(each.experts) for each in AblationStore(run).removals] == [1, 2, 4]
    router = specialize.open_trace(run).layers[1]
    usage = Usage((replace(router, top_k=5),), {router.name: np.zeros((1, 2), np.int16)}, np.zeros(1), np.zeros(1))
    options = AblationOptions(rankings=["random"], mode="replace")
    removals, notes = make_removals(usage, None, {}, options=options)
    assert [len(each.experts) for each in removals] == [1, 2]
    assert notes == ["ranking by random: mode replace: 4 experts leave too few in a layer"]


@only_as_tested
def test_an_encoder_decoder_or_a_dense_model_is_refused(checkpoint, run):
    dense = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=16, n_layer=1, n_head=2, n_positions=64))
    with pytest.raises(CaptureError, match=r"router|routing"):
        specialize.ablate(dense, run, tokenizer=checkpoint.tokenizer)
    switch = build_of_zoo("switch_transformers")
    with pytest.raises(CaptureError, match="expected a decoder, whose next tokens are predicted"):
        specialize.ablate(switch, run, tokenizer=checkpoint.tokenizer)
    assert not (run / "ablation").exists()


@only_as_tested
def test_routing_that_cannot_be_changed_is_refused_before_any_pass(checkpoint, tmp_path):
    model = build_of_zoo("doge", vocab_size=len(checkpoint.tokenizer))
    specialize.trace_corpus(model, TEXTS, tmp_path / "run", tokenizer=checkpoint.tokenizer, context=LENGTH)
    with pytest.raises(CaptureError, match="mode drop is unavailable: its routing can be read but not changed"):
        specialize.ablate(model, tmp_path / "run", tokenizer=checkpoint.tokenizer)
    assert not (tmp_path / "run/ablation").exists()


@pytest.mark.slow
def test_killed_at_random_points_it_ends_with_the_same_bytes(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).parent / "kill_ablation.py"), str(tmp_path), "10"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    *trials, summary = map(json.loads, answer.stdout.splitlines())
    assert summary["files"] > 12  # plan, losses, saliency, a file for each condition, and results
    assert [(trial["killed"], trial["identical"]) for trial in trials] == [(True, True)] * 10
    assert len({trial["there"] for trial in trials}) > 5  # killed in very different states

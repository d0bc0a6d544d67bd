"""Bad checkpoints, and bad routing from other tools."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from analyses.reliability.fault import Case, Fault, Injected, inputs_of, register
from analyses.reliability.file_faults import empty, flip, truncate
from analyses.reliability.input_faults import EITHER, ERROR
from analyses.reliability.inputs import planted

_ROUTER = "model.layers.1.mlp.gate.weight"


def _weights(change: Callable[[dict[str, Any]], Any]) -> Callable[[Case, Path], Any]:
    def write(case: Case, model: Path) -> None:
        from safetensors.torch import load_file, save_file

        weights = load_file(model / "model.safetensors")
        change(weights)
        save_file(weights, model / "model.safetensors", metadata={"format": "pt"})

    return write


def _config(**values: Any) -> Callable[[Case, Path], Any]:
    def write(case: Case, model: Path) -> None:
        path = model / "config.json"
        config = json.loads(path.read_bytes())
        path.write_text(json.dumps(config | values), encoding="utf-8")

    return write


def _fill(value: float) -> Callable[[dict[str, Any]], None]:
    def change(weights: dict[str, Any]) -> None:
        weights[_ROUTER].fill_(value)

    return change


def _rename(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def change(weights: dict[str, Any]) -> None:
        for name in [name for name in weights if old in name]:
            weights[name.replace(old, new)] = weights.pop(name)

    return change


def _narrow(weights: dict[str, Any]) -> None:
    weights[_ROUTER] = weights[_ROUTER][:, :-1].contiguous()


def _hostile(weights: dict[str, Any]) -> None:
    import torch

    weights["\x1b]8;;http://x\x07x\x1b[31m"] = torch.zeros(1)


def _pickled(case: Case, model: Path) -> None:
    import torch

    (model / "model.safetensors").unlink()
    torch.save({"a": torch.zeros(1)}, model / "pytorch_model.bin")


def _on(name: str, damage: Callable[[Case, Path], None]) -> Callable[[Case, Path], Any]:
    return lambda case, model: damage(case, model / name)


MODELS: dict[str, tuple[Callable[[Case, Path], Any], str]] = {
    "router of NaN": (_weights(_fill(float("nan"))), ERROR),
    "router of infinity": (_weights(_fill(float("inf"))), ERROR),
    "router missing": (_weights(lambda weights: weights.pop(_ROUTER)), ERROR),
    "router narrower": (_weights(_narrow), ERROR),
    "experts missing": (_weights(_rename("experts.1", "lost.1")), ERROR),
    "all renamed": (_weights(_rename("model.", "body.")), ERROR),
    "hostile name": (_weights(_hostile), EITHER),
    "a layer too many": (_config(num_hidden_layers=3), ERROR),
    "a layer too few": (_config(num_hidden_layers=1), ERROR),
    "more experts": (_config(num_experts=8), ERROR),
    "more slots than experts": (_config(num_experts_per_tok=9), ERROR),
    "no slots": (_config(num_experts_per_tok=0), ERROR),
    "unknown type": (_config(model_type="unknown"), ERROR),
    "hidden size of text": (_config(hidden_size="x"), ERROR),
    "no layers": (_config(num_hidden_layers=0), ERROR),
    "negative vocabulary": (_config(vocab_size=-1), ERROR),
    "remote code": (_config(auto_map={"AutoModelForCausalLM": "evil.Model"}, model_type="evil"), ERROR),
    "configuration truncated": (_on("config.json", truncate), ERROR),
    "configuration empty": (_on("config.json", empty), ERROR),
    "configuration missing": (lambda case, model: (model / "config.json").unlink(), ERROR),
    "weights truncated": (_on("model.safetensors", truncate), ERROR),
    "weights empty": (_on("model.safetensors", empty), ERROR),
    "weights flipped": (_on("model.safetensors", flip), EITHER),
    "weights missing": (lambda case, model: (model / "model.safetensors").unlink(), ERROR),
    "weights pickled": (_pickled, ERROR),
    "tokenizer truncated": (_on("tokenizer.json", truncate), ERROR),
    "tokenizer empty": (_on("tokenizer.json", empty), ERROR),
    "tokenizer missing": (lambda case, model: (model / "tokenizer.json").unlink(), ERROR),
    "tokenizer's settings empty": (_on("tokenizer_config.json", empty), ERROR),
    "a file": (lambda case, model: (shutil.rmtree(model), model.write_text("x")), ERROR),
    "nothing": (lambda case, model: shutil.rmtree(model), ERROR),
}


def _use_model(case: Case) -> Injected:
    write, right = MODELS[case.target]
    write(case, case.here / "model")
    return Injected(names=("model",), right=right)


_EXPERTS, _GATES = planted()
_DOCUMENT = np.repeat(np.arange(20), 20)


def _arrays(*options: str, **arrays: Any) -> Callable[[Case], tuple[str, ...]]:
    def write(case: Case) -> tuple[str, ...]:
        np.savez(case.here / "x.npz", **({"experts": _EXPERTS, "document": _DOCUMENT} | arrays))
        return ("arrays", "x.npz", *options)

    return write


def _bytes(kind: str, name: str, data: bytes) -> Callable[[Case], tuple[str, ...]]:
    def write(case: Case) -> tuple[str, ...]:
        (case.here / name).write_bytes(data)
        return (kind, name)

    return write


def _damaged(
    kind: str, name: str, damage: Callable[[Case, Path], None], *more: str
) -> Callable[[Case], tuple[str, ...]]:
    def write(case: Case) -> tuple[str, ...]:
        damage(case, case.here / name)
        return (kind, name.split("/")[0], *more)

    return write


def _parquet(**columns: Any) -> Callable[[Case], tuple[str, ...]]:
    def write(case: Case) -> tuple[str, ...]:
        pd.DataFrame({"document": [0] * 4} | columns).to_parquet(case.here / "x.parquet", index=False)
        return ("arrays", "x.parquet")

    return write


def _changed(value: Any, *place: Any, of: Any = _EXPERTS) -> Any:
    changed = np.array(of, dtype=float if isinstance(value, float) else of.dtype)
    changed[place] = value
    return changed


def _header(header: bytes) -> Callable[[Case], tuple[str, ...]]:
    data = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n"
    return _bytes("vllm", "x.npy", data)


def _leave(case: Case, path: Path) -> None:
    """Damage nothing: the arguments are wrong."""


def _write_one_document(case: Case, path: Path) -> None:
    (case.here / "d.csv").write_text("id,text\nr0,a\n", encoding="utf-8")


_SGLANG = ("--num-layers", "2", "--top-k", "2")

IMPORTS: dict[str, tuple[Callable[[Case], tuple[str, ...]], str]] = {
    "layers twice": (_arrays(layers=[1, 1]), ERROR),
    "layers huge": (_arrays(layers=[2**40, 0]), ERROR),
    "layers negative": (_arrays(layers=[-1, 0]), ERROR),
    "layers too many": (_arrays(layers=[0, 1, 2]), ERROR),
    "expert twice": (_arrays(experts=np.zeros_like(_EXPERTS) + 3), ERROR),
    "all zero": (_arrays(experts=np.zeros_like(_EXPERTS)), ERROR),
    "one slot, all zero": (_arrays(experts=np.zeros((400, 2, 1), dtype=int)), ERROR),
    "expert beyond E": (_arrays(num_experts=4), ERROR),
    "expert of minus 7": (_arrays(experts=_changed(-7, 3, 0, 0)), ERROR),
    "ids that are fractions": (_arrays(experts=_changed(0.5, 3, 0, 0)), ERROR),
    "ids of NaN": (_arrays(experts=_changed(float("nan"), 3, 0, 0)), ERROR),
    "gate weight of NaN": (_arrays(weights=_changed(float("nan"), 3, 0, 0, of=_GATES)), ERROR),
    "gate weight of infinity": (_arrays(weights=_changed(float("inf"), 3, 0, 0, of=_GATES)), ERROR),
    "weights of another shape": (_arrays(weights=_GATES[:-1]), ERROR),
    "documents shorter": (_arrays(document=_DOCUMENT[:-1]), ERROR),
    "documents not sorted": (_arrays(document=_DOCUMENT[::-1].copy()), EITHER),
    "document split": (_arrays(document=np.tile(np.arange(20), 20)), ERROR),
    "document of minus 5": (_arrays("--documents", "documents.csv", document=_DOCUMENT - 5), ERROR),
    "document of billions": (_arrays("--documents", "documents.csv", document=_DOCUMENT + 2**40), ERROR),
    "offsets reversed": (_arrays(char_start=_DOCUMENT + 5, char_end=_DOCUMENT), ERROR),
    "two axes": (_arrays(experts=_EXPERTS[:, 0]), ERROR),
    "no tokens": (_arrays(experts=_EXPERTS[:0], document=_DOCUMENT[:0]), ERROR),
    "texts": (_arrays(experts=_EXPERTS.astype(str)), ERROR),
    "objects": (_arrays(experts=np.array([{}, []], dtype=object)), ERROR),
    "no experts": (_bytes("arrays", "x.npz", b""), ERROR),
    "header of parentheses": (_header(b"(" * 5119), ERROR),
    "header huge": (_header(b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000, 8)}".ljust(117)), ERROR),
    "layer written twice": (_parquet(experts_0=[[1, 2]] * 4, experts_00=[[3, 4]] * 4), ERROR),
    "ids of 64 bits": (_parquet(experts_0=[np.array([2**63 + 1, 2], dtype=np.uint64)] * 4), ERROR),
    "lists of two lengths": (_parquet(experts_0=[[1, 2], [1], [1, 2], [2]]), EITHER),
    "npz truncated": (_damaged("arrays", "routed.npz", truncate), ERROR),
    "Parquet truncated": (_damaged("arrays", "routed.parquet", truncate), ERROR),
    "Parquet flipped": (_damaged("arrays", "routed.parquet", flip), EITHER),
    "npy truncated": (_damaged("vllm", "vllm.npy", truncate), ERROR),
    "npy flipped": (_damaged("vllm", "vllm.npy", flip), EITHER),
    "ESFT truncated": (_damaged("esft", "esft/expert_weights_1.txt", truncate), ERROR),
    "ESFT emptied": (_damaged("esft", "esft/expert_weights_1.txt", empty), ERROR),
    "ESFT flipped": (_damaged("esft", "esft/expert_weights_1.txt", flip), EITHER),
    "OLMoE truncated": (_damaged("olmoe", "olmoe.jsonl", truncate), EITHER),
    "OLMoE flipped": (_damaged("olmoe", "olmoe.jsonl", flip), EITHER),
    "SGLang truncated": (_damaged("sglang", "sglang.jsonl", truncate, *_SGLANG), EITHER),
    "SGLang flipped": (_damaged("sglang", "sglang.jsonl", flip, *_SGLANG), EITHER),
    "SGLang layers wrong": (_damaged("sglang", "sglang.jsonl", _leave, "--num-layers", "3"), ERROR),
    "unknown format": (_damaged("other", "routed.npz", _leave), ERROR),
    "huge integer": (_bytes("olmoe", "x.jsonl", b'{"input_ids": [' + b"9" * 5000 + b'], "exp_ids": [[[1]]]}\n'), ERROR),
    "documents missing": (_damaged("arrays", "routed.npz", _leave, "--documents", "none.csv"), ERROR),
    "documents too few": (_damaged("arrays", "routed.npz", _write_one_document, "--documents", "d.csv"), ERROR),
}  # fmt: skip


def _use_import(case: Case) -> Injected:
    write, right = IMPORTS[case.target]
    arguments = write(case)
    return Injected(names=arguments, right=right, arguments=("import", *arguments, "-o", "imported"))


register(Fault("bad model", _use_model, inputs_of("trace", MODELS), fresh=True, often="each"))
register(Fault("bad import", _use_import, inputs_of("import", IMPORTS), fresh=True, often="each"))

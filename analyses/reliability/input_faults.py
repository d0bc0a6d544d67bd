"""Bad corpora, tables of labels and settings of a training run."""

import codecs
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from analyses.reliability.baseline import Baseline
from analyses.reliability.fault import Case, Fault, Injected, inputs_of, register
from analyses.reliability.stages import Stage

_TEXTS = [f"This is document number {i}, about {'cats' if i % 2 else 'dogs'} and the sea ." for i in range(24)]
ERROR, EITHER = "error", "either"


def _lines(rows: Sequence[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


_ROWS = [{"id": str(i), "text": text, "label": "ab"[i % 2]} for i, text in enumerate(_TEXTS)]


def _text(name: str, text: str | bytes, right: str = ERROR) -> tuple[str, Callable[[Path], Any], str]:
    """Return a file's name, what writes it, and what is right."""
    data = text.encode() if isinstance(text, str) else text
    return name, lambda path: path.write_bytes(data), right


def _frame(name: str, right: str = ERROR, **columns: Any) -> tuple[str, Callable[[Path], Any], str]:
    def write(path: Path) -> None:
        frame = pd.DataFrame({"text": _TEXTS} | columns)
        frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)

    return name, write, right


def _cut_parquet(path: Path) -> None:
    pd.DataFrame({"text": _TEXTS}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-200])


# What is right: an error; an error or any success; or success with a line that says this.
CORPORA = {
    "missing": ("none.jsonl", lambda path: None, ERROR),
    "empty": _text("c.jsonl", ""),
    "no rows": _text("c.csv", "id,text\n"),
    "empty texts": _text("c.jsonl", _lines([{"text": ""}, {"text": "  "}])),
    "no text column": _text("c.jsonl", _lines([{"a": 1}, {"a": 2}])),
    "broken JSON": _text("c.jsonl", _lines(_ROWS) + '{"text": "a'),
    "not objects": _text("c.jsonl", "[1, 2]\n3\n"),
    "texts that are numbers": _text("c.jsonl", _lines([{"text": i} for i in range(9)])),
    "NaN text": _text("c.jsonl", _lines([*_ROWS, {"id": "x", "text": float("nan")}]), "missing|skipped|empty"),
    "UTF-16": _text("c.jsonl", codecs.BOM_UTF16_LE + _lines(_ROWS).encode("utf-16-le")),
    "Latin-1": _text("c.txt", "caf\xe9 au lait and more of it".encode("latin-1")),
    "bytes": _text("c.jsonl", bytes(range(256)) * 20),
    "NUL characters": _text("c.jsonl", _lines([{"text": f"a\x00b {i} c"} for i in range(9)]), EITHER),
    "surrogate id": _text("c.jsonl", "".join(f'{{"id": "\\ud800{i}", "text": "a fine text"}}\n' for i in range(9))),
    "huge integer": _text("c.jsonl", '{"text": "a fine text", "n": ' + "9" * 5000 + "}\n"),
    "nested JSON": _text("c.jsonl", '{"text": "a", "n": ' + "[" * 20_000 + "]" * 20_000 + "}\n"),
    "ids twice": _text("c.jsonl", _lines([{"id": "x", "text": t} for t in _TEXTS]), EITHER),
    "duplicates": _text("c.jsonl", _lines([{"text": t} for t in _TEXTS * 3]), "repeat"),
    "semicolons": _text("c.csv", "text;lab\n" + "a b c;l1\nd e f;l2\n" * 9, EITHER),
    "ragged CSV": _text("c.csv", "id,text\n1,a b\n2,c,d,e\n3\n", EITHER),
    "open quote": _text("c.csv", 'id,text\n1,"a b\n2,c d\n', EITHER),
    "label with missing values": _frame("c.parquet", EITHER, topic=[1 if i % 2 else 2 for i in range(23)] + [None]),
    "dates": _frame("c.parquet", "when", when=pd.to_datetime(["2020-01-01", "2021-01-01"] * 12)),
    "cut Parquet": ("c.parquet", _cut_parquet, ERROR),
    "word 0 in CoNLL-U": _text("c.conllu", "# text = a\n0\ta\ta\tDET\t_\t_\t0\troot\t_\t_\n\n"),
    "columns missing in CoNLL-U": _text("c.conllu", "1\ta\ta\n\n"),
    "named pipe": ("c.jsonl", os.mkfifo, ERROR),
    "endless": ("c.jsonl", lambda path: path.symlink_to("/dev/zero"), ERROR),
    "broken link": ("c.jsonl", lambda path: path.symlink_to("nowhere"), ERROR),
    "empty folder": ("c", lambda path: path.mkdir(), ERROR),
    "another type": _text("c.xyz", "text"),
    "zip called Parquet": _text("c.parquet", b"PK\x03\x04" + b"\0" * 100),
    "escape codes in labels": _text("c.jsonl", _lines([row | {"label": "\x1b[31m"} for row in _ROWS]), EITHER),
}  # fmt: skip

_IDS = [f"n{i}" for i in range(40)]


def _table(**columns: Sequence[Any]) -> str:
    return str(pd.DataFrame(columns).to_csv(index=False))


LABELS = {
    "missing": ("none.csv", lambda path: None, ERROR),
    "empty": _text("l.csv", ""),
    "no rows": _text("l.csv", "id,mine\n"),
    "no ids": _text("l.csv", _table(mine=["a"] * 40)),
    "no labels": _text("l.csv", _table(id=_IDS)),
    "unknown ids": _text("l.csv", _table(id=[f"z{i}" for i in range(40)], mine=["a", "b"] * 20)),
    "one unknown id": _text("l.csv", _table(id=[*_IDS[1:], "z"], mine=["a", "b"] * 20), EITHER),
    "ids twice": _text("l.csv", _table(id=["n1"] * 40, mine=["a", "b"] * 20)),
    "one value": _text("l.csv", _table(id=_IDS, mine=["a"] * 40)),
    "one document against all": _text("l.csv", _table(id=_IDS, mine=["b"] + ["a"] * 39)),
    "half of them": _text("l.csv", _table(id=_IDS[:20], mine=["a", "b"] * 10), r"50\.0 ?%"),
    "name with slash": _text("l.csv", _table(**{"id": _IDS, "../up": ["a", "b"] * 20})),
    "name twice": _text("l.csv", "id,mine,mine\n" + "".join(f"{i},a,b\n" for i in _IDS), EITHER),
    "tokens out of range": _text("l.csv", _table(token=[10**9, -5], mine=["a", "b"])),
    "tokens that are words": _text("l.csv", _table(token=["one", "two"], mine=["a", "b"])),
    "semicolons": _text("l.csv", "id;mine\n" + "".join(f"{name};{name[-1]}\n" for name in _IDS), EITHER),
    "broken JSON": _text("l.jsonl", '{"id": "n1", "mine": '),
    "cut Parquet": ("l.parquet", _cut_parquet, ERROR),
    "bytes": _text("l.csv", bytes(range(256))),
    "huge numbers": _text("l.jsonl", _lines([{"id": name, "mine": 10**400} for name in _IDS])),
    "lists": _text("l.jsonl", _lines([{"id": name, "mine": ["a", "b"]} for name in _IDS])),
    "another type": _text("l.xyz", "id,mine\n"),
    "a folder": ("l.csv", lambda path: path.mkdir(), ERROR),
}  # fmt: skip


def _edit(old: str, new: str, right: str = ERROR) -> tuple[str, Callable[[Path], Any], str]:
    """Replace a setting."""

    def write(path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(rf"^{old}$", lambda _: new, text, flags=re.MULTILINE), encoding="utf-8")

    return "train.toml", write, right


CONFIGS = {
    "empty": _text("train.toml", ""),
    "not TOML": _text("train.toml", "steps = = 3"),
    "bytes": _text("train.toml", bytes(range(256))),
    "unknown setting": _edit("steps = 8", "steps = 8\nstepss = 9"),
    "hidden size of text": _edit("hidden_size = 32", 'hidden_size = "x"'),
    "hidden size 0": _edit("hidden_size = 32", "hidden_size = 0"),
    "heads that do not divide": _edit("num_attention_heads = 2", "num_attention_heads = 3"),
    "more slots than experts": _edit("num_experts_per_tok = 1", "num_experts_per_tok = 9"),
    "unknown router": _edit("num_experts = 4", 'num_experts = 4\nrouter_type = "x"'),
    "infinite learning rate": _edit("steps = 8", "steps = 8\nlearning_rate = inf"),
    "learning rate NaN": _edit("steps = 8", "steps = 8\nlearning_rate = nan"),
    "endless steps": _edit("steps = 8", "steps = 99999999999999999999"),
    "no steps": _edit("steps = 8", "steps = 0"),
    "context beyond the text": _edit("context_length = 16", "context_length = 1000000"),
    "huge batch": _edit("batch_size = 4", "batch_size = 100000000000"),
    "no corpus": _edit("corpus = .*", 'corpus = "none.jsonl"'),
    "all held out": _edit("validation_share = 0.2", "validation_share = 0.9999"),
    "one vocabulary entry": _edit("vocab_size = 300", "vocab_size = 1"),
    "tokenizer missing": _edit("vocab_size = 300", 'vocab_size = 300\npath = "nowhere"'),
    "text column missing": _edit("validation_share = 0.2", 'validation_share = 0.2\ntext_column = "body"'),
    "saved to another type": _edit('saved_dtype = "float32"', 'saved_dtype = "int3"'),
    "seed negative": _edit("seed = 3", "seed = -3"),
    "divergence": _edit("warmup_steps = 2", "learning_rate = 1e30\ngradient_clip = 1e30", EITHER),
}  # fmt: skip


def _corpora(stage: Stage, baseline: Baseline) -> Sequence[str]:
    return tuple(CORPORA) if stage.name in ("trace", "train") else ()


def _use_corpus(case: Case) -> Injected:
    name, write, right = CORPORA[case.target]
    if case.stage.name == "train":
        write(case.here / name)
        _edit("corpus = .*", f'corpus = "{name}"')[1](case.here / "train.toml")
        return Injected(right=right if right == ERROR else EITHER)
    write(case.here / name)
    return Injected(names=(name,), right=right, arguments=("trace", "model", name, "-o", "run"))


def _use_labels(case: Case) -> Injected:
    name, write, right = LABELS[case.target]
    write(case.here / name)
    return Injected(names=(name,), right=right, arguments=("annotate", "run", "--from", name, "--permutations", "5"))


def _use_config(case: Case) -> Injected:
    name, write, right = CONFIGS[case.target]
    write(case.here / name)
    return Injected(right=right)


register(Fault("bad corpus", _use_corpus, _corpora, fresh=True, often="each"))
register(Fault("bad labels", _use_labels, inputs_of("annotate", LABELS), often="each"))
register(Fault("bad settings", _use_config, inputs_of("train", CONFIGS), fresh=True, often="each"))

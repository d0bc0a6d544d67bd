"""What all cells of a corpus share: the tokens they train on, the held-out passages, and the labels of these."""

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from analyses.design_choices.grid import NUM_EXPERTS, SPLIT_SEED, Cell, CorpusSettings, Preset
from transformers import PreTrainedTokenizerBase

from specialize.atomic import replacing
from specialize.capture import TraceOptions, load_checkpoint, trace_corpus
from specialize.cli.console import say
from specialize.cli.steps import SyntaxOptions, TopicOptions, find_topics, tag, take_columns
from specialize.corpus import open_corpus
from specialize.errors import ConfigError
from specialize.manifest import write_json
from specialize.models import GPTMoEConfig, GPTMoEForCausalLM
from specialize.models.data import is_held_out
from specialize.models.training import prepare_data
from specialize.quiet import without_transformers_bars


@dataclass(frozen=True)
class Shared:
    """Folders of a prepared corpus.

    Attributes:
        tokens: tokenizer, train.npz and validation.npz.
        passages: held-out passages, JSON Lines.
        labels: a run of an untrained model over the passages, which holds their annotations.
    """

    tokens: Path
    passages: Path
    labels: Path

    @classmethod
    def of(cls, output: Path, corpus: str) -> "Shared":
        """Where the data of a corpus lie in the study's folder."""
        folder = output / "data" / corpus
        return cls(folder / "tokens", folder / "passages.jsonl", folder / "labels")


def prepare(preset: Preset, name: str, data: Path, output: Path) -> Shared:
    """Tokenize a corpus, choose its held-out passages and label them, each unless it was done before.

    Raises:
        ConfigError: the corpus is missing, or the folder holds data of other settings.
    """
    corpus, shared = preset.corpora[name], Shared.of(output, name)
    made_by = corpus.model_dump(mode="json") | {"context_length": preset.training.context_length}
    prepared = shared.tokens.parent / "prepared.json"
    if prepared.exists():
        if json.loads(prepared.read_text()) != made_by:
            raise ConfigError(f"{prepared.parent} was prepared with other settings: choose another folder with -o")
        return shared
    config = Cell(name, dense=1).config(preset, 0, data)
    if "://" not in corpus.file and not Path(config.data.corpus).is_file():
        raise ConfigError(f"--data: expected {corpus.file} in {data}, got no such file; see the study's README")
    say(f"{name}: tokens …")
    tokenizer, _ = prepare_data(config, shared.tokens)
    if not shared.passages.exists():
        say(f"{name}: held-out passages …")
        passages = choose_passages(config.data.corpus, corpus, tokenizer, length=preset.training.context_length)
        with replacing(shared.passages) as partial:
            partial.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in passages), "utf-8")
    _label(preset, corpus, shared, tokenizer)
    write_json(prepared, made_by)
    return shared


def choose_passages(
    path: str, corpus: CorpusSettings, tokenizer: PreTrainedTokenizerBase, *, length: int
) -> list[dict[str, str]]:
    """Passages of one window from the middle of held-out documents, as many of each label, in random order.

    From the middle, because chapters of one kind begin alike; of one window, so that a sequence is a document and
    has one decision. They stop four tokens short of a window: cut text may fall into more tokens than before.
    """
    documents = []
    for document in open_corpus(path):
        if is_held_out(document.id, share=corpus.validation_share, separator=corpus.group_separator, seed=SPLIT_SEED):
            label = document.labels.get(corpus.column, "") if corpus.column else ""
            documents.append((hashlib.sha256(document.id.encode()).digest(), document.id, document.text, label))
    taken: dict[str, int] = defaultdict(int)
    passages = []
    for _, identity, text, label in sorted(documents):
        if taken[label] == corpus.passages:
            continue
        middle = text[text.find(" ", max(0, len(text) // 2 - 5 * length)) + 1 :]
        spans = tokenizer(middle[: 20 * length], return_offsets_mapping=True, verbose=False)["offset_mapping"]
        if len(spans) < length // 2:
            continue
        taken[label] += 1
        passage = {"id": identity, "text": middle[: spans[min(len(spans), length - 4) - 1][1]]}
        passages.append(passage | ({corpus.column: label} if corpus.column else {}))
    return passages


def _label(preset: Preset, corpus: CorpusSettings, shared: Shared, tokenizer: PreTrainedTokenizerBase) -> None:
    """Trace the passages with an untrained model, whose run then holds the labels that every cell takes."""
    model = shared.labels.parent / "untrained"
    if not model.exists():
        torch.manual_seed(0)
        sizes = {**preset.model, "num_experts": NUM_EXPERTS, "num_hidden_layers": 1}
        untrained = GPTMoEForCausalLM(
            GPTMoEConfig(
                vocab_size=len(tokenizer),
                max_position_embeddings=preset.training.context_length,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=None,
                **sizes,
            )
        )
        with without_transformers_bars():
            untrained.save_pretrained(model)
        tokenizer.save_pretrained(model)
    opened = trace_corpus(
        load_checkpoint(str(model)), open_corpus(str(shared.passages)), shared.labels, options=TraceOptions()
    )
    if corpus.column:
        take_columns(opened, [corpus.column])
    if corpus.tags:
        tag(opened, SyntaxOptions(tags=corpus.tags, language=corpus.language))
    if corpus.topics:
        find_topics(opened, TopicOptions(language=corpus.language))


def write_toy_data(folder: Path, *, documents: int = 240) -> None:
    """Two corpora of the demo's text: one as it is, one in four toy languages, whose alphabets are rotated."""
    from specialize.demo import write_corpus

    folder.mkdir(parents=True, exist_ok=True)
    lines = pd.read_json(write_corpus(folder / "demo.jsonl", limit=documents), lines=True, dtype=False)
    label = next(name for name in lines.columns if name not in ("id", "text"))
    english = pd.DataFrame({"id": lines["id"].astype(str), "domain": lines[label].astype(str), "text": lines["text"]})
    letters = "abcdefghijklmnopqrstuvwxyz"
    language = np.arange(len(english)) % 4
    turned = [
        text.lower().translate(str.maketrans(letters, letters[6 * n :] + letters[: 6 * n]))
        for text, n in zip(english["text"], language, strict=True)
    ]
    toy = english.assign(text=turned, lang=np.array(["a", "b", "c", "d"])[language])
    for name, frame in {"toy_en": english, "toy_multilingual": toy.drop(columns="domain")}.items():
        with replacing(folder / f"{name}.parquet") as partial:
            frame.to_parquet(partial, index=False)

"""Data shared by all cells of a corpus: training tokens, held-out passages and the labels of the passages."""

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

import specialize
from specialize.annotators import save_annotation
from specialize.atomic import replacing
from specialize.corpus import open_corpus
from specialize.errors import ConfigError
from specialize.events import Reporter
from specialize.manifest import write_json
from specialize.models import GPTMoEConfig, GPTMoEForCausalLM
from specialize.models.data import is_held_out
from specialize.models.preparation import prepare_data
from specialize.pipeline.syntax import SyntaxOptions, tag_tokens
from specialize.pipeline.topic_fits import TopicOptions, find_topics
from specialize.pipeline.topics import read_columns
from specialize.quiet import without_transformers_bars


@dataclass(frozen=True)
class Shared:
    """Folders of a prepared corpus.

    Attributes:
        tokens: tokenizer, train.npz and validation.npz.
        passages: held-out passages, JSON Lines.
        labels: a run of an untrained model on the passages, in which their annotations are stored.
    """

    tokens: Path
    passages: Path
    labels: Path

    @classmethod
    def of(cls, output: Path, corpus: str) -> "Shared":
        """Return the folders of a corpus in the folder of the study."""
        folder = output / "data" / corpus
        return cls(folder / "tokens", folder / "passages.jsonl", folder / "labels")


def prepare(preset: Preset, name: str, data: Path, output: Path, reporter: Reporter) -> Shared:
    """Tokenize a corpus, choose its held-out passages and label them; steps that are complete are skipped.

    Raises:
        ConfigError: the corpus is missing, or the folder has data of other settings.
    """
    corpus, shared = preset.corpora[name], Shared.of(output, name)
    made_by = corpus.model_dump(mode="json") | {"context_length": preset.training.context_length}
    prepared = shared.tokens.parent / "prepared.json"
    if prepared.exists():
        if json.loads(prepared.read_text()) != made_by:
            raise ConfigError(f"{prepared.parent}: prepared with other settings; choose another folder with -o")
        return shared
    config = Cell(name, dense=1).config(preset, 0, data)
    if "://" not in corpus.file and not Path(config.data.corpus).is_file():
        raise ConfigError(f"--data: expected {corpus.file} in {data}, found none; see the README of the study")
    reporter.say(f"{name}: tokens …")
    tokenizer = prepare_data(config, shared.tokens).tokenizer
    if not shared.passages.exists():
        reporter.say(f"{name}: held-out passages …")
        passages = choose_passages(config.data.corpus, corpus, tokenizer, length=preset.training.context_length)
        with replacing(shared.passages) as partial:
            partial.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in passages), "utf-8")
    _label(preset, corpus, shared, tokenizer, reporter)
    write_json(prepared, made_by)
    return shared


def choose_passages(
    path: str, corpus: CorpusSettings, tokenizer: PreTrainedTokenizerBase, *, length: int
) -> list[dict[str, str]]:
    """Return passages of one window from the middle of held-out documents, balanced over labels, in random order.

    Passages are taken from the middle because chapters of one kind begin alike, and fit one window so that each
    document is one sequence, with one routing decision of a sequence router. They are four tokens shorter than a window
    because text that is cut out can have more tokens than it had in its context.
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


def _label(
    preset: Preset, corpus: CorpusSettings, shared: Shared, tokenizer: PreTrainedTokenizerBase, reporter: Reporter
) -> None:
    """Trace the passages with an untrained model, and store in its run the labels that all cells use."""
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
    opened = specialize.trace_corpus(model, shared.passages, shared.labels, reporter=reporter)
    if corpus.column:
        for annotation in read_columns(opened, [corpus.column]):
            save_annotation(opened, annotation)
    if corpus.tags:
        tag_tokens(opened, SyntaxOptions(tags=corpus.tags, language=corpus.language), reporter=reporter)
    if corpus.topics:
        find_topics(opened, TopicOptions(language=corpus.language), reporter=reporter)


def write_toy_data(folder: Path, *, documents: int = 240) -> None:
    """Write two corpora of the demo's text: the text itself, and four toy languages made by rotating the alphabet."""
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

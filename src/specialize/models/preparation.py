"""The data of a training run: the corpus split and tokenized, and stored in a folder that runs can share."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from specialize.corpus import open_corpus
from specialize.corpus.messages import check_rendered
from specialize.corpus.paths import is_pattern, list_files
from specialize.errors import ConfigError, OutputError, TrainingError, first_line, show_value
from specialize.events import SILENT, Reporter
from specialize.lock import locked
from specialize.manifest import digest_of, write_json
from specialize.models.configuration import GPTMoEConfig
from specialize.models.data import TokenStore, is_held_out, load_tokenizer, train_bpe
from specialize.models.folders import CHECKSUMS, check_checksums, replacing_folder
from specialize.models.settings import TrainConfig
from specialize.text import format_bytes

_SIDES = ("train", "validation")
_ABOUT = "data.json"  # what the tokens were made from


@dataclass(frozen=True)
class TrainingData:
    """Tokens to train on and held-out ones, with their tokenizer."""

    tokenizer: PreTrainedTokenizerBase
    train: TokenStore
    validation: TokenStore

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of all tokens."""
        return digest_of({side: getattr(self, side).digest for side in _SIDES})


def prepare_data(config: TrainConfig, folder: Path, *, reporter: Reporter = SILENT) -> TrainingData:
    """Read, split and tokenize the corpus and store the tokens, or read those that an earlier run stored.

    Nothing is written unless the settings fit the data. Processes that prepare the same folder at once wait for each
    other.

    Args:
        config: the settings.
        folder: for the tokenizer, train.npz and validation.npz; created if missing.
        reporter: receives notes about the corpus.

    Raises:
        ConfigError: the settings do not fit the data, or the folder has data of other settings or of another corpus.
        CorpusError: the corpus cannot be read.
        TrainingError: stored data are damaged.
        OutputError: the folder holds other things, or cannot be written.
    """

    def wait() -> None:
        reporter.say(f"{folder}: waiting for another process that prepares these data …")

    if not _is_stored(folder):
        with locked(folder.absolute().with_name(f".{folder.name}.lock"), on_busy=wait):
            if not _is_stored(folder):
                data = _read_corpus(config, reporter)
                check_fit(config, data)
                _store(data, config, folder)
                return data
    data = _load(config, folder)
    check_fit(config, data)
    return data


def check_fit(config: TrainConfig, data: TrainingData) -> tuple[GPTMoEConfig, NDArray[np.int64] | None]:
    """Return the configuration of the model, and the expert that each training document should be sent to.

    Returns:
        The configuration; int64 [documents], None unless routers are guided.

    Raises:
        ConfigError: there are too few documents, or the model cannot be trained on them or on this machine.
    """
    training, tokenizer = config.training, data.tokenizer
    model = config.configure_model(
        vocab_size=len(tokenizer),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    windows = len(data.train.windows(training.context_length))
    if windows < training.batch_size:
        raise ConfigError(
            f"expected at least one batch of {training.batch_size} windows of {training.context_length} tokens in the "
            f"training documents, got {windows} windows; lower batch_size or context_length, or add text"
        )
    if not len(data.validation.windows(training.context_length)):
        raise ConfigError(
            f"expected a held-out document of at least context_length = {training.context_length} tokens, found none; "
            "raise data.validation_share or lower training.context_length"
        )
    _check_memory(model)
    return model, _guide(model, data.train, config.data.guide_column)


def _check_memory(model: GPTMoEConfig) -> None:
    needed = 16 * model.num_parameters  # weights, gradients and the two moments of AdamW in float32
    if torch.cuda.is_available():
        name, available = "the GPU", torch.cuda.get_device_properties(0).total_memory
    else:
        name, available = "this machine", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > available:
        raise ConfigError(
            f"model: expected one that {name} with {format_bytes(available)} of memory can train, got "
            f"{model.num_parameters:,} parameters, which need at least {format_bytes(needed)}; choose smaller sizes"
        )


def _guide(model: GPTMoEConfig, store: TokenStore, column: str | None) -> NDArray[np.int64] | None:
    if model.router_type != "guided":
        return None
    if column is not None and store.guides is None:
        raise ConfigError(
            f"router_type guided: expected tokens prepared with data.guide_column = {column!r}, got tokens prepared "
            "without it; choose another folder for the data"
        )
    values, expert = np.unique(store.guides if store.guides is not None else [], return_inverse=True)
    if column is None or len(values) != model.num_experts:
        raise ConfigError(
            f"router_type guided: expected data.guide_column with as many values as num_experts = {model.num_experts}, "
            f"got {f'{column} with {len(values)}' if column else 'no such setting'}"
        )
    return expert.astype(np.int64)


def _read_corpus(config: TrainConfig, reporter: Reporter) -> TrainingData:
    texts: dict[str, list[str]] = {side: [] for side in _SIDES}
    guides: dict[str, list[str]] = {side: [] for side in _SIDES}
    column = config.data.guide_column
    corpus = open_corpus(config.data.corpus, text_column=config.data.text_column, labels=[column] if column else ())
    if config.tokenizer.path:
        tokenizer = load_tokenizer(config.tokenizer.path)  # before a long corpus is read
    for document in corpus:
        check_rendered(document, corpus.source)
        held_out = is_held_out(
            document.id,
            share=config.data.validation_share,
            separator=config.data.group_separator,
            seed=_split_seed(config),
        )
        side = "validation" if held_out else "train"
        texts[side].append(document.text)
        if column:
            if column not in document.labels:
                raise ConfigError(
                    f"data.guide_column: expected a value of {column} for every document, got none for "
                    f"{document.id!r}; leave the document out, or give it a value"
                )
            guides[side].append(document.labels[column])
    for note in corpus.notes:
        reporter.say(note)
    if not texts["validation"] or not texts["train"]:
        raise ConfigError(
            f"expected documents on both sides of the split, got {len(texts['train'])} to train on and "
            f"{len(texts['validation'])} held out; change data.validation_share or data.group_separator"
        )
    if not config.tokenizer.path:
        tokenizer = train_bpe(
            texts["train"], vocab_size=config.tokenizer.vocab_size, max_length=config.training.context_length
        )
    stores = {side: TokenStore.encode(texts[side], tokenizer, guides[side] or None) for side in _SIDES}
    return TrainingData(tokenizer, **stores)


def _is_stored(folder: Path) -> bool:
    return any((folder / name).exists() for name in (_ABOUT, CHECKSUMS, *(f"{side}.npz" for side in _SIDES)))


def _store(data: TrainingData, config: TrainConfig, folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(
            f"{folder}: expected a new or empty folder for the tokens, got one that holds other things, or a file; "
            "choose another folder"
        )
    about = {"settings": _describe(config), "corpus": config.data.corpus, "sha256": _digest_of_corpus(config)}
    with replacing_folder(folder) as partial:
        data.tokenizer.save_pretrained(partial)
        for side in _SIDES:
            getattr(data, side).save(partial / f"{side}.npz")
        write_json(partial / _ABOUT, about)


def _load(config: TrainConfig, folder: Path) -> TrainingData:
    remedy = f"delete {folder} to make it again from the corpus"
    if (folder / _ABOUT).exists() and not (folder / CHECKSUMS).exists():
        raise TrainingError(f"{folder / CHECKSUMS}: expected the checksums of the tokens, found none; {remedy}")
    check_checksums(folder, remedy=remedy)
    try:
        if (folder / _ABOUT).exists():
            _check_about(json.loads((folder / _ABOUT).read_text(encoding="utf-8")), config, folder)
        stores = {side: TokenStore.load(folder / f"{side}.npz") for side in _SIDES}
        tokenizer = load_tokenizer(folder, error=TrainingError)
    except TrainingError as error:
        raise TrainingError(f"{error}; {remedy}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TrainingError(
            f"{folder / _ABOUT}: expected what the tokens were made from, got: {first_line(error)}; {remedy}"
        ) from error
    for side, store in stores.items():
        if (largest := int(store.tokens.max())) >= len(tokenizer):
            raise TrainingError(
                f"{folder / side}.npz: expected ids below the {len(tokenizer)} of the tokenizer beside it, got "
                f"{largest}; {remedy}"
            )
    return TrainingData(tokenizer, **stores)


def _describe(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that decide which tokens are made from a corpus."""
    settings = {f"data.{name}": value for name, value in config.data.model_dump(exclude={"corpus"}).items()}
    settings |= {f"tokenizer.{name}": value for name, value in config.tokenizer.model_dump().items()}
    settings["data.split_seed"] = _split_seed(config)
    settings["training.context_length"] = config.training.context_length  # the tokenizer's longest sequence
    return settings


def _check_about(about: dict[str, Any], config: TrainConfig, folder: Path) -> None:
    advice = f"choose another folder, or delete {folder} to make it again"
    before, now = about["settings"], _describe(config)
    if config.data.guide_column is None:
        now["data.guide_column"] = before["data.guide_column"]  # which is not used
    differing = [name for name in now if before[name] != now[name]]
    if differing:
        details = "; ".join(
            f"{name}: {show_value(before[name])} there, {show_value(now[name])} now" for name in differing
        )
        raise ConfigError(f"{folder} holds tokens of other settings ({details}); {advice}")
    checksum = _digest_of_corpus(config)
    if checksum is None and about["corpus"] != config.data.corpus and "://" not in config.data.corpus:
        open_corpus(config.data.corpus, text_column=config.data.text_column)  # raises an error if there is none
    known = about["corpus"] if checksum is None else about["sha256"]
    if known != (config.data.corpus if checksum is None else checksum):
        if about["corpus"] == config.data.corpus:
            raise ConfigError(f"{config.data.corpus} has changed since its tokens in {folder} were made; {advice}")
        raise ConfigError(
            f"{folder} holds tokens of {show_value(about['corpus'])}, not of {config.data.corpus}; {advice}"
        )


def _digest_of_corpus(config: TrainConfig) -> str | None:
    """SHA-256 (hexadecimal) of the files of a corpus; None if it is on the hub, or is no longer there."""
    path = Path(config.data.corpus)
    if "://" in config.data.corpus or not (path.exists() or is_pattern(path)):
        return None
    digest = hashlib.sha256()
    for file in list_files(path):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def _split_seed(config: TrainConfig) -> int:
    return config.seed if config.data.split_seed is None else config.data.split_seed

"""The training loop: AdamW, warm-up and cosine, mixed precision, checkpoints that resume exactly."""

import copy
import math
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from specialize.atomic import replacing, write_text
from specialize.corpus import open_corpus
from specialize.errors import ConfigError, did_you_mean
from specialize.events import SILENT, Reporter, Update
from specialize.models.card import write_card
from specialize.models.checkpoint import resume, save_checkpoint
from specialize.models.configuration import GPTMoEConfig
from specialize.models.data import TokenStore, batches, is_held_out, train_bpe
from specialize.models.evaluation import Evaluation, evaluate, unigram_log_probabilities
from specialize.models.modeling import GPTMoEForCausalLM
from specialize.models.settings import TrainConfig, TrainingSettings
from specialize.quiet import without_transformers_bars
from specialize.rate import Rate


def train(
    config: TrainConfig,
    folder: str | PathLike[str],
    *,
    data: str | PathLike[str] | None = None,
    reporter: Reporter = SILENT,
) -> Evaluation:
    """Train a model and save it to ``folder/model`` with its tokenizer and a model card.

    An interrupted run is resumed from its last checkpoint and, on a CPU, ends with the same weights as an
    uninterrupted one: batches and random numbers depend only on the seed and the step. (On a GPU the order of some
    sums is not fixed.)

    Args:
        config: the settings.
        folder: for the checkpoint, ``metrics.csv``, the model and its snapshots; created if missing.
        data: folder of the tokenizer and the tokens, which runs on the same text can share; default: folder/data.
        reporter: receives after each step the rate, the training loss in nats, and the perplexity on held-out windows
            when it was last evaluated.

    Returns:
        The evaluation of the saved model on all held-out windows.

    Raises:
        ConfigError: the settings are invalid, do not fit the data, or differ from those of the run in the folder.
        CorpusError: the corpus cannot be read.
    """
    folder = Path(folder)
    _claim(folder, config)
    tokenizer, stores = prepare_data(config, folder / "data" if data is None else Path(data))
    with reporter.progress("training", "steps") as update:
        return _train(config, folder, tokenizer, stores, update)


def _train(
    config: TrainConfig,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    stores: dict[str, TokenStore],
    update: Update,
) -> Evaluation:
    settings = config.training
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = getattr(torch, settings.dtype)
    unigram = unigram_log_probabilities(stores["train"], len(tokenizer))

    torch.manual_seed(config.seed)
    model_config = _model_config(config, tokenizer)
    guide = _guide(model_config, stores["train"], config.data.guide_column)
    model = GPTMoEForCausalLM(model_config)
    model.to(device)  # type: ignore[arg-type]  # transformers wraps `to` and loses its signature
    model.train()
    optimizer = _make_optimizer(model, settings)
    step, history = resume(folder / "checkpoint.safetensors", model, optimizer)
    forward = torch.compile(model) if settings.compile else model
    windows = batches(
        stores["train"],
        length=settings.context_length,
        size=settings.batch_size,
        seed=config.seed,
        first_step=step,
    )

    def measure(max_windows: int | None) -> Evaluation:
        return evaluate(
            model,
            stores["validation"],
            unigram,
            length=settings.context_length,
            batch_size=settings.batch_size,
            compare_from=settings.compare_from,
            max_windows=max_windows,
            dtype=dtype,
        )

    rate = Rate(window=10.0)  # without evaluation and saving
    while step < settings.steps:
        torch.manual_seed(config.seed + 1 + step)  # for dropout and re-randomized routers
        starts = next(windows)
        ids = torch.from_numpy(stores["train"].batch(starts, settings.context_length)).to(device, non_blocking=True)
        wanted = None if guide is None else torch.from_numpy(guide[stores["train"].document_of(starts)]).to(device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            loss = forward(input_ids=ids, labels=ids, guide=wanted).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        rate.count(ids.numel())
        if step % settings.evaluate_every == 0 or step == settings.steps:
            measured = measure(settings.evaluation_windows)
            history.append(
                {
                    "step": step,
                    "tokens": step * settings.batch_size * settings.context_length,
                    "training_loss": loss.item(),
                    "validation_perplexity": measured.perplexity,
                    "unigram_perplexity": measured.unigram_perplexity,
                    "lowest_load_entropy": min(measured.load_entropy, default=math.nan),
                    "tokens_per_second": rate.value,
                }
            )
            rate.pause()
        if step in settings.snapshots:
            _save_model(model, tokenizer, folder / "snapshots" / f"step-{step}", settings)
            rate.pause()
        if step % settings.checkpoint_every == 0 or step == settings.steps:
            save_checkpoint(folder / "checkpoint.safetensors", model, optimizer, step=step, history=history)
            write_text(folder / "metrics.csv", pd.DataFrame(history).to_csv(index=False))
            rate.pause()
        held_out = f", held-out perplexity {history[-1]['validation_perplexity']:.1f}" if history else ""
        update(step, settings.steps, rate=f"{rate.value:,.0f} tokens/s, loss {loss.item():.3f}{held_out}")

    # evaluate the weights as saved, not the float32 weights that they were rounded from
    _save_model(model, tokenizer, folder / "model", settings)
    model.to(getattr(torch, settings.saved_dtype)).float()
    result = measure(settings.final_evaluation_windows)
    write_card(folder / "model", config, result, history)
    return result


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine down to the final share of the peak."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    floor = settings.final_learning_rate_share
    return settings.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))


def _claim(folder: Path, config: TrainConfig) -> None:
    """Write the configuration to the folder, or check that the one in it is the same."""
    path = folder / "config.json"
    if path.exists() and TrainConfig.model_validate_json(path.read_text()).digest != config.digest:
        raise ConfigError(f"{folder} holds a run with other settings (see its config.json); choose another folder")
    write_text(path, config.model_dump_json(indent=2))


def _save_model(
    model: GPTMoEForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path, settings: TrainingSettings
) -> None:
    """Write a checkpoint that transformers loads, in the precision of the settings, without changing the model."""
    shipped = copy.deepcopy(model).to(getattr(torch, settings.saved_dtype))
    with without_transformers_bars():
        shipped.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def prepare_data(config: TrainConfig, folder: Path) -> tuple[PreTrainedTokenizerBase, dict[str, TokenStore]]:
    """Read, split and tokenize the corpus, or read the tokens that an earlier run stored.

    Args:
        config: with the data, the tokenizer and the length of the windows.
        folder: for the tokenizer, train.npz and validation.npz; created if missing.

    Returns:
        The tokenizer, and the stores train and validation.

    Raises:
        ConfigError: the settings do not fit the data.
        CorpusError: the corpus cannot be read.
    """
    paths = {side: folder / f"{side}.npz" for side in ("train", "validation")}
    if all(path.exists() for path in paths.values()):
        return AutoTokenizer.from_pretrained(folder), {s: TokenStore.load(p) for s, p in paths.items()}
    texts: dict[str, list[str]] = {"train": [], "validation": []}
    guides: dict[str, list[str]] = {"train": [], "validation": []}
    column = config.data.guide_column
    corpus = open_corpus(config.data.corpus, text_column=config.data.text_column, labels=[column] if column else ())
    for document in corpus:
        held_out = is_held_out(
            document.id,
            share=config.data.validation_share,
            separator=config.data.group_separator,
            seed=config.seed if config.data.split_seed is None else config.data.split_seed,
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
    if not texts["validation"] or not texts["train"]:
        raise ConfigError(
            f"expected documents on both sides of the split, got {len(texts['train'])} to train on and "
            f"{len(texts['validation'])} held out; change data.validation_share or data.group_separator"
        )
    if config.tokenizer.path:
        tokenizer = AutoTokenizer.from_pretrained(config.tokenizer.path)
    else:
        tokenizer = train_bpe(
            texts["train"],
            vocab_size=config.tokenizer.vocab_size,
            max_length=config.training.context_length,
        )
    stores = {side: TokenStore.encode(texts[side], tokenizer, guides[side] or None) for side in texts}
    if not len(stores["validation"].windows(config.training.context_length)):
        raise ConfigError(
            f"expected a held-out document of at least context_length = {config.training.context_length} tokens, found "
            "none; raise data.validation_share or lower training.context_length"
        )
    tokenizer.save_pretrained(folder)
    for side, store in stores.items():
        with replacing(paths[side]) as partial:
            store.save(partial)
    return tokenizer, stores


def _model_config(config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> GPTMoEConfig:
    given = dict(config.model)
    known = GPTMoEConfig().to_dict()
    for name in given:
        if name not in known:
            raise ConfigError(f"unknown setting 'model.{name}'.{did_you_mean(name, known)}")
    given.setdefault("max_position_embeddings", config.training.context_length)
    return GPTMoEConfig(
        vocab_size=len(tokenizer),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        **given,
    )


def _guide(model: GPTMoEConfig, store: TokenStore, column: str | None) -> NDArray[np.int64] | None:
    """Return the expert that each document should be sent to, int64 [documents]; None unless routers are guided."""
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


def _make_optimizer(model: GPTMoEForCausalLM, settings: TrainingSettings) -> torch.optim.AdamW:
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)

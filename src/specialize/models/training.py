"""The training loop: AdamW, warm-up and cosine, mixed precision, checkpoints that resume exactly."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from specialize.atomic import replacing, write_text
from specialize.corpus import open_corpus
from specialize.errors import ConfigError, did_you_mean
from specialize.models.card import write_card
from specialize.models.checkpoint import resume, save_checkpoint
from specialize.models.configuration import GPTMoEConfig
from specialize.models.data import TokenStore, batches, is_held_out, train_bpe
from specialize.models.evaluation import Evaluation, evaluate, unigram_log_probabilities
from specialize.models.modeling import GPTMoEForCausalLM
from specialize.models.settings import TrainConfig, TrainingSettings
from specialize.quiet import without_transformers_bars
from specialize.rate import Rate


@dataclass(frozen=True)
class Progress:
    """What a training run says of itself after each step.

    Attributes:
        step, steps: steps done, and of how many.
        tokens_per_second: training tokens over the last few seconds.
        loss: training loss in nats, of this step.
        perplexity: of the held-out windows, when last evaluated; NaN before.
    """

    step: int
    steps: int
    tokens_per_second: float
    loss: float
    perplexity: float


def train(
    config: TrainConfig,
    folder: Path,
    *,
    data: Path | None = None,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> Evaluation:
    """Train a model and save it to ``folder/model`` with its tokenizer and a model card.

    A run that was interrupted goes on from its last checkpoint and ends with the same weights, on a CPU, as an
    uninterrupted one: batches and random draws depend on the seed and the step alone. (On a GPU some sums are
    not made in a fixed order.)

    Args:
        config: what to train, on what.
        folder: where checkpoint, ``metrics.csv``, the model and its snapshots go; made when missing.
        data: folder of the tokenizer and the tokens, which runs on the same text can share; default: folder/data.
        on_step: called after each step.

    Returns:
        The evaluation of the saved model on all held-out windows.

    Raises:
        ConfigError: the folder holds a run of other settings, or the settings do not fit the data.
        CorpusError: the corpus cannot be read.
    """
    settings = config.training
    _claim(folder, config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = getattr(torch, settings.dtype)
    tokenizer, stores = prepare_data(config, data or folder / "data")
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

    rate = Rate(window=10.0)  # evaluation and saving are not counted
    while step < settings.steps:
        torch.manual_seed(config.seed + 1 + step)  # dropout and re-drawn routers: a function of the step
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
        seen = history[-1]["validation_perplexity"] if history else math.nan
        on_step(Progress(step, settings.steps, rate.value, loss.item(), seen))

    # evaluate what is shipped: the weights as saved, not the float32 ones that they were rounded from
    _save_model(model, tokenizer, folder / "model", settings)
    model.to(getattr(torch, settings.saved_dtype)).float()
    result = measure(settings.final_evaluation_windows)
    write_card(folder / "model", config, result, history)
    return result


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Linear warm-up, then a cosine down to the final share of the peak."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    floor = settings.final_learning_rate_share
    return settings.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))


def _claim(folder: Path, config: TrainConfig) -> None:
    """Write the configuration into the folder, or check that the one there is the same."""
    path = folder / "config.json"
    if path.exists() and TrainConfig.model_validate_json(path.read_text()).digest != config.digest:
        raise ConfigError(f"{folder} holds a run of other settings (its config.json): choose another folder with -o")
    write_text(path, config.model_dump_json(indent=2))


def _save_model(
    model: GPTMoEForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path, settings: TrainingSettings
) -> None:
    """Write a checkpoint that transformers loads, in the precision asked for; the model itself stays as it is."""
    shipped = copy.deepcopy(model).to(getattr(torch, settings.saved_dtype))
    with without_transformers_bars():
        shipped.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def prepare_data(config: TrainConfig, folder: Path) -> tuple[PreTrainedTokenizerBase, dict[str, TokenStore]]:
    """Read, split and tokenize the corpus once; later starts read the stored tokens.

    Args:
        config: its data, its tokenizer and the length of its windows.
        folder: of the tokenizer, train.npz and validation.npz; made when missing.

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
    corpus = open_corpus(
        config.data.corpus, text_column=config.data.text_column, label_columns=[column] if column else ()
    )
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
                    f"data.guide_column: expected {column} of every document, got none for {document.id!r}: "
                    "leave the document out, or give it a value"
                )
            guides[side].append(document.labels[column])
    if not texts["validation"] or not texts["train"]:
        raise ConfigError(
            f"expected documents on both sides of the split, got {len(texts['train'])} to train on and "
            f"{len(texts['validation'])} held out: change data.validation_share or data.group_separator"
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
            f"no held-out document is as long as context_length = {config.training.context_length}: "
            "raise data.validation_share or lower training.context_length"
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
    """Expert that each document should be sent to, int64 [documents]; None unless the router is guided."""
    if model.router_type != "guided":
        return None
    if column is not None and store.guides is None:
        raise ConfigError(
            f"router_type guided: expected tokens prepared with data.guide_column = {column!r}, got some prepared "
            "without: choose another folder for them"
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

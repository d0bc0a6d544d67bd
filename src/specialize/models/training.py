"""The training loop: AdamW, warm-up and cosine, mixed precision, checkpoints that resume exactly."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import torch

from specialize.errors import TrainingError, first_line
from specialize.events import SILENT, Reporter, Update
from specialize.models.data import batches
from specialize.models.evaluation import Evaluation, evaluate, unigram_log_probabilities
from specialize.models.modeling import GPTMoEForCausalLM
from specialize.models.preparation import TrainingData, check_fit, prepare_data
from specialize.models.settings import TrainConfig, TrainingSettings
from specialize.models.training_folder import TrainingFolder
from specialize.rate import Rate


class StepWatcher(Protocol):
    """Watches a training step by step, such as a `specialize.Monitor`."""

    def step(self, num_steps: int) -> object | None:
        """Receive the number of optimizer steps that are done; returns something where it took time to measure."""


Watch = Callable[[GPTMoEForCausalLM, Any, int], AbstractContextManager[StepWatcher]]
"""Opens what watches a training, given the model, its tokenizer and the optimizer steps that are done."""


def train(
    config: TrainConfig,
    folder: str | PathLike[str],
    *,
    data: str | PathLike[str] | None = None,
    watch: Watch | None = None,
    reporter: Reporter = SILENT,
) -> Evaluation:
    """Train a model and save it to ``folder/model`` with its tokenizer and a model card.

    An interrupted run is resumed from its last checkpoint and, on a CPU, ends with the same weights as an
    uninterrupted one: batches and random numbers depend only on the seed and the step. (On a GPU the order of some
    sums is not fixed.) A run that is complete is left as it is. Nothing is written before the settings and the corpus
    are checked.

    Args:
        config: the settings.
        folder: for the checkpoint, ``metrics.csv``, the model and its snapshots; created if missing.
        data: folder of the tokenizer and the tokens, which runs on the same text can share; default: folder/data.
        watch: opens what watches the training, which must leave it as it is; default: nothing.
        reporter: receives notes, and after each step the rate, the training loss in nats, and the perplexity on
            held-out windows when it was last evaluated.

    Returns:
        The evaluation of the saved model on all held-out windows.

    Raises:
        ConfigError: the settings are invalid, do not fit the data, or differ from those of the run in the folder.
        CorpusError: the corpus cannot be read.
        TrainingError: another process is training in the folder, a file of the run is damaged, the training diverged,
            or memory ran out.
        OutputError: a file cannot be written.
    """
    store = TrainingFolder(Path(folder), config)
    result = store.find_result()
    if result is None:
        with store.lock():
            result = store.find_result()  # another process may have finished since
            if result is None:
                with _one_line_failures(store):
                    tokens = prepare_data(
                        config, store.path / "data" if data is None else Path(data), reporter=reporter
                    )
                    _advise(config.training, reporter)
                    with reporter.progress("training", "steps") as update:
                        return _train(store, tokens, watch, update)
    reporter.say(f"{store.path}: this training is complete; nothing was changed")
    return result


def _advise(settings: TrainingSettings, reporter: Reporter) -> None:
    """Say so if the processor computes bfloat16 in software, which takes 8 to 17 times as long as float32."""
    on_cpu = not torch.cuda.is_available()
    if on_cpu and settings.dtype == "bfloat16" and torch.backends.cpu.get_cpu_capability() == "AVX2":
        reporter.say(
            "this processor has no bfloat16 instructions; "
            'dtype = "float32" in [training] makes the training about ten times as fast'
        )


def _train(store: TrainingFolder, data: TrainingData, watch: Watch | None, update: Update) -> Evaluation:
    config, settings = store.config, store.config.training
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = getattr(torch, settings.dtype)
    unigram = unigram_log_probabilities(data.train, len(data.tokenizer))

    torch.manual_seed(config.seed)
    model_config, guide = check_fit(config, data)
    model = GPTMoEForCausalLM(model_config)
    model.to(device)  # type: ignore[arg-type]  # transformers wraps `to` and loses its signature
    model.train()
    optimizer = _make_optimizer(model, settings)
    step, history = store.resume(model, optimizer, data=data.digest)
    forward = torch.compile(model) if settings.compile else model
    windows = batches(
        data.train,
        length=settings.context_length,
        size=settings.batch_size,
        seed=config.seed,
        first_step=step,
    )

    def measure(max_windows: int | None) -> Evaluation:
        result = evaluate(
            model,
            data.validation,
            unigram,
            length=settings.context_length,
            batch_size=settings.batch_size,
            compare_from=settings.compare_from,
            max_windows=max_windows,
            dtype=dtype,
        )
        if not math.isfinite(result.perplexity):
            raise TrainingError(store.describe_divergence(step, f"held-out perplexity {result.perplexity}"))
        return result

    rate = Rate(window=10.0)  # without evaluation and saving
    with nullcontext() if watch is None else watch(model, data.tokenizer, step) as watcher:
        while step < settings.steps:
            torch.manual_seed(config.seed + 1 + step)  # for dropout and re-randomized routers
            starts = next(windows)
            ids = torch.from_numpy(data.train.batch(starts, settings.context_length)).to(device, non_blocking=True)
            wanted = None if guide is None else torch.from_numpy(guide[data.train.document_of(starts)]).to(device)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, settings)
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                loss = forward(input_ids=ids, labels=ids, guide=wanted).loss
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            if not math.isfinite(loss.item()) or not math.isfinite(norm.item()):
                found = f"training loss {loss.item():.3g}, norm of the gradients {norm.item():.3g}"
                raise TrainingError(store.describe_divergence(step, found))
            rate.count(ids.numel())
            if watcher is not None and watcher.step(step) is not None:
                rate.pause()
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
                store.save_snapshot(model, data.tokenizer, step)
                rate.pause()
            if step % settings.checkpoint_every == 0 or step == settings.steps:
                store.save(model, optimizer, step, history)
                rate.pause()
            held_out = f", held-out perplexity {history[-1]['validation_perplexity']:.1f}" if history else ""
            update(step, settings.steps, rate=f"{rate.value:,.0f} tokens/s, loss {loss.item():.3f}{held_out}")

    # evaluate the weights as saved, not the float32 weights that they were rounded from
    model.to(getattr(torch, settings.saved_dtype)).float()
    result = measure(settings.final_evaluation_windows)
    store.save_result(model, data.tokenizer, result, history)
    return result


@contextmanager
def _one_line_failures(store: TrainingFolder) -> Iterator[None]:
    """Raise TrainingError, which says what is kept, for what torch raises, and where memory runs out."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
            reason = "memory ran out; lower training.batch_size or training.context_length, or train a smaller model"
        else:
            reason = f"training failed ({first_line(error)}); run the same command again to resume"
        raise TrainingError(f"{store.path}: {reason}; {store.describe_kept()}") from error


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine down to the final share of the peak."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    floor = settings.final_learning_rate_share
    return settings.learning_rate * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))


def _make_optimizer(model: GPTMoEForCausalLM, settings: TrainingSettings) -> torch.optim.AdamW:
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)

"""How a corpus is traced. Importing this module is quick: it needs no torch."""

from dataclasses import dataclass, fields
from typing import Any

from specialize.choices import CONTROL_DRAWS, Control, check_control, check_positive, check_whole
from specialize.errors import CaptureError, TraceError

_CONTENTS = ("weights", "logits", "norms", "predictions")


@dataclass(frozen=True)
class TraceOptions:
    """How a corpus is run through a model, and what is recorded.

    Attributes:
        context: length of a window in tokens; default: the longest that the model was made for, at most 2048.
        stride: tokens from the first of one window to the first of the next; default: windows do not overlap.
        max_tokens: largest number of tokens of a document that are traced, the first ones; default: all.
        generate: let the model continue each document by at most so many tokens, greedily, and record their routing,
            too; default: none.
        batch_tokens: padded tokens per forward pass; halved for as long as memory runs out.
        shard_tokens: tokens of the largest shards on disk. So many are held in memory, and lost at most if the run is
            killed; the first shard has those of a batch, each further one as many as all before it. Default: 131,072,
            or fewer if their routing takes more than 256 MiB.
        control: ``random-router`` records random routers beside each of the model's.
        control_draws: how many of them; one alone is one draw from all random projections.
        seed: of the control.
        weights: record gate weights.
        logits: record router logits of all experts, in half precision.
        norms: record the Euclidean norm of each chosen expert's weighted output.
        predictions: record the most likely next token of each token, and the loss of the actual one.

    Raises:
        TraceError: a number is not positive, or not a whole one.
        CaptureError: the control is unknown, or its draws are not a positive number.
    """

    context: int | None = None
    stride: int | None = None
    max_tokens: int | None = None
    generate: int | None = None
    batch_tokens: int = 8192
    shard_tokens: int | None = None
    control: Control | None = None
    control_draws: int = CONTROL_DRAWS
    seed: int = 0
    weights: bool = True
    logits: bool = False
    norms: bool = False
    predictions: bool = False

    def __post_init__(self) -> None:
        for name in ("context", "stride", "max_tokens", "generate", "batch_tokens", "shard_tokens"):
            value = getattr(self, name)
            if value is not None:
                check_positive(name, value, error=TraceError)
        check_whole("seed", self.seed, error=TraceError)
        for name, given in (("stride", self.stride), ("predictions", self.predictions)):
            if self.generate is not None and given:
                raise TraceError(f"{name}: expected none with generate, which reads each document once; leave it out")
        check_control(self.control, self.control_draws, error=CaptureError)

    @property
    def contents(self) -> tuple[str, ...]:
        """What is recorded besides the experts, as the trace's manifest lists it."""
        return tuple(field.name for field in fields(self) if field.name in _CONTENTS and getattr(self, field.name))

    def as_settings(self, context: int | None = None) -> dict[str, Any]:
        """Return the entries of the manifest's settings; those of the windows only if their length is known.

        Args:
            context: length of a window if the model determines it; default: that of the options.
        """
        length = self.context if context is None else context
        stride = self.stride or length
        return {
            **({} if length is None else {"context_length": length}),
            **({} if stride is None else {"stride": stride}),
            "max_tokens": self.max_tokens,
            "generate": self.generate,
            "batch_tokens": self.batch_tokens,
            "shard_tokens": self.shard_tokens,
            "contents": list(self.contents),
            **control_settings(self.control, self.control_draws, self.seed),
        }


def control_settings(control: str | None, control_draws: int, seed: int) -> dict[str, Any]:
    """Return the entries of the manifest's settings about the control."""
    own = {"control_draws": control_draws, "seed": seed} if control else {"seed": None}
    return {"control": control, **own}

"""Recorded values that are not what they should be: values that are not finite, and ids that name no expert."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.errors import CaptureError
from specialize.trace import NO_EXPERT, RouterSpec

REMEDY = (
    "the weights of the model are damaged or overflow in this precision; check the checkpoint, or load it with dtype "
    "float32"
)


@dataclass(frozen=True)
class Invalid:
    """The first token whose routing is invalid.

    Attributes:
        sequence: number of its sequence.
        problem: the router, what was expected of it, and the value.
        where: the token, in words.
    """

    sequence: int
    problem: str
    where: str

    def error(self) -> CaptureError:
        """Return the error to raise."""
        return CaptureError(f"{self.problem} for {self.where}; {REMEDY}")


def find_invalid(
    specs: Sequence[RouterSpec],
    columns: Sequence[Mapping[str, NDArray[Any]]],
    locate: Callable[[int], str],
    sequences: NDArray[np.int64] | None = None,
) -> Invalid | None:
    """Return the first invalid value: in the first sequence that has any, at its first router, of its first token.

    Later routers, and predictions, are invalid because that one is. Negative infinity is valid as a logit: it excludes
    an expert.

    Args:
        specs: the routers.
        columns: for each router, its experts [tokens, k] and, if recorded, weights [tokens, k], logits [tokens, E] and
            norms [tokens, k]; then, if recorded, the predictions, of which predicted_token_id [tokens] is -1 where the
            logits of the next token are not finite.
        locate: returns in words where the token of an index is.
        sequences: int64 [tokens], number of each token's sequence in reading order; default: all are of one.
    """
    found: Invalid | None = None
    for place, recorded in enumerate(columns):
        problems = _routing_problems(specs[place], recorded) if place < len(specs) else _prediction_problems(recorded)
        for expected, wrong, values in problems:
            tokens = np.flatnonzero(wrong.any(axis=1))
            index = int(tokens[0] if sequences is None else tokens[np.argmin(sequences[tokens])])
            sequence = 0 if sequences is None else int(sequences[index])
            if found is None or sequence < found.sequence:
                value = values[index, int(np.argmax(wrong[index]))]
                found = Invalid(sequence, f"{expected}, got {value}", locate(index))
    return found


def _prediction_problems(recorded: Mapping[str, NDArray[Any]]) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[Any]]]:
    """Yield as `_routing_problems` does, for predictions."""
    wrong = recorded["predicted_token_id"] < 0
    if wrong.any():
        yield "predictions: expected finite logits", wrong[:, None], recorded["next_token_loss"][:, None]


def _routing_problems(
    spec: RouterSpec, recorded: Mapping[str, NDArray[Any]]
) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[Any]]]:
    """Yield what was expected of a router, where it is not so [tokens, width], and the values."""
    name = spec.name if spec.routing == "learned" else f"the random router beside {spec.name}"
    experts, logits = recorded["experts"], recorded.get("logits")
    if not len(experts):
        return
    if experts.min() < NO_EXPERT or experts.max() >= spec.num_experts:
        expected = f"{name}: expected expert ids of 0 to {spec.num_experts - 1}, or -1 for none"
        yield expected, (experts < NO_EXPERT) | (experts >= spec.num_experts), experts
    of_slots = {
        "gate weights": recorded.get("weights"),
        "output norms of at most 65504 (half precision)": recorded.get("norms"),
    }
    for what, values in of_slots.items():
        if values is not None and not np.isfinite(values).all():
            wrong = ~np.isfinite(values) & (experts != NO_EXPERT)
            if wrong.any():
                yield f"{name}: expected finite {what}", wrong, values
    if logits is not None and not np.isfinite(logits).all():
        wrong = ~(logits < np.inf)  # NaN compares false
        if wrong.any():
            yield f"{name}: expected finite router logits", wrong, logits

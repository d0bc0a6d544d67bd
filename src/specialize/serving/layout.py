"""Which layers an answer has, and whether its experts can be what routers chose."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from specialize.errors import CaptureError
from specialize.text import list_names
from specialize.trace import NO_EXPERT
from specialize.trace.imports.source import ModelFacts

FEWEST_CHOICES = 64  # of one expert: fewer can all be expert 0 by chance


class Layout:
    """Takes the experts of the MoE layers from answers, and checks them.

    Args:
        model: what its configuration says.
        num_layers: number of layers in the answers.

    Attributes:
        notes: what was assumed, one line each.

    Raises:
        CaptureError: the answers can be of no server of this model.
    """

    def __init__(self, model: ModelFacts, num_layers: int) -> None:
        if num_layers not in (len(model.moe_layers), model.num_layers):
            raise CaptureError(
                f"expected the experts of the {len(model.moe_layers)} MoE layers of {model.name}, or of all "
                f"{model.num_layers} layers, got {num_layers}; give the MODEL that is served"
            )
        self.notes: list[str] = []
        self._model = model
        self._num_layers = num_layers
        self._has_all = num_layers == model.num_layers
        self._index = list(model.moe_layers) if self._has_all else list(range(num_layers))
        if model.dense_layers:
            which = list_names(model.dense_layers)
            self.notes.append(
                f"the server returns all {num_layers} layers; the dense ones by the configuration of {model.name} are "
                f"left out: {which}"
                if self._has_all
                else f"the server returns {num_layers} layers: taken as the MoE layers of {model.name}, without the "
                f"dense ones: {which}"
            )

    def note_dense(self, experts: NDArray[np.integer]) -> None:
        """Note dense layers that have experts other than 0 in the experts [rows, layers, k] of an answer."""
        layers = self._model.dense_layers if self._has_all else ()
        routed = [layer for layer in layers if ((experts[:, layer] != 0) & (experts[:, layer] != NO_EXPERT)).any()]
        if routed:
            self.notes.append(
                f"warning: the server returns experts for layers that are dense by the configuration of "
                f"{self._model.name} ({list_names(routed)}); is MODEL the model that is served?"
            )

    def take(
        self, experts: NDArray[np.integer], opening: int, end: int, *, where: Callable[[int], str], without_cache: str
    ) -> NDArray[np.int16]:
        """Return the experts int16 [MoE layers, tokens, k] of the tokens of a sequence that are recorded.

        Args:
            experts: integers [rows, layers, k], a row for each token of the sequence, and any rows after them.
            opening: the first token that is recorded.
            end: number of tokens in the sequence.
            where: names a row for messages.
            without_cache: option of the server with which it reads every token of a prompt.

        Raises:
            CaptureError: rows are missing, an id is no expert's, or a token chose one expert twice.
        """
        top_k = self._model.top_k
        if experts.shape[1:] != (self._num_layers, top_k):
            raise CaptureError(
                f"expected {self._num_layers} layers with k = {top_k}, got {experts.shape[1]} layers with "
                f"k = {experts.shape[2]}; give the MODEL that is served"
            )
        if len(experts) < end:
            raise CaptureError(f"expected the experts of {end:,} tokens, got {len(experts):,} rows")
        chosen = experts[opening:end]
        chosen = chosen if len(self._index) == self._num_layers else chosen[:, self._index]
        self._check_ids(chosen, lambda row: where(opening + row), without_cache)
        return chosen.swapaxes(0, 1).astype(np.int16, order="C")

    def _check_ids(self, chosen: NDArray[np.integer], where: Callable[[int], str], without_cache: str) -> None:
        num_experts = self._model.num_experts
        if not chosen.size:
            return
        lowest, highest = int(chosen.min()), int(chosen.max())
        if highest == 0 == lowest and num_experts > 1 and (chosen.shape[2] > 1 or chosen.size >= FEWEST_CHOICES):
            raise CaptureError(
                "expected the experts that routers chose, got expert 0 for every token in every layer: the server "
                "recorded nothing; use another version of it"
            )
        if lowest < 0 or highest >= num_experts:
            self._refuse(chosen, where, without_cache)
        if chosen.shape[2] > 1:
            ranked = np.sort(chosen, axis=2)
            twice = ranked[:, :, 1:] == ranked[:, :, :-1]
            if twice.any():
                row, layer, slot = np.unravel_index(int(np.argmax(twice)), twice.shape)
                raise CaptureError(
                    f"{where(int(row))}, layer {self._model.moe_layers[layer]}: expected {chosen.shape[2]} different "
                    f"experts, got expert {ranked[row, layer, slot]} twice; is MODEL the model that is served?"
                )

    def _refuse(self, chosen: NDArray[np.integer], where: Callable[[int], str], without_cache: str) -> None:
        num_experts = self._model.num_experts
        wrong = (chosen < 0) | (chosen >= num_experts)
        row, layer, slot = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        value, place = int(chosen[row, layer, slot]), f"{where(int(row))}, layer {self._model.moe_layers[layer]}"
        if value == NO_EXPERT:
            raise CaptureError(
                f"{place}: expected the expert that was chosen, got {NO_EXPERT}, as of tokens that the server takes "
                f"from its cache; start it with {without_cache}, or use a newer version"
            )
        raise CaptureError(
            f"{place}: expected an expert id from 0 to {num_experts - 1}, got {value}; is MODEL the model that is "
            "served? A server that balances load with copies of experts numbers the copies: start it without them"
        )

"""Rows of a label set, or of the experts alone, on what switching off experts changed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.annotation import Annotation
from specialize.choices import InterventionMode
from specialize.measure.base.blocks import block_tokens
from specialize.measure.base.counting import count_blocks
from specialize.measure.base.information import lift
from specialize.measure.estimators.agreement import Agreement, measure_agreement, measure_score_agreement
from specialize.measure.estimators.effects import NUM_SUMS, count_effects, measure_effects
from specialize.measure.estimators.rank_agreement import RankAgreement
from specialize.measure.estimators.selectivity import compare_selectivity, measure_selectivity
from specialize.measure.results.rows import estimate_rows
from specialize.names import REMOVED_BY
from specialize.trace.ablation import Condition

if TYPE_CHECKING:
    from specialize.trace import RouterSpec, RoutingTrace
    from specialize.trace.ablation import AblationStore

EXPERTS = "experts"  # name of the frame of what needs no labels
_NATS = np.log(2)  # in a bit
_PARTS = {"effect": "effect", "exposure": "exposure", "per_use_effect": "per_use", "indirect_effect": "indirect"}


@dataclass(frozen=True)
class AblatedTokens:
    """The tokens of the documents that were run again.

    Attributes:
        rows: their rows in the trace, int64 [tokens].
        documents: document of each, integers [tokens].
        sequences: window of each, integers [tokens].
        groups: group of each document of the trace, integers [documents].
    """

    rows: NDArray[np.int64]
    documents: NDArray[np.integer]
    sequences: NDArray[np.integer]
    groups: NDArray[np.integer]

    @classmethod
    def of(cls, trace: "RoutingTrace", documents: NDArray[np.int64]) -> "AblatedTokens":
        """Find the tokens of some documents of a trace."""
        tokens = trace.tokens(["document", "sequence"])
        rows = np.flatnonzero(np.isin(tokens["document"].to_numpy(), documents))
        kept = tokens.iloc[rows]
        return cls(rows, kept["document"].to_numpy(), kept["sequence"].to_numpy(), trace.groups)


@dataclass
class FunctionRows:
    """Measures one label set after the other.

    Attributes:
        trace: the trace.
        store: its ablation.
        tokens: the tokens that were run again.
        mode: of the conditions.
        settings: permutations, num_blocks and seed.
    """

    trace: "RoutingTrace"
    store: "AblationStore"
    tokens: AblatedTokens
    mode: InterventionMode
    settings: dict[str, int]

    def rows_of(self, annotation: Annotation | None) -> Iterator[pd.DataFrame]:
        """Yield the rows of a label set, or without one those of the experts alone."""
        own = annotation
        if own is None:
            own = Annotation(EXPERTS, "document", ("all",), np.zeros(self.trace.num_documents, dtype=np.int32))
        if annotation is not None and not ((self._codes(own) >= 0) & self._has_next).any():
            return
        complete: list[tuple[RouterSpec, NDArray[np.float64], NDArray[np.float64]]] = []
        for router in self.trace.layers:
            experts = self.trace.experts(router.name)[self.tokens.rows]
            masses = self._count(own, experts, router.num_experts)
            sums = np.full((*masses.shape, NUM_SUMS), np.nan)
            for expert in range(router.num_experts):
                changes = self._changes([(router.name, expert)])
                if changes is None:
                    continue
                used = (experts == expert).any(axis=1)
                rows = pd.concat(list(self._of_expert(own, changes, used, with_labels=annotation is not None)))
                yield rows.assign(expert=expert, layer=router.layer, router=router.name)
                sums[:, :, expert] = count_effects(
                    changes, used, self._codes(own), blocks=self._blocks, num_labels=len(own.labels),
                    num_blocks=self._num_blocks,
                )  # fmt: skip
            observed = lift(masses.sum(axis=0)) if annotation is not None else masses.sum(axis=0) / max(masses.sum(), 1)
            yield from self._observed_rows(own, observed, sums, router, with_labels=annotation is not None)
            if np.isfinite(sums).all():
                complete.append((router, masses, sums))
        if complete:
            how: dict[str, Any] = {name: self.settings[name] for name in ("permutations", "seed")}
            how["n_documents"] = len(np.unique(self.tokens.documents))
            routers, masses_of, sums_of = zip(*complete, strict=True)
            if annotation is not None:
                for rows in _agreement_rows(measure_agreement(masses_of, sums_of, **how), routers):
                    yield rows.assign(label_set=annotation.name)
            else:
                yield from self._score_rows(routers, masses_of, sums_of, how)
        if annotation is None:
            yield from self._removal_rows(own)
        else:
            yield from self._set_rows(own)

    @cached_property
    def _blocks(self) -> NDArray[np.int32]:
        """Block of each token."""
        cut = block_tokens(self.tokens.documents, groups=self.tokens.groups, num_blocks=self.settings["num_blocks"])
        return cut.token_blocks

    @property
    def _num_blocks(self) -> int:
        return int(self._blocks.max()) + 1

    @cached_property
    def _has_next(self) -> NDArray[np.bool_]:
        """Whether each token has a next one, so that its loss can change."""
        return np.isfinite(self.store.baseline())

    @cached_property
    def _saliency(self) -> pd.DataFrame | None:
        return self.store.saliency()

    def _codes(self, annotation: Annotation) -> NDArray[np.int32]:
        """Return the label of each token."""
        return annotation.codes if annotation.level == "token" else annotation.codes[self.tokens.documents]

    def _changes(self, experts: Sequence[tuple[str, int]]) -> NDArray[np.float64] | None:
        """Return the change of each token in bits with some experts switched off; None if it was not run."""
        condition = Condition.of(experts, self.mode, self.settings["seed"])
        return self.store.changes(condition) / _NATS if self.store.holds(condition) else None

    def _count(self, annotation: Annotation, experts: NDArray[np.int16], num_experts: int) -> NDArray[np.float64]:
        return count_blocks(
            self._codes(annotation), experts, blocks=self._blocks, num_labels=len(annotation.labels),
            num_experts=num_experts, num_blocks=self._num_blocks,
        )  # fmt: skip

    def _of_expert(
        self, annotation: Annotation, changes: NDArray[np.float64], used: NDArray[np.bool_], *, with_labels: bool
    ) -> Iterator[pd.DataFrame]:
        where: dict[str, Any] = {
            "codes": annotation.codes,
            "documents": self.tokens.documents,
            "level": annotation.level,
            "num_labels": len(annotation.labels),
            "groups": self.tokens.groups,
            "num_blocks": self.settings["num_blocks"],
        }
        found = measure_effects(changes, used, permutations=0, **where)
        labels = {"label": list(annotation.labels), "label_set": annotation.name} if with_labels else {}
        for metric, part in _PARTS.items():
            rows = estimate_rows(getattr(found, part), metric).assign(**labels)
            yield rows[rows["value"].notna()]
        if with_labels:
            drawn: dict[str, Any] = {name: self.settings[name] for name in ("permutations", "seed")}
            rows = estimate_rows(measure_selectivity(changes, **where, **drawn), "effect_selectivity")
            yield rows.assign(**labels)[rows["value"].notna()]

    def _observed_rows(
        self,
        annotation: Annotation,
        observed: NDArray[np.float64],
        sums: NDArray[np.float64],
        router: "RouterSpec",
        *,
        with_labels: bool,
    ) -> Iterator[pd.DataFrame]:
        """Yield lift, or load and saliency, of the experts that were switched off alone."""
        known = np.isfinite(sums).all(axis=(0, 1, 3))
        if not known.any():
            return
        place = {"layer": router.layer, "router": router.name}
        label, expert = np.nonzero(np.isfinite(observed) & known)
        rows = pd.DataFrame({"expert": expert, "value": observed[label, expert], **place})
        if with_labels:
            names = np.array(annotation.labels, dtype=object)
            yield rows.assign(metric="lift", unit="ratio", label=names[label], label_set=annotation.name)
            return
        yield rows.assign(metric="load", unit="share")
        scores = self._scores(router)
        for metric, unit in (("saliency", "norm × gate weight"), ("output_norm", "norm")):
            if metric in scores:
                values = scores[metric][known]
                yield pd.DataFrame(
                    {"expert": np.flatnonzero(known), "value": values, "metric": metric, "unit": unit, **place}
                ).dropna(subset="value")

    def _scores(self, router: "RouterSpec") -> dict[str, NDArray[np.float64]]:
        saliency = self._saliency
        if saliency is None:
            return {}
        own = saliency[saliency["router"] == router.name].sort_values("expert")
        return {name: own[name].to_numpy(dtype=np.float64) for name in ("saliency", "output_norm")}

    def _score_rows(
        self,
        routers: "Sequence[RouterSpec]",
        masses: Sequence[NDArray[np.float64]],
        sums: Sequence[NDArray[np.float64]],
        how: dict[str, Any],
    ) -> Iterator[pd.DataFrame]:
        scores: dict[str, list[NDArray[np.float64]]] = {"load": [each.sum(axis=(0, 1)) for each in masses]}
        for name in ("saliency", "output_norm"):
            found = [self._scores(router).get(name) for router in routers]
            if all(each is not None for each in found):
                scores[name] = [each for each in found if each is not None]
        for name, values in scores.items():
            for rows in _agreement_rows(measure_score_agreement(values, sums, **how), routers):
                yield rows.assign(label_set="score", label=name)

    def _set_rows(self, annotation: Annotation) -> Iterator[pd.DataFrame]:
        """Yield the selectivity of the sets that lead the labels of a label set."""
        for each in self.store.sets:
            known = each.label_set == annotation.name and each.label in annotation.labels
            changes = self._changes(each.experts) if known else None
            drawn = [self._changes(experts) for experts in each.random] if changes is not None else []
            if changes is None or not drawn or any(found is None for found in drawn):
                continue
            found = compare_selectivity(
                changes, [other for other in drawn if other is not None], annotation.codes, self.tokens.documents,
                label=annotation.labels.index(each.label), level=annotation.level, groups=self.tokens.groups,
                num_blocks=self.settings["num_blocks"],
            )  # fmt: skip
            for name, estimate in (("", found.selectivity), ("_above_random_sets", found.difference)):
                rows = estimate_rows(estimate, f"effect_selectivity{name}")
                yield rows.assign(label=each.label, label_set=annotation.name)

    def _removal_rows(self, everything: Annotation) -> Iterator[pd.DataFrame]:
        """Yield the effect of switching off the first experts of each ranking."""
        for each in self.store.removals:
            changes = self._changes(each.experts)
            if changes is None:
                continue
            found = measure_effects(
                changes, np.ones(len(changes), dtype=bool), everything.codes, self.tokens.documents, level="document",
                num_labels=1, permutations=0, groups=self.tokens.groups, num_blocks=self.settings["num_blocks"],
            )  # fmt: skip
            rows = estimate_rows(found.effect, "removal_effect").drop(columns="expert")
            yield rows.assign(label_set=f"{REMOVED_BY}{each.ranking}", label=str(len(each.experts)))


def _agreement_rows(agreement: Agreement, routers: "Sequence[RouterSpec]") -> Iterator[pd.DataFrame]:
    """Yield the rank correlations of each layer, and their mean without a layer."""
    for name, found in (("per_use_agreement", agreement.per_use), ("total_agreement", agreement.total)):
        for metric, layers, mean in _both(name, found):
            rows = estimate_rows(layers, metric).drop(columns="expert")
            rows = rows.assign(layer=[each.layer for each in routers], router=[each.name for each in routers])
            yield rows[rows["value"].notna()]
            whole = estimate_rows(mean, metric)
            yield whole[whole["value"].notna()]


def _both(name: str, found: RankAgreement) -> Iterator[tuple[str, Any, Any]]:
    yield name, found.layers, found.mean
    yield f"corrected_{name}", found.corrected_layers, found.corrected_mean

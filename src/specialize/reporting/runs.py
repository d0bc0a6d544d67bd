"""One run of a report: its manifest and everything that was measured."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

SYNTAX = "upos"
GOLD = "gold_upos"
TOPICS = "bertopic"


@dataclass(frozen=True)
class RunResults:
    """One run of a report.

    Attributes:
        name: the run's name, distinct among the runs of a report, without control characters.
        path: its folder.
        manifest: manifest.json.
        digest: SHA-256 of manifest.json, hexadecimal.
        syntax: result frames of labels of tokens by label set: ``upos`` first, gold tags, then the others by name.
        taggers: by tag, how a tagger compares with gold tags, see `specialize.measure.measure_tagger_error`.
        topics: result frames by label set: ``bertopic`` first, then known labels by name.
        topic_info: one row a fitted topic, all columns strings, or None.
        routing: what `specialize routing` measured, or None.
        top_tokens: the table of `specialize vocabulary`, or None.
        topic_quality: quantity (str) and value (float) of the topic fit, or None.
        others: what other commands measured, by the name of its file below the run: ``vocabulary``, ``probe-upos``,
            ``compare-against-OTHER``.
        ablation: what `specialize ablate` measured, by file: a label set or ``experts``, with ``.MODE`` for modes other
            than drop.
        training: what was measured while the model trained, with the column ``step``, or None.
        tagging: how parts of speech were tagged, the provenance of the annotation; empty if they were not.
        unverified: names of result files that do not name their trace; empty if all do.
    """

    name: str
    path: Path
    manifest: dict[str, Any]
    digest: str
    syntax: dict[str, pd.DataFrame]
    taggers: dict[str, pd.DataFrame]
    topics: dict[str, pd.DataFrame]
    topic_info: pd.DataFrame | None
    topic_quality: pd.DataFrame | None
    routing: pd.DataFrame | None = None
    top_tokens: pd.DataFrame | None = None
    others: dict[str, pd.DataFrame] = field(default_factory=dict)
    ablation: dict[str, pd.DataFrame] = field(default_factory=dict)
    training: pd.DataFrame | None = None
    tagging: dict[str, Any] = field(default_factory=dict)
    unverified: str = ""

    @property
    def routing_unit(self) -> str:
        """``token``, ``sequence``, ``mixed``, or an empty string where the manifest does not say."""
        configured = {str(value) for key, value in _walk(self.manifest.get("model")) if key == "routing_unit"}
        units = configured or {str(value) for key, value in _walk(self.manifest.get("routers")) if key == "unit"}
        units &= {"token", "sequence"}
        return units.pop() if len(units) == 1 else "mixed" if units else ""

    @property
    def kind(self) -> str:
        """What the run holds, in a few words: ``token-level routing``, or an empty string where this is unknown."""
        if not self.has_tokens:
            return "usage by document"
        return f"{self.routing_unit}-level routing" if self.routing_unit else ""

    @property
    def has_tokens(self) -> bool:
        """Whether the run has tokens, and not only the usage of experts by document."""
        return "usage" not in (self.manifest.get("contents") or ())

    @property
    def can_be_ablated(self) -> bool:
        """Whether `specialize trace` made the run, so that its documents can be run again with experts switched off."""
        settings = self.manifest.get("settings")
        return isinstance(settings, dict) and {"context_length", "weights_digest"} <= settings.keys()

    @property
    def is_causal(self) -> bool:
        """False where the model's configuration says that its sequence router reads the whole sequence."""
        model = dict(_walk(self.manifest.get("model", {})))
        if model.get("is_causal") is False:
            return False
        return not (model.get("sequence_summary") == "full" and self.routing_unit != "token")

    @property
    def first_random_router(self) -> str:
        """What the random router is called whose own rows the results have, the first where there are several."""
        routers = self.manifest.get("routers") or []
        several = any(router.get("draw") for router in routers if isinstance(router, dict))
        return "first random router" if several else "random router"

    @property
    def label(self) -> str:
        """The name, with a warning where the model is not causal."""
        return self.name if self.is_causal else f"{self.name} (non-causal)"

    @property
    def frames(self) -> dict[str, pd.DataFrame]:
        """All result frames by label set, syntax first."""
        return self.syntax | self.topics

    @property
    def main_syntax(self) -> list[str]:
        """The label set of tokens that stands for syntax, if any: gold parts of speech, else the first."""
        return [GOLD] if GOLD in self.syntax else list(self.syntax)[:1]

    @property
    def main_label_sets(self) -> list[str]:
        """The label sets that stand for syntax and for topics: the first of tokens and the first of documents."""
        return [*self.main_syntax, *list(self.topics)[:1]]

    @property
    def load_frame(self) -> pd.DataFrame | None:
        """The frame that has the load of each expert: of the routing, else of the first label set, or None."""
        frames = ([] if self.routing is None else [self.routing]) + list(self.frames.values())
        return next((frame for frame in frames if (frame["metric"] == "load").any()), None)

    @property
    def label_sets(self) -> list[str]:
        """Names of the label sets measured, those of tokens first."""
        return list(self.frames)


def sorted_label_sets(runs: Sequence[RunResults]) -> list[str]:
    """Return the label sets of all runs: part of speech, fitted topics, then others as they come."""
    names = list(dict.fromkeys(name for run in runs for name in run.label_sets))
    return sorted(names, key=lambda name: (name != SYNTAX, name != GOLD, name != TOPICS))


def section_of(label_set: str, runs: Sequence[RunResults]) -> str:
    """Return ``topics`` for labels of documents and topics of windows, ``syntax`` for all other labels of tokens."""
    return "topics" if label_set.startswith(TOPICS) or any(label_set in run.topics for run in runs) else "syntax"


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key and plain value inside nested mappings and lists."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, dict | list):
                yield from _walk(inner)
            else:
                yield str(key), inner
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)

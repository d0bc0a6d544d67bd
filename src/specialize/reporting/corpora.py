"""Runs of different corpora, whose numbers are shown side by side and not compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from specialize.reporting.runs import RunResults
from specialize.reporting.studied import name_corpus
from specialize.text import list_names


@dataclass(frozen=True)
class CorpusRuns:
    """The runs of one corpus, all of them where a report is of one.

    Attributes:
        runs: in the order of the report.
        number: what the corpus is called in few words, ``corpus 2``; empty where it is the only one.
        name: the same with the name of its file.
        suffix: for names of figures that one corpus has; empty for the first one.
    """

    runs: list[RunResults]
    number: str = ""
    name: str = ""
    suffix: str = ""

    @property
    def opening(self) -> str:
        """What a caption or sentence begins with: which runs it is of; empty where the corpus is the only one."""
        return f"{self.name} ({list_names([run.label for run in self.runs])}): " if self.name else ""


def group_by_corpus(runs: Sequence[RunResults]) -> list[CorpusRuns]:
    """Return the runs of each corpus, in the order of the first runs; the same documents are the same corpus."""
    found: dict[Any, list[RunResults]] = {}
    for run in runs:
        found.setdefault(_identify(run), []).append(run)
    if len(found) == 1:
        return [CorpusRuns(list(runs))]
    groups = []
    for number, own in enumerate(found.values(), 1):
        source = name_corpus(own[0])
        short = f"corpus {number}"
        long = f"{short} of {source}" if source else short
        groups.append(CorpusRuns(own, short, long, f"-corpus-{number}" if number > 1 else ""))
    return groups


def suffix_of(run: RunResults, groups: Sequence[CorpusRuns]) -> str:
    """Return what the names of the figures of a run's corpus end with."""
    return next(group.suffix for group in groups if any(each.name == run.name for each in group.runs))


def _identify(run: RunResults) -> Any:
    """Return the digest of a run's documents, else that of the file that holds them, else the run's own name."""
    for entry, name in (("corpus", "digest"), ("documents", "sha256")):
        facts = run.manifest.get(entry)
        if isinstance(facts, dict) and facts.get(name):
            return facts[name]
    return run.name

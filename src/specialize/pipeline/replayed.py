"""The corpus of a trace: documents, or a run whose token ids are read again."""

from collections.abc import Mapping
from os import PathLike
from os.path import isdir, isfile, join
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specialize.addresses import is_address
from specialize.errors import CorpusError, TraceError
from specialize.events import SILENT, Reporter
from specialize.remote.places import is_run_at, open_place

if TYPE_CHECKING:
    from specialize.corpus import Corpus


def open_to_trace(
    corpus: Any,
    run: Path,
    how: Mapping[str, Any],
    *,
    for_texts: Mapping[str, Any],
    reporter: Reporter = SILENT,
) -> "Corpus":
    """Open what is to be traced: a run folder or an open trace, whose token ids are read again, or documents.

    Args:
        corpus: as of `specialize.trace_corpus`.
        run: the run folder that is written.
        how: the arguments of `specialize.corpus.open_corpus`, besides the source.
        for_texts: options of the trace that say how texts are read; None if they are not given.
        reporter: receives what is downloaded.

    Raises:
        CorpusError: the corpus cannot be read, or a run is one of several paths.
        TraceError: an option is given with a run that is for texts, or the run cannot be read again.
    """
    from specialize.corpus import open_corpus
    from specialize.trace import RoutingTrace, open_trace
    from specialize.trace.parts import refuse_part
    from specialize.tracing.replay import Replay
    from specialize.tracing.replay_reading import check_replay

    if isinstance(corpus, list | tuple) and any(isinstance(each, PathLike) and _is_run(each) for each in corpus):
        raise CorpusError("CORPUS: expected one run alone, or paths of documents, got a run among several paths")
    if is_run_at(corpus):
        corpus = open_place(corpus, "read")
    elif is_address(corpus) and not corpus.startswith("hf://"):
        from specialize.remote.corpora import local_corpus

        corpus = local_corpus(corpus, reporter=reporter)
    if not (isinstance(corpus, RoutingTrace) or _is_run(corpus)):
        return open_corpus(corpus, **how)
    trace = corpus if isinstance(corpus, RoutingTrace) else open_trace(corpus)
    refuse_part(trace.path, trace.manifest)
    given = {name: value for name, value in how.items() if name not in ("limit", "sample_seed")}
    given["unit"] = given["unit"] != "file"
    check_replay(str(trace.path), given | dict(for_texts))
    if trace.path.resolve() == run.resolve():
        raise TraceError(f"{run}: expected another folder than that of the run that is read again; choose a new one")
    return Replay(trace, limit=how["limit"])


def _is_run(source: Any) -> bool:
    if not isinstance(source, str | PathLike):
        return False
    return isfile(join(source, "manifest.json")) and isdir(join(source, "trace"))  # False for what is no path

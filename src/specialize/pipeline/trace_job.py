"""One trace, or one part of it, as it can be made here or be sent to a worker."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specialize.errors import CaptureError, CorpusError
from specialize.events import Reporter
from specialize.pipeline.models import open_model
from specialize.pipeline.parts import choose_gpu

if TYPE_CHECKING:
    from specialize.corpus import Corpus
    from specialize.serving.options import ServerOptions
    from specialize.trace import RoutingTrace
    from specialize.trace.parts import Part
    from specialize.tracing.options import TraceOptions
    from specialize.tracing.plan import CorpusSurvey


@dataclass(frozen=True)
class TraceJob:
    """What a trace is made from; all was checked that can be checked before a model is loaded.

    Attributes:
        model: as of `specialize.trace_corpus`.
        tokenizer: of a loaded model.
        loading: how a model that is named is loaded.
        server: the inference server that runs it; None if it runs in this process.
        documents: read once to the end.
        survey: of the documents.
        options: how they are run, and what is recorded.
        chat_template: for conversations.
        repair: trace missing and damaged shards again.
        command: the command line, for the manifest.
    """

    model: Any
    tokenizer: Any
    loading: Mapping[str, Any]
    server: "ServerOptions | None"
    documents: "Corpus"
    survey: "CorpusSurvey"
    options: "TraceOptions"
    chat_template: str | PathLike[str] | None
    repair: bool
    command: str | None
    registered: Mapping[Any, Any] = field(default_factory=dict)  # kinds of layers, in a process where they are not

    def make(
        self, run: Path, *, part: "Part | None", reporter: Reporter, one_of_several: bool = False
    ) -> "RoutingTrace":
        """Make the trace, or a part of it.

        Args:
            run: the run folder of the trace, or of the part.
            part: which part; None for the whole trace.
            reporter: receives messages and progress.
            one_of_several: whether other processes of this machine trace, too, so that it takes a GPU of its own.
        """
        how: dict[str, Any] = {
            "options": self.options,
            "chat_template": self.chat_template,
            "part": part,
            "repair": self.repair,
            "command": self.command,
            "reporter": reporter,
            "survey": self.survey,
        }
        if self.server is not None:
            from specialize.serving import trace_served

            return trace_served(self.model, self.documents, run, server=self.server, **how)
        loading = dict(self.loading)
        is_named = isinstance(self.model, str | PathLike)
        if one_of_several and is_named and loading["device"] is None and loading["device_map"] is None:
            loading["device"] = choose_gpu(reporter)
        checkpoint = open_model(self.model, self.tokenizer, loading=loading, reporter=reporter)
        from specialize.capture import trace_documents  # and with it torch, if no model was loaded

        if self.registered:
            from specialize.capture.registry import take_over

            take_over(self.registered)
        return trace_documents(checkpoint, self.documents, run, **how)

    def is_more_than(self, manifest: "Mapping[str, Any] | None") -> bool:
        """Return whether a trace lacks anything that this one is to have."""
        if manifest is None or self.repair or not manifest["complete"]:
            return True
        return bool((manifest.get("corpus") or {}).get("digest") != self.documents.digest)


def check_sendable(model: Any, documents: "Corpus") -> None:
    """Check that other processes can load a model and read a corpus.

    Raises:
        CaptureError: the model is loaded in this process.
        CorpusError: the corpus is what this process reads from its standard input.
    """
    if not isinstance(model, str | PathLike):
        raise CaptureError(
            "model: expected with the engine ray the folder or hub id of a model, which every worker loads, got one "
            "that is loaded; save it with save_pretrained, and its tokenizer, and give the folder"
        )
    if documents.source == "stdin":
        raise CorpusError(
            "stdin: expected with the engine ray documents that every worker can read, got standard input; save them "
            "to a file"
        )

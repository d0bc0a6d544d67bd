"""Measure expert specialization in Mixture-of-Experts language models.

The stages in order: `trace_corpus` (or `record`, `import_trace`; `merge` joins parts of a trace), `syntax`, `topics`,
`annotate`, `routing`, `vocabulary`, `probe`, `compare`, `ablate`, `report`; `run` does the main ones at once. The
pieces they are made of are in `specialize.capture`, `specialize.trace`, `specialize.annotators`, `specialize.measure`
and `specialize.plot`.

Importing this package is instant: every public name is loaded on first use.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from specialize.lazy import load_on_use

if TYPE_CHECKING:
    from specialize import annotators, capture, measure, plot
    from specialize.annotation import Annotation
    from specialize.capture import (
        Checkpoint,
        LayerRouting,
        Recorder,
        attach,
        intervene,
        load_checkpoint,
        register_router,
    )
    from specialize.events import Reporter
    from specialize.monitoring.monitor import Monitor
    from specialize.pipeline.ablate import ablate
    from specialize.pipeline.annotate import annotate
    from specialize.pipeline.callback import SpecializationCallback
    from specialize.pipeline.compare import compare
    from specialize.pipeline.exchange import affinity, export, validate
    from specialize.pipeline.inspect import inspect
    from specialize.pipeline.merge import merge
    from specialize.pipeline.monitor import monitor
    from specialize.pipeline.plan import plan
    from specialize.pipeline.probe import probe
    from specialize.pipeline.record import record
    from specialize.pipeline.report import figures, report
    from specialize.pipeline.routing import routing
    from specialize.pipeline.run import run
    from specialize.pipeline.syntax import syntax
    from specialize.pipeline.topics import topics
    from specialize.pipeline.trace import trace_corpus
    from specialize.pipeline.train import train
    from specialize.pipeline.vocabulary import vocabulary
    from specialize.trace import RouterSpec, RoutingTrace, open_trace
    from specialize.trace.imports import import_trace

try:
    __version__ = version("specialize")
except PackageNotFoundError:  # the source is used as it lies, on the path
    __version__ = "0+source"

_HOMES = {
    "Annotation": "specialize.annotation",
    "Checkpoint": "specialize.capture",
    "LayerRouting": "specialize.capture",
    "Monitor": "specialize.monitoring.monitor",
    "Recorder": "specialize.capture",
    "Reporter": "specialize.events",
    "RouterSpec": "specialize.trace",
    "RoutingTrace": "specialize.trace",
    "SpecializationCallback": "specialize.pipeline.callback",
    "ablate": "specialize.pipeline.ablate",
    "affinity": "specialize.pipeline.exchange",
    "annotate": "specialize.pipeline.annotate",
    "annotators": "specialize",
    "attach": "specialize.capture",
    "capture": "specialize",
    "compare": "specialize.pipeline.compare",
    "export": "specialize.pipeline.exchange",
    "figures": "specialize.pipeline.report",
    "import_trace": "specialize.trace.imports",
    "inspect": "specialize.pipeline.inspect",
    "intervene": "specialize.capture",
    "load_checkpoint": "specialize.capture",
    "measure": "specialize",
    "merge": "specialize.pipeline.merge",
    "monitor": "specialize.pipeline.monitor",
    "open_trace": "specialize.trace",
    "plan": "specialize.pipeline.plan",
    "plot": "specialize",
    "probe": "specialize.pipeline.probe",
    "record": "specialize.pipeline.record",
    "register_router": "specialize.capture",
    "report": "specialize.pipeline.report",
    "routing": "specialize.pipeline.routing",
    "run": "specialize.pipeline.run",
    "syntax": "specialize.pipeline.syntax",
    "topics": "specialize.pipeline.topics",
    "trace_corpus": "specialize.pipeline.trace",
    "train": "specialize.pipeline.train",
    "validate": "specialize.pipeline.exchange",
    "vocabulary": "specialize.pipeline.vocabulary",
}

__all__ = [
    "Annotation",
    "Checkpoint",
    "LayerRouting",
    "Monitor",
    "Recorder",
    "Reporter",
    "RouterSpec",
    "RoutingTrace",
    "SpecializationCallback",
    "__version__",
    "ablate",
    "affinity",
    "annotate",
    "annotators",
    "attach",
    "capture",
    "compare",
    "export",
    "figures",
    "import_trace",
    "inspect",
    "intervene",
    "load_checkpoint",
    "measure",
    "merge",
    "monitor",
    "open_trace",
    "plan",
    "plot",
    "probe",
    "record",
    "register_router",
    "report",
    "routing",
    "run",
    "syntax",
    "topics",
    "trace_corpus",
    "train",
    "validate",
    "vocabulary",
]


__getattr__ = load_on_use(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__

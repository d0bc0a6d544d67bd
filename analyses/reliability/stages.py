"""The commands that are disturbed: what each is, what it reads, and which of its outputs are compared."""

from dataclasses import dataclass, replace

_TRACE = ("manifest.json", "trace/*.arrow")
_ANNOTATIONS = (*_TRACE, "annotations/*.arrow")
_RESULTS = (
    *(f"{name}/*.parquet" for name in ("syntax", "topics", "routing", "vocabulary", "probe", "compare")),
    "topics/topic_*.csv",
)
_MEASURED = ("--permutations", "20")


@dataclass(frozen=True)
class Stage:
    """A command.

    Attributes:
        name: of the command.
        arguments: all of it; the folder it works on is `folder`.
        folder: the run folder, or that of a training run.
        outputs: patterns of what it writes, in the folder that holds `folder`: compared with those of a clean run.
        reads: patterns of what it reads, in `folder`: what is damaged first.
        uses: files and folders that it reads beside `folder`.
        prints: whether what it prints to stdout is compared, too.
        fresh: patterns of what is removed before a command is interrupted, so that there is work to do; by default
            the outputs.
        options: added to the command to mend a damaged run.
        without: patterns of what is never there before it.
        once: whether it writes to a new folder only, so that it is never run where its outputs are.
    """

    name: str
    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    reads: tuple[str, ...] = _TRACE
    folder: str = "run"
    uses: tuple[str, ...] = ()
    prints: bool = False
    fresh: tuple[str, ...] | None = None
    options: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    once: bool = False

    @property
    def removed(self) -> tuple[str, ...]:
        """Patterns of what is removed for a run with work to do."""
        return self.outputs if self.fresh is None else self.fresh


_TRAIN = Stage(
    "train",
    ("train", "train.toml", "-o", "trained"),
    # not the card, README.md, which its author may edit
    outputs=("trained/model/*.json", "trained/model/*.safetensors", "trained/metrics.csv"),
    reads=("*", "model/*"),
    folder="trained",
    uses=("train.toml",),
    fresh=("trained",),
)
STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            "trace",
            ("trace", "model", "corpus.jsonl", "-o", "run"),
            outputs=("run/manifest.json", "run/trace/*.arrow"),
            uses=("corpus.jsonl", "model"),
            fresh=("run",),
            options=("--repair",),
        ),
        Stage(
            "import",
            ("import", "arrays", "routed.npz", "-o", "imported", "--documents", "documents.csv"),
            outputs=("imported/manifest.json", "imported/trace/*.arrow"),
            folder="imported",
            uses=("routed.npz", "routed.parquet", "documents.csv", "esft", "olmoe.jsonl", "vllm.npy", "sglang.jsonl"),
            once=True,
            fresh=("imported",),
        ),
        Stage("export", ("export", "run"), outputs=("run/parquet/*",), fresh=("run/parquet",), once=True),
        Stage(
            "syntax",
            ("syntax", "run", *_MEASURED),
            outputs=("run/syntax/upos.*", "run/annotations/upos.arrow"),
            reads=(*_TRACE, "annotations/upos.arrow"),
        ),
        Stage(
            "topics",
            ("topics", "run", "--embedding", "tfidf", "--reduction", "pca", "--clustering", "kmeans",
             "--num-topics", "2", *_MEASURED),
            outputs=("run/topics/theme.*", "run/topics/bertopic.*", "run/topics/topic_*", "run/topics/model/*",
                     "run/annotations/theme.arrow", "run/annotations/bertopic.arrow"),
            reads=(*_TRACE, "annotations/theme.arrow", "annotations/bertopic.arrow", "annotations/embeddings/*",
                   "topics/model/*"),
        ),
        Stage(
            "annotate",
            ("annotate", "run", "--from", "labels.csv", *_MEASURED),
            outputs=("run/topics/mine.*", "run/annotations/mine.arrow"),
            reads=(*_TRACE, "annotations/mine.arrow"),
            uses=("labels.csv",),
        ),
        Stage("routing", ("routing", "run", *_MEASURED), outputs=("run/routing/*",)),
        Stage("vocabulary", ("vocabulary", "run", *_MEASURED), outputs=("run/vocabulary/*",)),
        Stage(
            "probe",
            ("probe", "run", "--no-mlp", "--folds", "2", "--permutations", "3"),
            outputs=("run/probe/*",),
            reads=_ANNOTATIONS,
        ),
        Stage("compare", ("compare", "run", "other"), uses=("other",), outputs=("run/compare/*",), reads=_ANNOTATIONS),
        Stage(
            "report",
            ("report", "run", "-o", "page", "--figure-format", "png"),
            outputs=("page/report.html", "page/figures/*"),
            reads=(*_ANNOTATIONS, *_RESULTS),
            fresh=("page",),
        ),
        Stage(
            "figures",
            ("figures", "run", "-o", "drawn", "--only", "heatmap-*", "--format", "png"),
            outputs=("drawn/*",),
            reads=(*_ANNOTATIONS, *_RESULTS),
            fresh=("drawn",),
        ),
        Stage("affinity", ("affinity", "run", "--json"), outputs=(), prints=True),
        Stage(
            "validate",
            ("validate", "run"),
            outputs=("run/manifest.json", "run/trace/*.arrow"),
            prints=True,
            fresh=(),
        ),
        _TRAIN,
        replace(_TRAIN, name="train, unfinished", reads=("*", "data/*"), without=("trained/model",)),
    )
}  # fmt: skip

# The order in which the state is made that faults are injected into; another corpus is measured likewise, for swaps.
MAKING = ("trace", "export", "syntax", "topics", "annotate", "routing", "vocabulary", "probe")

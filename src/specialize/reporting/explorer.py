"""The data of the expert explorer: passages with their routing, and the labels and tokens of each expert."""

import base64
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from specialize.names import name_label_set, shorten, show_space
from specialize.reporting.formatting import round_number
from specialize.reporting.relations import ByExpert, list_partners, list_similar
from specialize.reporting.runs import RunResults
from specialize.text import clean_text, format_p, is_smallest_p
from specialize.trace import RouterSpec, RoutingTrace, open_trace
from specialize.trace.groups import take_documents

PASSAGES = 12
TOKENS = 160
LABELS = 5
_MOST_TOKENS = 8


def collect_explorer(runs: Sequence[RunResults]) -> dict[str, Any] | None:
    """Return what the explorer needs of `runs`, JSON-serialisable; None where no run has a trace with its text.

    Passages are the beginnings of documents spread evenly over the corpus. Experts and weights of a layer are bytes,
    [tokens, k] in rows, in base64: 255 is no expert (65,535 where an expert needs two bytes), and a weight of one.
    Random routers come after all runs, with the number of the run whose passages they have.
    """
    views = [(run, *view) for run in runs if (view := _view_run(run)) is not None]
    shown = [view for _, view, _ in views]
    beside = [
        {"name": f"{run.label}, {run.first_random_router}", "passages_of": number, "layers": layers}
        for number, (run, _, layers) in enumerate(views)
        if layers
    ]
    return {"runs": shown + beside} if shown else None


def list_views(explorer: dict[str, Any] | None) -> set[str]:
    """Return what the runs are called whose passages the explorer shows, and whose traces were read for it."""
    return {view["name"] for view in (explorer or {}).get("runs", ()) if "passages" in view}


def _view_run(run: RunResults) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """Return the view of a run, and the layers of the random router beside it."""
    if not (run.path / "trace").is_dir():
        return None  # results were copied without their trace
    trace = open_trace(run.path)
    if not trace.has_tokens:
        return None
    if not trace.layers or not trace.num_tokens:
        return None
    rows, passages = _choose_passages(trace)
    if not passages:
        return None
    named = {str(router.get("name")) for router in run.manifest.get("routers", [])}

    def view_layers(routers: Sequence[RouterSpec], routing: str) -> list[dict[str, Any]]:
        found = {
            "load": _loads(run, routing),
            "labels": _strongest_labels(run, routing),
            "tokens": top_tokens(run, routing),
            "partners": list_partners(run, routing),
            "similar": list_similar(run, routing),
        }
        return [
            _view_layer(trace, router, rows) | {name: by_layer[router.layer] for name, by_layer in found.items()}
            for router in routers
            if router.name in named
        ]

    layers = view_layers(trace.layers, "learned")
    return {"name": run.label, "passages": passages, "layers": layers}, view_layers(trace.random_routers, "random")


def _choose_passages(trace: RoutingTrace) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Rows of the tokens shown, and the passages they make."""
    counts = trace.token_counts
    ends = np.cumsum(counts)
    known = [batch.column("text").is_valid().to_numpy(zero_copy_only=False) for batch in trace.stored_documents()]
    shown = np.flatnonzero(np.concatenate([np.zeros(0, dtype=bool), *known]) & (counts > 0))
    shown = shown[np.unique(np.linspace(0, len(shown) - 1, PASSAGES if len(shown) else 0).astype(int))]
    spans = [trace.column("char_start"), trace.column("char_end")]
    rows: list[np.ndarray] = []
    passages = []
    for place, document in zip(shown, take_documents(trace.stored_documents(), shown).to_pylist(), strict=True):
        first = int(ends[place] - counts[place])
        own = slice(first, first + min(int(counts[place]), TOKENS))
        rows.append(np.arange(own.start, own.stop))
        whole = hashlib.blake2b(f"{document['id']}\0{document['text']}".encode(), digest_size=9).digest()
        passages.append(
            {
                "title": shorten(document["id"], width=60),
                "document": base64.b64encode(whole).decode(),  # the same in every run of the document
                "tokens": _cut_text(document["text"], np.stack([each[own] for each in spans], axis=1)),
            }
        )
    return np.concatenate(rows) if rows else np.empty(0, np.int64), passages


def _cut_text(text: str, spans: np.ndarray) -> list[str]:
    """The text of each token, white space before it included; pieces of one character share its place."""
    pieces, done = [], int(spans[0, 0])
    for _, end in spans.tolist():
        pieces.append(_keep_space(text[done:end]))
        done = max(done, end)
    return pieces


def _keep_space(piece: str) -> str:
    before, after = (" " if end.isspace() else "" for end in (piece[:1], piece[-1:]))
    cleaned = clean_text(piece)
    return f"{before}{cleaned}{after}" if cleaned else before


def _view_layer(trace: RoutingTrace, router: RouterSpec, rows: np.ndarray) -> dict[str, Any]:
    experts = trace.column("experts", router.name, routing=router.routing)[rows]
    wide = router.num_experts > 255
    packed = experts.astype("<u2" if wide else "u1")  # -1 becomes the largest number
    view = {
        "layer": router.layer,
        "experts": router.num_experts,
        "k": int(experts.shape[1]),
        "wide": wide,
        "chosen": base64.b64encode(packed.tobytes()).decode(),
    }
    if "weights" in trace.contents and router.routing == "learned":
        weights = np.nan_to_num(trace.column("weights", router.name)[rows]).clip(0, 1)
        view["weights"] = base64.b64encode(np.rint(weights * 255).astype(np.uint8).tobytes()).decode()
    return view


def _loads(run: RunResults, routing: str) -> ByExpert:
    """The load of each expert."""
    frame = run.load_frame
    found: ByExpert = defaultdict(dict)
    if frame is not None:
        rows = frame[(frame["metric"] == "load") & (frame["routing"] == routing)]
        for layer, expert, value in _zip(rows, "layer", "expert", "value"):
            found[layer][str(int(expert))] = round_number(value)
    return found


def _strongest_labels(run: RunResults, routing: str) -> ByExpert:
    """The labels of the largest lift of each expert: label set, label, lift, interval, q."""
    found: ByExpert = defaultdict(dict)
    columns = ("value", "ci_low", "ci_high", "p_value", "q_value", "n_permutations")
    for label_set, frame in run.frames.items():
        short = name_label_set(label_set).short
        rows = frame[(frame["metric"] == "lift") & (frame["routing"] == routing)]
        rows = rows[rows["value"].notna() & rows["label"].notna()].sort_values("value", ascending=False, kind="stable")
        rows = rows.groupby(["layer", "expert"]).head(LABELS)
        labels = {label: shorten(label, width=48) for label in rows["label"].unique()}
        for layer, expert, label, *estimate, p, q, permutations in _zip(rows, "layer", "expert", "label", *columns):
            own = found[layer].setdefault(str(int(expert)), [])
            tested = format_p(q, at_most=is_smallest_p(p, permutations))
            own.append([short, labels[label], *map(round_number, estimate), tested])
    return found


def top_tokens(run: RunResults, routing: str = "learned") -> ByExpert:
    """The tokens of which each expert receives the largest share: text, a space before it visible, and that share."""
    found: ByExpert = defaultdict(dict)
    table = run.top_tokens
    if table is not None:
        rows = table[(table["token"] == "input") & (table["routing"] == routing) & table["text"].notna()]
        rows = rows.sort_values("rank", kind="stable").groupby(["layer", "expert"]).head(_MOST_TOKENS)
        for layer, expert, text, share in _zip(rows, "layer", "expert", "text", "share"):
            shown = show_space(text) + shorten(text, width=20)
            found[layer].setdefault(str(int(expert)), []).append([shown, round_number(share)])
    return found


def _zip(rows: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(rows[column].tolist() for column in columns), strict=True)

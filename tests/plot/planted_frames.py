"""Result frames whose every number follows from a planted table of labels and experts."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

UPOS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM",
    "PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X",
)  # fmt: skip
COLUMNS = (
    "run", "routing", "layer", "expert", "label_set", "label", "metric", "value", "unit", "ci_low", "ci_high",
    "ci_kind", "null_mean", "null_low", "null_high", "p_value", "q_value", "n_tokens", "n_documents",
)  # fmt: skip


def planted_table(num_labels: int, num_experts: int, *, strength: float, seed: int = 0) -> np.ndarray:
    """Return P(label, expert): each label leans to one expert with `strength` in [0, 1]."""
    rng = np.random.default_rng(seed)
    labels = rng.dirichlet(np.full(num_labels, 3.0))
    load = rng.dirichlet(np.full(num_experts, 8.0))
    home = np.eye(num_experts)[rng.permutation(num_labels) % num_experts]
    noise = rng.lognormal(0.0, 0.08, (num_labels, num_experts))
    given = (1 - strength) * load * noise + strength * home
    return labels[:, None] * given / given.sum(axis=1, keepdims=True)


def planted_frame(
    run: str = "toy",
    *,
    label_set: str = "upos",
    labels: Sequence[str] = UPOS,
    num_experts: int = 8,
    strengths: Sequence[float] = (0.1, 0.35, 0.3, 0.2),
    null: float = 0.002,
    control: float | None = None,
    draws: int = 5,
    p_value: float | None = None,
    cells: bool = True,
    seed: int = 0,
) -> pd.DataFrame:
    """Return a result frame with one layer a strength.

    `control` adds a random router of that share of the strength, the first of `draws` whose values lie around its own;
    none of them compared with the learned router, as in results of earlier versions, for 0.
    """
    rows: list[dict[str, object]] = []
    frames: list[pd.DataFrame] = []
    kinds = [("learned", 1.0)] + ([("random", control)] if control is not None else [])
    for routing, share in kinds:
        best = 0.0
        for layer, strength in enumerate(strengths):
            table = planted_table(len(labels), num_experts, strength=strength * share, seed=seed + layer)
            common = {"run": run, "routing": routing, "layer": layer, "label_set": label_set}
            of_layer = _layer_rows(table, common, null=null, p_value=p_value)
            rows += of_layer
            frames.append(pd.DataFrame(of_layer))
            if cells:
                frames.append(_cell_frame(table, common, labels))
            best = max(best, _coefficient(table))
        highest = {
            "run": run, "routing": routing, "label_set": label_set, "metric": "max_uncertainty_coefficient",
            "value": best, "unit": "share of H(label)", "null_mean": null, "null_low": null / 2, "null_high": 2 * null,
            "p_value": p_value if p_value is not None else 0.005,
        }  # fmt: skip
        frames.append(pd.DataFrame([highest]))
    if control is not None and draws:
        frames.append(pd.DataFrame(_random_rows(rows, draws)))
    frame = pd.concat(frames, ignore_index=True).reindex(columns=list(COLUMNS))
    frame["n_tokens"], frame["n_documents"] = 120_000, 400
    return frame


def _information(table: np.ndarray) -> float:
    independent = table.sum(1, keepdims=True) * table.sum(0, keepdims=True)
    keep = table > 0
    return float((table[keep] * np.log2(table[keep] / independent[keep])).sum())


def _entropy(p: np.ndarray) -> float:
    return float(-(p[p > 0] * np.log2(p[p > 0])).sum())


def _coefficient(table: np.ndarray) -> float:
    entropy = _entropy(table.sum(1))
    return _information(table) / entropy if entropy else float("nan")


def _layer_rows(table: np.ndarray, common: dict, *, null: float, p_value: float | None) -> list[dict]:
    entropy = _entropy(table.sum(1))
    values = {
        "mutual_information": (_information(table), "bits", entropy),
        "uncertainty_coefficient": (_coefficient(table), "share of H(label)", 1.0),
    }
    rows = [
        common | {
            "metric": metric, "value": value, "unit": unit, "ci_low": value - 0.012 * scale,
            "ci_high": value + 0.012 * scale, "ci_kind": "95 % jackknife", "null_mean": null * scale,
            "null_low": null * scale * 0.4, "null_high": null * scale * 1.8,
            "p_value": p_value if p_value is not None else 0.005,
        }
        for metric, (value, unit, scale) in values.items()
    ]  # fmt: skip
    rows.append(common | {"metric": "label_entropy", "value": entropy, "unit": "bits"})
    rows.append(common | {"metric": "load_entropy", "value": _entropy(table.sum(0)), "unit": "bits"})
    return rows


def _random_rows(rows: list[dict], draws: int) -> list[dict]:
    coefficients = {
        (row["routing"], row["layer"]): row["value"] for row in rows if row["metric"] == "uncertainty_coefficient"
    }
    added = []
    for row in [row for row in rows if row["metric"] == "uncertainty_coefficient" and row["routing"] == "learned"]:
        value = row["value"]
        drawn = coefficients["random", row["layer"]] * np.array([1, 0.94, 1.06, 0.97, 1.03, *[1] * draws])[:draws]
        apart = value - drawn.mean()
        added += [
            row | {"metric": "uncertainty_coefficient_among_random_routers", "null_mean": drawn.mean(),
                   "null_low": drawn.min(), "null_high": drawn.max(),
                   "p_value": (1 + np.sum(drawn >= value)) / (1 + draws)},
            row | {"metric": "difference of uncertainty_coefficient", "routing": "learned − random", "value": apart,
                   "ci_low": apart - 0.01, "ci_high": apart + 0.01, "null_mean": np.nan, "p_value": 0.002},
            {name: row[name] for name in ("run", "routing", "layer", "label_set")}
            | {"metric": "random_router_draws", "value": float(draws), "unit": "count"},
        ]  # fmt: skip
    return added


def _cell_frame(table: np.ndarray, common: dict, labels: Sequence[str]) -> pd.DataFrame:
    """Return, expert by expert, its load, its information about the labels, and the lift of every label."""
    experts, load, prior = table.shape[1], table.sum(0), table.sum(1)
    lift = table / (prior[:, None] * load)
    given = table / load
    specific = np.sum(given * np.log2(given / prior[:, None], where=given > 0, out=np.zeros_like(given)), axis=0)
    value = np.vstack([load, specific, lift]).T
    nothing = np.full((experts, 1), np.nan)
    tested = np.hstack([nothing, value[:, 1:]])
    p_value = np.hstack([nothing, np.full((experts, 1 + len(labels)), 0.005)])
    q_value = np.hstack(
        [nothing, np.full((experts, 1), 0.01), np.where((lift.T > 2**-0.2) & (lift.T < 2**0.2), 0.2, 0.01)]
    )
    kinds = ["load", "specific_information", *["lift"] * len(labels)]
    units = ["share", "bits", *["ratio"] * len(labels)]
    return pd.DataFrame({
        **common, "expert": np.repeat(np.arange(experts), len(kinds)), "label": [None, None, *labels] * experts,
        "metric": kinds * experts, "value": value.ravel(), "unit": units * experts, "ci_low": 0.9 * tested.ravel(),
        "ci_high": 1.1 * tested.ravel(), "p_value": p_value.ravel(), "q_value": q_value.ravel(),
    })  # fmt: skip

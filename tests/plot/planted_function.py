"""Result frames of `specialize ablate` whose numbers follow from planted effects."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from plot.planted_frames import COLUMNS, UPOS, planted_table

RANKINGS = {"saliency": 1.0, "load": 0.8, "lift": 0.5, "random": 0.25}
SCORES = ("saliency", "output_norm", "load")


def planted_effects(
    run: str = "toy",
    *,
    label_set: str = "upos",
    labels: Sequence[str] = UPOS,
    num_experts: int = 8,
    num_layers: int = 4,
    agreement: float = 0.1,
    num_random: int = 20,
    selective: Sequence[str] = ("NOUN", "PUNCT"),
    seed: int = 0,
) -> pd.DataFrame:
    """Return the frame of a label set: per-use effects of 0.3 / (1 + layer) bits on average, with noise.

    The leading sets of `selective` labels are above all of their random sets, the others within their range.
    """
    rng = np.random.default_rng(seed)
    common = {"run": run, "routing": "learned", "label_set": label_set}
    frames = []
    for layer in range(num_layers):
        table = planted_table(len(labels), num_experts, strength=0.3, seed=seed + layer)
        load, prior = table.sum(axis=0), table.sum(axis=1, keepdims=True)
        lift, exposure = table / (prior * load), np.minimum(2 * table / prior, 1.0)
        size = 0.3 / (1 + layer)
        per_use = size * (1 + 0.5 * rng.standard_normal(table.shape))
        indirect = 0.02 * size * (layer < num_layers - 1) * rng.random(table.shape)
        effect = exposure * per_use + indirect
        others = (prior * effect).sum(axis=0) - prior * effect
        selectivity = effect - others / np.where(prior < 1, 1 - prior, 1.0)
        parts = {
            "effect": effect, "exposure": exposure, "per_use_effect": per_use, "indirect_effect": indirect,
            "effect_selectivity": selectivity, "lift": lift,
        }  # fmt: skip
        place, expert = (each.ravel() for each in np.indices(table.shape))
        for metric, cells in parts.items():
            value = cells.ravel()
            columns = {
                "layer": layer, "expert": expert, "label": np.array(labels)[place], "metric": metric, "value": value,
                "ci_low": value - 0.1 * size, "ci_high": value + 0.1 * size,
                "q_value": np.where((place + expert) % 3 == 0, 0.3, 0.01) if metric == "effect_selectivity" else np.nan,
            }  # fmt: skip
            frames.append(pd.DataFrame(common | columns))
    rows = _set_rows(common, labels, selective, num_random) + _agreement_rows(common, num_layers, agreement)
    return pd.concat([*frames, pd.DataFrame(rows)], ignore_index=True).reindex(columns=[*COLUMNS, "n_permutations"])


def _set_rows(common: dict, labels: Sequence[str], selective: Sequence[str], num_random: int) -> list[dict]:
    rows = []
    for place, label in enumerate(labels):
        found = label in selective
        value = 0.4 - place / 100 if found else 0.02 + place / 1000
        rows.append(common | {
            "label": label, "metric": "effect_selectivity", "value": value, "ci_low": value - 0.03,
            "ci_high": value + 0.03, "null_mean": 0.02, "null_low": -0.05, "null_high": 0.12,
            "p_value": 1 / (1 + num_random) if found else 0.4, "n_permutations": num_random,
        })  # fmt: skip
        above = value - 0.02
        rows.append(rows[-1] | {
            "metric": "effect_selectivity_above_random_sets", "value": above, "ci_low": above - 0.02,
            "ci_high": above + 0.02,
        })  # fmt: skip
    return rows


def _agreement_rows(common: dict, num_layers: int, agreement: float, *, label: str | None = None) -> list[dict]:
    rows = []
    for layer in (*range(num_layers), None):
        for kind, value in (("per_use", agreement), ("total", 0.5)):
            value = value if layer is None else value + (layer - (num_layers - 1) / 2) / 50
            own = common | {"layer": layer, "label": label, "metric": f"{kind}_agreement", "value": value}
            rows.append(own | {
                "ci_low": value - 0.06, "ci_high": value + 0.06, "p_value": 0.005 if value > 0.06 else 0.4,
                "n_permutations": 200,
            })  # fmt: skip
            rows.append(own | {"metric": f"corrected_{kind}_agreement", "value": 1.25 * value})
    return rows


def planted_experts(
    run: str = "toy", *, num_experts: int = 8, num_layers: int = 4, removed: Sequence[int] = (1, 2, 4, 8, 16)
) -> pd.DataFrame:
    """Return the frame `experts`: the same per-use effect for all experts of a layer, and no indirect one in the last.

    Switching off n experts raises the loss by 0.1 n of saliency, and by the share of `RANKINGS` of it for the others.
    """
    common = {"run": run, "routing": "learned"}
    rows: list[dict[str, object]] = []
    for layer in range(num_layers):
        per_use, exposure = 0.3 / (1 + layer), 2 / num_experts
        indirect = 0.01 if layer < num_layers - 1 else 0.0
        values = {
            "effect": exposure * per_use + indirect, "exposure": exposure, "per_use_effect": per_use,
            "indirect_effect": indirect, "load": 1 / num_experts, "saliency": 0.5, "output_norm": 1.5,
        }  # fmt: skip
        for expert in range(num_experts):
            rows += [
                common | {"layer": layer, "expert": expert, "metric": metric, "value": value}
                for metric, value in values.items()
            ]
    for place, score in enumerate(SCORES):
        rows += _agreement_rows(common | {"label_set": "score"}, num_layers, 0.6 - place / 5, label=score)
    rows += [
        common | {
            "label_set": f"removed_by_{ranking}", "label": str(number), "metric": "removal_effect",
            "value": 0.1 * share * number, "ci_low": 0.09 * share * number, "ci_high": 0.11 * share * number,
        }
        for ranking, share in RANKINGS.items() for number in removed
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=[*COLUMNS, "n_permutations"])

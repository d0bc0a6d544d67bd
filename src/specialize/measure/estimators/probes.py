"""Probes: classifiers that predict a label from routing, with held-out accuracy, baselines and a control task.

Accuracy has to be compared with that of baselines: the most frequent label of the word form may be more accurate, and
an expressive probe also learns labels assigned to word forms at random (the control task).

Source: Hewitt & Liang (2019), Designing and Interpreting Probes with Control Tasks, for the control task and
selectivity.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError
from specialize.measure.base.blocks import assign_blocks, group_documents
from specialize.measure.base.counting import as_codes
from specialize.measure.base.estimate import Estimate, jackknife_values, make_estimates
from specialize.measure.base.nulls import draw_permutations
from specialize.measure.estimators.word_baseline import Baseline, draw_control, predict_by_form

Features: TypeAlias = Any  # float64 [units, features]: a NumPy array or a SciPy sparse array
# What intervals leave out. Other control tasks vary more than documents do.
NOTES = dict.fromkeys(("control", "selectivity"), ", without refitting, for one control task")
_HIDDEN_UNITS = 64
_LINEAR_STEPS, _MLP_EPOCHS = 200, 30
_MLP_BATCH = 256


@dataclass(frozen=True)
class PathProbe:
    """Held-out accuracies of probes and baselines, all on the same tokens (or documents).

    Attributes:
        linear: multinomial logistic regression on the path. Its null is the accuracy with permuted labels.
        mlp: multilayer perceptron with one hidden layer on the path; None where not requested.
        majority: most frequent label of the training folds.
        word_form: most frequent label of the word form in the training folds, or of the training folds for unseen
            forms; None without word forms.
        beyond_word_form: `linear` minus `word_form`, paired.
        control: linear probe on the control task, labels assigned to word forms at random.
        selectivity: `linear` minus `control`, paired.
    """

    linear: Estimate
    majority: Estimate
    mlp: Estimate | None = None
    word_form: Estimate | None = None
    beyond_word_form: Estimate | None = None
    control: Estimate | None = None
    selectivity: Estimate | None = None


def probe_paths(
    codes: ArrayLike,
    features: Features,
    documents: ArrayLike,
    *,
    baseline: Baseline | None = None,
    folds: int = 5,
    mlp: bool = True,
    permutations: int = 0,
    groups: ArrayLike | None = None,
    num_blocks: int = 50,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> PathProbe:
    """Measure the held-out accuracy of probes that predict labels from paths, cross-validated by document.

    Each document is held out once, with the documents of its group. Intervals are delete-one-block jackknife intervals
    over blocks of documents of the held-out accuracy; they do not include the variation of refitting the probes, nor,
    for the control task, that of other control tasks, as ``ci_kind`` says.

    Args:
        codes: integers [units], the label of each token (or document); none is negative.
        features: float64 [units, features], see `specialize.measure.runs.probes.path_features`.
        documents: integers [units], the document of each unit, non-decreasing.
        baseline: word forms; without them there are no word-form baseline and no control task.
        folds: number of cross-validation folds; no more than documents are used.
        mlp: whether to fit the multilayer perceptron as well.
        permutations: number of refits of the linear probe with permuted labels, for the null; units must be documents.
        groups: integers [documents], documents of one group are held out together and stay in one block, see
            `assign_blocks`; default: each document is a group of its own.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the control task, the multilayer perceptron and the null.
        progress: called with (fits done, total fits).

    Returns:
        The held-out accuracies and their differences, as shares of units.

    Raises:
        MeasurementError: arrays do not match in length, there are fewer than two documents, labels or folds, or
            permutations are requested for labels of tokens.
    """
    labels, places = as_codes(codes), as_codes(documents)
    _check(labels, features, places, folds=folds, permutations=permutations)
    own = group_documents(places, groups)
    parts = list(_split(own, folds))
    fits = _Counter(len(parts) * (1 + mlp + (baseline is not None) + permutations), progress)

    right = {"majority": np.zeros(len(labels), dtype=bool)}
    for train, held_out in parts:
        right["majority"][held_out] = labels[held_out] == np.bincount(labels[train]).argmax()
    right["linear"] = labels == _predict_held_out(_make_linear, labels, features, parts, seed, fits)
    if mlp:
        right["mlp"] = labels == _predict_held_out(_make_network, labels, features, parts, seed, fits)
    if baseline is not None:
        right["word_form"] = labels == predict_by_form(baseline, own, groups, parts)
        task = draw_control(baseline, labels, seed)
        right["control"] = task == _predict_held_out(_make_linear, task, features, parts, seed, fits)

    null = np.empty(permutations)
    for index, source in enumerate(draw_permutations(own, permutations=permutations, seed=seed)):
        permuted = labels[source]
        null[index] = (permuted == _predict_held_out(_make_linear, permuted, features, parts, seed, fits)).mean()
    return _score(right, places, groups, null, num_blocks=num_blocks)


def _check(
    labels: NDArray[np.int32], features: Features, documents: NDArray[np.int32], *, folds: int, permutations: int
) -> None:
    if not len(labels) == features.shape[0] == len(documents):
        raise MeasurementError(
            "codes, features and documents must be of one length, "
            f"got {len(labels)}, {features.shape[0]} and {len(documents)}"
        )
    distinct = len(np.unique(documents))
    if distinct < 2 or len(np.unique(labels)) < 2:
        raise MeasurementError(
            f"a probe needs at least two documents and two labels, got {distinct} and {len(np.unique(labels))}: "
            "trace more documents or choose another label set"
        )
    if labels.min() < 0:
        raise MeasurementError("codes: expected a label for each unit, got negative codes: leave out unlabelled units")
    if np.any(documents[1:] < documents[:-1]):
        raise MeasurementError("documents: expected non-decreasing numbers, got others: sort units by document")
    if folds < 2:
        raise MeasurementError(f"folds must be at least 2, got {folds}: 5 is usual")
    if permutations and distinct < len(documents):
        raise MeasurementError(
            "labels of tokens cannot be permuted freely: use permutations=0 and compare with the control task"
        )


def _split(groups: NDArray[np.integer], folds: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    from sklearn.model_selection import GroupKFold

    folds = min(folds, len(np.unique(groups)))
    yield from GroupKFold(folds).split(np.empty((len(groups), 1)), groups=groups)


class _Counter:
    """Reports progress after each fit."""

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self._done, self._total, self._progress = 0, total, progress

    def count(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


def _make_linear(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=_LINEAR_STEPS, tol=1e-3)


def _make_network(seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(
        (_HIDDEN_UNITS,), batch_size=_MLP_BATCH, max_iter=_MLP_EPOCHS, n_iter_no_change=3, tol=1e-3, random_state=seed
    )


def _predict_held_out(
    make: Callable[[int], Any],
    labels: NDArray[np.int32],
    features: Features,
    parts: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    seed: int,
    fits: _Counter,
) -> NDArray[np.int32]:
    """Predict the label of each unit with a model fitted on the other folds."""
    from sklearn.exceptions import ConvergenceWarning

    predicted = np.empty_like(labels)
    for train, held_out in parts:
        if len(np.unique(labels[train])) == 1:
            predicted[held_out] = labels[train[0]]
        else:
            with warnings.catch_warnings():
                # early stopping is intended
                warnings.simplefilter("ignore", ConvergenceWarning)
                # scikit-learn warns where the batch is larger than the data, and clips it
                warnings.filterwarnings("ignore", message="Got `batch_size`")
                predicted[held_out] = make(seed).fit(features[train], labels[train]).predict(features[held_out])
        fits.count()
    return predicted


def _score(
    right: dict[str, NDArray[np.bool_]],
    documents: NDArray[np.int32],
    groups: ArrayLike | None,
    null: NDArray[np.float64],
    *,
    num_blocks: int,
) -> PathProbe:
    """Compute accuracies and their differences from correct predictions, with intervals over blocks of documents."""
    present, rows = np.unique(documents, return_inverse=True)
    blocks = assign_blocks(group_documents(present, groups), num_blocks=num_blocks)[rows]
    count = int(blocks.max()) + 1
    names = list(right)
    units = np.bincount(blocks, minlength=count)
    hits = np.stack([np.bincount(blocks[right[name]], minlength=count) for name in names], axis=1)
    tables = np.stack([hits, np.broadcast_to(units[:, None], hits.shape)], axis=-1).astype(np.float64)
    pairs = {"selectivity": "control", "beyond_word_form": "word_form"}
    pairs = {name: other for name, other in pairs.items() if other in right}
    linear = names.index("linear")

    def shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        share = counts[..., 0] / counts[..., 1]
        differences = [share[..., linear] - share[..., names.index(other)] for other in pairs.values()]
        return np.concatenate([share, *(each[..., None] for each in differences)], axis=-1)

    value, error = jackknife_values(tables, shares)
    found = {}
    for index, name in enumerate([*names, *pairs]):
        tested = name == "linear" and len(null) > 0
        found[name] = make_estimates(
            value[index],
            error[index],
            unit="share",
            num_blocks=count,
            n_tokens=len(documents),
            n_documents=len(present),
            null=null if tested else None,
            tested=(np.asarray(right[name].mean()), null) if tested else None,  # uncorrected, as under the null
            note=NOTES.get(name, ", without refitting"),
        )[()]
    return PathProbe(**found)

"""Selecting the rows of a result frame that a figure draws."""

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from specialize.errors import MeasurementError, did_you_mean
from specialize.text import clean_text, count_columns, cut_columns

AUTO = "auto"  # stands for the title that a figure makes of what it draws
ROUTINGS = ("learned", "random")
_NEEDED = ("metric", "value")
_OPTIONAL = ("run", "routing", "layer", "expert", "label_set", "label")
_NUMBERS = ("value", "ci_low", "ci_high", "null_mean", "null_low", "null_high", "p_value", "q_value")
_COLUMNS_PER_INCH = 17.9  # of titles and axis labels
_COUNTS = ("n_permutations", "n_tokens", "n_documents")


def complete_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of a result frame with every column that a figure may need.

    A missing `run` becomes ``run``, a missing `routing` ``learned``; other missing columns hold missing values.

    Raises:
        MeasurementError: `metric` or `value` is missing.
    """
    missing = [name for name in _NEEDED if name not in frame.columns]
    if missing:
        raise MeasurementError(
            f"result frame: expected the columns {', '.join(_NEEDED)}, {', '.join(missing)} missing; "
            "give a frame in the result schema (specialize.measure.results.schema)"
        )
    frame = frame.copy()
    for name in (*_OPTIONAL, *_NUMBERS, *_COUNTS):
        if name not in frame.columns:
            frame[name] = np.nan
    frame["run"] = frame["run"].astype(object).where(frame["run"].notna(), "run").astype(str)
    frame["routing"] = frame["routing"].astype(object).where(frame["routing"].notna(), "learned").astype(str)
    for name in ("layer", "expert", *_NUMBERS, *_COUNTS):
        frame[name] = pd.to_numeric(frame[name], errors="coerce").astype(float)
    return frame


def select_rows(
    frame: pd.DataFrame,
    *,
    metric: str,
    label_set: str | None = None,
    run_name: str | None = None,
    layer: int | None = None,
    routing: str | None = None,
) -> pd.DataFrame:
    """Return the completed rows of `metric` that match the other names, where given.

    Raises:
        MeasurementError: no row matches; the message names what the frame holds instead.
    """
    rows = complete_frame(frame)
    wanted = {"metric": metric, "label_set": label_set, "run": run_name, "layer": layer, "routing": routing}
    for column, value in wanted.items():
        if value is None:
            continue
        present = list(pd.unique(rows[column].dropna()))
        rows = rows[rows[column] == value]
        if rows.empty:
            names = [f"{name:g}" if column == "layer" else clean_text(name) for name in present]
            raise MeasurementError(
                f"{column}: expected one of {', '.join(names) or '(the frame has none)'}, "
                f"got {clean_text(value)!r}.{did_you_mean(str(value), names)}"
            )
    return rows


def only_value(rows: pd.DataFrame, column: str) -> str:
    """Return the only value of `column` in `rows`.

    Raises:
        MeasurementError: there are several; the message lists them.
    """
    present = [str(name) for name in pd.unique(rows[column].dropna())]
    if len(present) > 1:
        argument = "run_name" if column == "run" else column
        names = ", ".join(clean_text(name) for name in present)
        raise MeasurementError(f"{column}: the frame holds {len(present)} ({names}), name one with {argument}=")
    return present[0] if present else ""


def by_run(rows: pd.DataFrame) -> Iterator[tuple[int, str, dict[str, pd.DataFrame]]]:
    """Yield index, name and rows by routing of each run, in the frame's order, sorted by layer."""
    for index, (run, group) in enumerate(rows.groupby("run", sort=False)):
        parts = {
            routing: group[group["routing"] == routing].sort_values("layer", kind="stable") for routing in ROUTINGS
        }
        yield index, str(run), {routing: part for routing, part in parts.items() if not part.empty}


def average_random(rows: pd.DataFrame, frame: pd.DataFrame, *, metric: str) -> pd.DataFrame:
    """Return rows of `metric` in which those of several random routers are their mean and range.

    Args:
        rows: rows of `metric`, as `select_rows` returns them.
        frame: the result frame, which may have rows of ``METRIC_among_random_routers``.
        metric: the metric.

    Returns:
        The rows with the column ``averaged``: True where `value` is the mean over random routers and `ci_low` and
        `ci_high` are the smallest and the largest of them, instead of an estimate for one router and its interval.
    """
    among = complete_frame(frame)
    among = among[among["metric"] == f"{metric}_among_random_routers"]
    for column in ("label_set", "run"):
        among = among[among[column].isin(rows[column].unique())]
    several = among.loc[among["null_high"] > among["null_low"], "run"].unique()
    mean = among[among["run"].isin(several)].assign(metric=metric, routing="random", averaged=True)
    for name, source in (("value", "null_mean"), ("ci_low", "null_low"), ("ci_high", "null_high")):
        mean[name] = mean[source]
    mean[["null_mean", "null_low", "null_high", "p_value"]] = np.nan
    kept = rows[~((rows["routing"] == "random") & rows["run"].isin(several))].assign(averaged=False)
    return pd.concat([kept, mean], ignore_index=True) if len(mean) else kept


def choose_title(given: str | None, own: str) -> str:
    """Return the title of a figure: its `own` where `given` is `AUTO`, else what was given; nothing for None."""
    return own if given == AUTO else given or ""


def set_plain(ax: Axes, *, title: str = "", xlabel: str = "", ylabel: str = "", room: float | None = None) -> None:
    """Set title and axis labels, wrapped to the axes, without parsing them as mathematics.

    Args:
        ax: the axes.
        title: its lines are kept, and wrapped where they are longer than `room`.
        xlabel: wrapped to `room`, too.
        ylabel: wrapped to the height of the axes.
        room: width for the title in inches; by default that of the axes.
    """
    width, height = ax.bbox.width / ax.figure.dpi, ax.bbox.height / ax.figure.dpi
    ax.set_title(wrap(title, room or width * 1.06), parse_math=False, linespacing=1.35)
    ax.set_xlabel(wrap(xlabel, room or width * 1.06), parse_math=False)
    # Legend and title take about a quarter of the height that the axes have before they are laid out.
    ax.set_ylabel(wrap(ylabel, 0.75 * height), parse_math=False)


def wrap(text: str, inches: float) -> str:
    """Break each line of `text` into as few lines of at most `inches` as it takes, of nearly equal length."""
    most = max(12, int(inches * _COLUMNS_PER_INCH))
    lines: list[str] = []
    for line in text.splitlines():
        fewest = break_line(line, most)
        widths = range(count_columns(line) // max(len(fewest), 1), most)
        lines += next((even for width in widths if len(even := break_line(line, width)) <= len(fewest)), fewest)
    return "\n".join(lines)


def break_line(line: str, most: int) -> list[str]:
    """Break `line` into lines of at most `most` columns: at spaces, in parentheses or in words only if it must."""
    lines: list[str] = []
    for word in _list_words(line, most):
        if lines and count_columns(f"{lines[-1]} {word}") <= most:
            lines[-1] += f" {word}"
            continue
        while count_columns(word) > most > 1:
            head = cut_columns(word, most)
            lines.append(head)
            word = word[len(head) :]
        lines.append(word)
    return lines


def _list_words(line: str, most: int) -> Iterator[str]:
    for part in re.split(r"\s+(?![^()]*\))", line.strip()):
        yield from [part] if count_columns(part) <= most else part.split()

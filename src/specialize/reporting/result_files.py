"""Reading the result files of a run folder: whole, in the result schema, and of the trace that the folder holds."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from specialize.errors import MeasurementError
from specialize.measure.base.shortage import read_shortage
from specialize.measure.results.files import read_with_origin, rename_routing
from specialize.measure.results.stored import Origin
from specialize.plot.frames import complete_frame
from specialize.text import clean_text

TABLES = ("topic_info", "topic_quality", "top_tokens")  # not in the result schema
_MOST_NAMED = 3


class ResultFiles:
    """The result files of a run folder; where a name has a Parquet file, its CSV file is not read.

    Args:
        run: the run folder.
        digest: of its trace, see `RoutingTrace.digest`.
        leave_out: receives the reason for each file that is left out; None if a damaged file, or one of another trace,
            is an error.

    Attributes:
        unverified: the files that do not name their trace, such as tables of other programs, as paths in the folder.
        compared: digest of the trace with which this one was compared, by the file of the comparison.
    """

    def __init__(self, run: Path, digest: str, *, leave_out: Callable[[str], object] | None = None) -> None:
        self.unverified: list[str] = []
        self.compared: dict[str, str] = {}
        self._run, self._digest, self._leave_out = run, digest, leave_out
        self._foreign: list[str] = []

    def read_folder(self, folder: str) -> dict[str, pd.DataFrame]:
        """Return the result frames in a folder by file name; empty ones are left out.

        Raises:
            MeasurementError: a file is damaged, is not in the result schema, or was written elsewhere in the folder.
        """
        paths = {stem: path for stem, path in sorted(self._find(folder).items()) if stem not in TABLES}
        frames = {stem: self._read(path, _complete) for stem, path in paths.items()}
        return {stem: frame for stem, frame in frames.items() if frame is not None and len(frame)}

    def read_label_sets(self, folder: str) -> dict[str, pd.DataFrame]:
        """Return the frames of a folder by the label set they are of, which is the file's name where they do not say.

        Raises:
            MeasurementError: as `read_folder`, or two files are of one label set.
        """
        named: dict[str, pd.DataFrame] = {}
        for stem, frame in self.read_folder(folder).items():
            frame["label_set"] = frame["label_set"].astype(object).where(frame["label_set"].notna(), stem)
            name = str(frame["label_set"].iloc[0])
            if name in named:
                raise MeasurementError(
                    f"{self._run / folder}: expected one file for each label set, got two for {clean_text(name)!r}; "
                    f"remove {clean_text(stem)} or the other one"
                )
            named[name] = frame
        return named

    def read_table(
        self, folder: str, name: str, check: Callable[[pd.DataFrame, Path], pd.DataFrame]
    ) -> pd.DataFrame | None:
        """Return one of `TABLES`, or None if there is none.

        Args:
            folder: the folder in the run folder.
            name: the file's name without suffix.
            check: returns the table, from the file's contents and path, or raises a MeasurementError.

        Raises:
            MeasurementError: the file is damaged.
        """
        path = self._find(folder).get(name)
        return None if path is None else self._read(path, check)

    def check_trace(self, others: Mapping[str, str]) -> None:
        """Check that all results that were read are of the trace and of the other ones, as far as they say.

        Args:
            others: digests of the traces of other runs, by the names of their folders.

        Raises:
            MeasurementError: some are of another trace; the message names the first.
        """
        for name, digest in self.compared.items():
            other = Path(name).stem.removeprefix("against-")
            if others.get(other, digest) != digest:
                self._foreign.append(name)
        if self._foreign and self._leave_out is None:
            raise MeasurementError(_tell_foreign(self._run, list_names(self._foreign)))

    def _find(self, folder: str) -> dict[str, Path]:
        place = self._run / folder
        if place.exists() and not place.is_dir():
            raise MeasurementError(f"{place}: expected a folder of results, got something else; remove it")
        return {path.stem: path for suffix in ("csv", "parquet") for path in sorted(place.glob(f"*.{suffix}"))}

    def _read(self, path: Path, check: Callable[[pd.DataFrame, Path], pd.DataFrame]) -> pd.DataFrame | None:
        try:
            frame, origin = read_with_origin(path)
            self._check_origin(path, origin)
            return check(frame, path)
        except MeasurementError as error:
            if self._leave_out is None:
                raise
            self._leave_out(f"left out: {error}")
            return None

    def _check_origin(self, path: Path, origin: Origin | None) -> None:
        name = path.relative_to(self._run).as_posix()
        if origin is None or origin.trace is None:
            self.unverified.append(clean_text(name))
        elif origin.trace != self._digest:
            if self._leave_out is not None:
                raise MeasurementError(_tell_foreign(self._run, clean_text(name)))
            self._foreign.append(clean_text(name))
        elif origin.place not in (None, name.removesuffix(".parquet")):
            raise MeasurementError(
                f"{path}: expected its own results, got those of {clean_text(origin.place)}; measure again"
            )
        elif origin.other is not None:
            self.compared[clean_text(name)] = origin.other


def list_names(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _complete(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    try:
        complete = rename_routing(complete_frame(frame))
    except MeasurementError as error:
        reason = clean_text(error)
        raise MeasurementError(f"{path}: expected a result frame, got: {reason}; measure again") from None
    # an interval that is known to be wrong is not shown
    kinds = complete["ci_kind"] if "ci_kind" in complete else pd.Series(dtype=object)
    short = kinds.isin([kind for kind in kinds.dropna().unique() if read_shortage(kind)])
    return complete.assign(**{end: complete[end].mask(short) for end in ("ci_low", "ci_high")})


def _tell_foreign(run: Path, names: str) -> str:
    return (
        f"{run}: expected results of its trace, got those of another trace, or of this one before it was extended, in "
        f"{names}; measure again, or remove them"
    )

"""The roll-ups of a `TelemetryDB`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial

from aqltelemetry.errors import OptionError
from aqltelemetry.observation import DURATION
from aqltelemetry.reading.csv_frames import Wanted
from aqltelemetry.reading.rollups import files, summary
from aqltelemetry.reading.summaries.summary import parse_every
from aqltelemetry.system.later import pd


class RollUpTables(ABC):
    """Reads the roll-ups in monitoring directories."""

    @property
    @abstractmethod
    def directories(self) -> list[str]:
        """The monitoring directories that are read."""

    @abstractmethod
    def limits(self) -> Wanted:
        """Return the limits of what is read."""

    def rollups(
        self, file_prefix: str = DURATION, every: float | str | timedelta | None = None
    ) -> pd.DataFrame:
        """Summarize the roll-ups that `aqltelemetry compact --rollup` makes, by label.

        They are of archived files, and remain when retention removes the observations themselves.
        The limits `since`, `until` and `labels` apply: an interval counts where it begins.

        Args:
            file_prefix: The prefix of the observations.
            every: The length of time bins; see `summary`. A multiple of the roll-ups' interval.

        Returns:
            A DataFrame with a row for each label, and time bin with `every`, indexed by them. Its
            values have the unit of the observations, seconds for durations.

            - `count`: the number of observations.
            - `sum`, `min`, `max`: of the values that are not NaN.
            - `p50`, `p90`, `p95`, `p99`, `p999`: of n values, about the one of rank ceil(0.5 n),
              and so on; it differs by 1.1 % of it at most, from 10^-12 to 10^12. What is not
              positive counts as 0.

        Raises:
            OptionError: `every` is not valid, or there is a limit `pids`.
            ArchiveError: A roll-up is damaged, or can't be read.
            MissingExtraError: pyarrow is not installed.

        Example:
            >>> db.rollups(every="1h").loc["2026-11-24 10:00:00", ["count", "p99"]]
        """
        length_ns = None if every is None else parse_every(every)
        return summary.summarize(self._rollups(file_prefix), length_ns)

    def rollup_tables(self) -> Mapping[str, Callable[[], pd.DataFrame]]:
        """Return functions that read roll-ups, by the name of their table in `sql`."""
        return {
            f"rollup_{prefix}": partial(summary.frame, self._rollups(prefix))
            for prefix in files.prefixes(self.directories)
        }

    def _rollups(self, prefix: str) -> Iterator[files.RollUp]:
        wanted = self.limits()
        if wanted.pids is not None:
            raise OptionError("pids", wanted.pids, "must be None: a roll-up is of all processes")
        yield from files.read_all(self.directories, prefix, wanted)

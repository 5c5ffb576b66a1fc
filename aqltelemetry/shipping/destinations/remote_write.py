"""Ships to what takes Prometheus remote write: VictoriaMetrics, Prometheus, Mimir, Thanos, ...

Such a store has no rows, and a time series has at most one sample a millisecond. So the rows are
added up in intervals: a time series for each recording (its `writer`), metric, route and status.
The samples of a file are the same each time that it is sent, and each request is stored as a
whole or not at all, so sending it again does no harm.

The options in the query of the URL: `interval`, 10 s by default, `buckets`, the bounds of the
histograms of durations in seconds, and `query_url`, the URL of Prometheus's instant queries for
`--check`. All other ones are sent to the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aqltelemetry.errors import DestinationError, MissingExtraError
from aqltelemetry.observation import ACCOUNT, DURATION
from aqltelemetry.shipping.destination import (
    CannotBeAsked,
    Receipt,
    Shipment,
    Unavailable,
    prefix_of,
    writer_of,
)
from aqltelemetry.shipping.destinations.http_options import SETUP_ERRORS, HttpOptions, tls_context
from aqltelemetry.shipping.destinations.prometheus_messages import (
    Sample,
    TimeSeries,
    write_request,
)
from aqltelemetry.shipping.destinations.remote_write_check import differences, query_url
from aqltelemetry.shipping.metrics.buckets import (
    DEFAULT_BOUNDS,
    Bounds,
    bound_text,
    bucket_numbers,
    parse_bounds,
)
from aqltelemetry.shipping.metrics.cumulative import Point, RecordingTotals, Steps, Total
from aqltelemetry.shipping.metrics.durations import duration_series
from aqltelemetry.shipping.metrics.files import FilePoints, ShipmentPoints
from aqltelemetry.shipping.metrics.metric import MetricSeries, MetricType
from aqltelemetry.shipping.metrics.samples import is_histogram, sample_bounds, sample_series
from aqltelemetry.shipping.target import Target

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.client import _RequestContextManager

_MAX_FILES = 50
_MAX_BYTES = 16 << 20
_MAX_SERIES = 2_000
_TIMEOUT_S = 60.0
# A store shows new samples after a moment; VictoriaMetrics keeps the answer that it has none.
_VISIBLE_S = (1.0, 2.0, 4.0, 8.0, 15.0)
_HEADERS: Mapping[str, str] = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
    "User-Agent": "aqltelemetry",
}
_BAD_REQUEST, _TOO_MANY, _SERVER_ERROR = 400, 429, 500
# What Prometheus answers for samples that it has, or that are older than what it has.
_THERE = ("out of order sample", "duplicate sample")
_REASON_CHARACTERS = 300


def destination(target: Target) -> RemoteWrite:
    """Return the destination of a `remote-write+http:` or `remote-write+https:` URL."""
    try:
        import aiohttp  # noqa: F401, PLC0415 - an extra
        import cramjam  # noqa: F401, PLC0415 - an extra
    except ImportError as exc:
        raise MissingExtraError("remote-write", exc) from exc
    return RemoteWrite(target)


class RemoteWrite:
    """A store that takes remote write; see `aqltelemetry.shipping.destination.Destination`."""

    max_files = _MAX_FILES
    max_bytes = _MAX_BYTES

    def __init__(self, target: Target) -> None:
        self._target = target
        self._options = HttpOptions(target, interval="10s")
        buckets = self._options.own.get("buckets")
        self._buckets = DEFAULT_BOUNDS if buckets is None else parse_bounds("buckets", buckets)
        self._session: aiohttp.ClientSession | None = None
        origin = target.origin
        labels = {"host": origin.host, "service": origin.service, "instance": origin.instance}
        self._labels = {name: value for name, value in labels.items() if value}

    async def open(self) -> None:
        """Send an empty request, which is stored nowhere, to see whether the store takes it."""
        import aiohttp  # noqa: PLC0415 - an extra

        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
            connector = aiohttp.TCPConnector(ssl=tls_context(self._options.ca_file))
            self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        await self._send([])

    async def shipped(self, names: Sequence[str]) -> frozenset[str]:
        """Return no file: the store does not know files."""
        del names
        return frozenset()

    async def ship(self, shipment: Shipment) -> Receipt:
        """Store the points of a shipment, one file after the other."""
        if shipment.prefix == ACCOUNT:
            return Receipt(0)
        reading = ShipmentPoints(shipment, self._steps(shipment.prefix))
        files = [*reading.read()]
        refused = dict(reading.refused)
        for file in files:
            series = [*self._series(shipment.prefix, file)]
            for start in range(0, len(series), _MAX_SERIES):
                reason = await self._store(series[start : start + _MAX_SERIES])
                if reason is not None:
                    refused[file.file.name] = reason
        rows = sum(len(file.rows) for file in files if file.file.name not in refused)
        return Receipt(rows, refused, reading.notes())

    async def check_totals(self, notes: Mapping[str, str]) -> Sequence[str]:
        """Compare the last sample of each time series of the recordings in the notes."""
        url = query_url(self._options.url, self._options.own.get("query_url"))
        ask = partial(self._ask, url)
        found: dict[str, list[str]] = {key: [] for key in notes}
        for wait_s in (0.0, *_VISIBLE_S):
            await asyncio.sleep(wait_s)
            for key in found:
                series = self._last_of(key, notes[key])
                found[key] = await differences(writer_of(key), series, ask)
            found = {key: lines for key, lines in found.items() if lines}
            if not found:
                break
        return [line for lines in found.values() for line in lines]

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _last_of(self, key: str, note: str) -> Iterator[TimeSeries]:
        """Yield the time series of a recording, each with its last sample alone."""
        prefix, own = prefix_of(key), {"writer": writer_of(key)}
        latest = RecordingTotals.from_note(note).latest
        for label, point in latest.items():
            series = self._of_label(prefix, label, latest.keys())
            if series is not None:
                yield from _time_series(series, own, [point], self._bounds(prefix))

    @staticmethod
    def _of_label(prefix: str, label: str, known: Collection[str]) -> MetricSeries | None:
        if prefix == DURATION:
            return duration_series(label, known)
        return sample_series(prefix, label)

    def _steps(self, prefix: str) -> Steps:
        bounds = self._bounds(prefix)
        interval_ms = self._options.interval_ms

        def numbers(values: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
            return bucket_numbers(values, bounds)

        if prefix == DURATION:
            return Steps(interval_ms, numbers)
        return Steps(
            interval_ms,
            numbers,
            is_counted=partial(is_histogram, prefix),
            is_left_out=lambda label: sample_series(prefix, label) is None,
        )

    def _bounds(self, prefix: str) -> Bounds:
        return self._buckets if prefix == DURATION else sample_bounds(prefix)

    def _series(self, prefix: str, file: FilePoints) -> Iterator[TimeSeries]:
        """Yield the time series of a file's points."""
        own = {**self._labels, "pid": str(file.pid), "writer": file.writer}
        bounds = self._bounds(prefix)
        for label, points in file.points.items():
            series = self._of_label(prefix, label, file.known)
            if series is not None:
                yield from _time_series(series, own, points, bounds)

    async def _store(self, series: Sequence[TimeSeries]) -> str | None:
        """Store time series; return why they are refused, None if they are stored.

        A request of which the store has a part is refused as a whole. Then parts of it are sent.
        """
        answer = await self._send(series)
        if answer is None:
            return None
        if not any(text in answer for text in _THERE):
            return answer
        reasons = [await self._store(part) for part in _halves(series)]
        return next((reason for reason in reasons if reason is not None), None)

    async def _send(self, series: Sequence[TimeSeries]) -> str | None:
        """Send a request; return why it is refused, None if it is stored."""
        import aiohttp  # noqa: PLC0415 - an extra
        import cramjam  # noqa: PLC0415 - an extra

        assert self._session is not None  # noqa: S101 - for the type checker: `open` makes it
        body = bytes(cramjam.snappy.compress_raw(write_request(series)))
        try:
            async with self._post(self._session, body) as response:
                text = (await response.text(errors="replace")).strip()[:_REASON_CHARACTERS]
                status = response.status
        except (aiohttp.ClientError, OSError) as exc:
            raise Unavailable(f"{self._target}: {str(exc) or type(exc).__name__}") from exc
        if status < _BAD_REQUEST:
            return None
        if status in SETUP_ERRORS:
            raise DestinationError(str(self._target), f"it answers {status}: {text}")
        if status >= _SERVER_ERROR or status == _TOO_MANY:
            raise Unavailable(f"{self._target}: it answers {status}: {text}")
        return text or f"it answers {status}"

    async def _ask(self, url: str, parameters: Mapping[str, str]) -> str:
        """Return the answer to a query."""
        import aiohttp  # noqa: PLC0415 - an extra

        assert self._session is not None  # noqa: S101 - for the type checker: `open` makes it
        try:
            async with self._session.get(
                url, params=parameters, headers=self._options.headers
            ) as response:
                text = (await response.text(errors="replace")).strip()
                status = response.status
        except (aiohttp.ClientError, OSError) as exc:
            raise Unavailable(f"{self._target}: {str(exc) or type(exc).__name__}") from exc
        if status >= _BAD_REQUEST:
            raise CannotBeAsked(f"its queries answer {status}: {text[:_REASON_CHARACTERS]}")
        return text

    def _post(self, session: aiohttp.ClientSession, body: bytes) -> _RequestContextManager:
        headers = {**_HEADERS, **self._options.headers}
        return session.post(self._options.url, data=body, headers=headers)


def _time_series(
    series: MetricSeries, own: Mapping[str, str], points: Sequence[Point], bounds: Bounds
) -> Iterator[TimeSeries]:
    metric = series.metric
    labels = {**dict(zip(metric.labels, series.values, strict=True)), **own}
    totals = [(each.at_ms, each.value) for each in points if isinstance(each.value, Total)]

    def named(name: str, samples: Iterable[Sample], **more: str) -> TimeSeries:
        return TimeSeries({"__name__": name, **labels, **more}, [*samples])

    if metric.type is not MetricType.HISTOGRAM:
        yield named(
            metric.name,
            (Sample(at_ms, v.count if isinstance(v, Total) else v) for at_ms, v in points),
        )
        return
    for number, bound in enumerate(bounds):
        samples = (
            Sample(at_ms, sum(count for at, count in total.buckets.items() if at <= number))
            for at_ms, total in totals
        )
        yield named(f"{metric.name}_bucket", samples, le=bound_text(bound))
    yield named(f"{metric.name}_sum", (Sample(at_ms, total.sum) for at_ms, total in totals))
    yield named(f"{metric.name}_count", (Sample(at_ms, total.count) for at_ms, total in totals))


def _halves(series: Sequence[TimeSeries]) -> Iterator[Sequence[TimeSeries]]:
    """Yield the two halves of a request, older samples first; nothing for a single sample."""
    if len(series) > 1:
        middle = len(series) // 2
        yield series[:middle]
        yield series[middle:]
    elif series and len(series[0].samples) > 1:
        labels, samples = series[0]
        middle = len(samples) // 2
        yield [TimeSeries(labels, samples[:middle])]
        yield [TimeSeries(labels, samples[middle:])]

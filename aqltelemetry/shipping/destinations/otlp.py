"""Ships to what takes OTLP over HTTP, the protocol of OpenTelemetry, by its official exporter.

The rows are added up in intervals, as for remote write, into exponential histograms, sums and
gauges with the recording's own times. They are cumulative since a start time that never changes
for a recording, so a receiver that gets a point twice has the same total.

The options in the query of the URL: `interval`, 1 min by default, and `slow_spans`, such as
`500ms`: a span for each request that took at least that long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aqltelemetry.errors import DestinationError, MissingExtraError, OptionError
from aqltelemetry.observation import ACCOUNT, DURATION
from aqltelemetry.quantities import parse_seconds
from aqltelemetry.reading.rollups.buckets import bucket_numbers
from aqltelemetry.shipping.destination import CannotBeAsked, Receipt, Shipment, Unavailable
from aqltelemetry.shipping.destinations.http_options import SETUP_ERRORS, HttpOptions
from aqltelemetry.shipping.metrics.cumulative import Steps
from aqltelemetry.shipping.metrics.files import FilePoints, ShipmentPoints
from aqltelemetry.shipping.metrics.samples import is_histogram, sample_series
from aqltelemetry.shipping.target import Target

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from requests import Response
    from requests.adapters import HTTPAdapter

_MAX_FILES = 50
_MAX_BYTES = 16 << 20
_MAX_SPANS = 1_000
_TIMEOUT_S = 30.0
_REASON_CHARACTERS = 300
_REFUSED = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def destination(target: Target) -> Otlp:
    """Return the destination of an `otlp+http:` or `otlp+https:` URL."""
    try:
        import opentelemetry.exporter.otlp.proto.http  # noqa: F401, PLC0415 - an extra
    except ImportError as exc:
        raise MissingExtraError("otlp", exc) from exc
    return Otlp(target)


class Otlp:
    """A receiver of OTLP; see `aqltelemetry.shipping.destination.Destination`."""

    max_files = _MAX_FILES
    max_bytes = _MAX_BYTES

    def __init__(self, target: Target) -> None:
        self._target = target
        self._options = HttpOptions(target, interval="1m")
        self._slow_s = _slow_s(self._options.own.get("slow_spans"))
        self._answers: list[Response] = []
        self._metrics: OTLPMetricExporter | None = None
        self._spans: OTLPSpanExporter | None = None

    async def open(self) -> None:
        """Send no metrics, to see whether the receiver takes them."""
        from opentelemetry.sdk.metrics.export import MetricsData  # noqa: PLC0415 - an extra

        if self._metrics is None:
            self._make_exporters()
        reason = await asyncio.to_thread(self._export, self._metrics, MetricsData([]))
        if reason is not None:
            raise DestinationError(str(self._target), reason)

    async def shipped(self, names: Sequence[str]) -> frozenset[str]:
        """Return no file: a receiver does not know files."""
        del names
        return frozenset()

    async def ship(self, shipment: Shipment) -> Receipt:
        """Send the points of a shipment, one file after the other."""
        if shipment.prefix == ACCOUNT:
            return Receipt(0)
        return await asyncio.to_thread(self._ship, shipment)

    async def check_totals(self, notes: Mapping[str, str]) -> Sequence[str]:
        """Raise CannotBeAsked."""
        del notes
        raise CannotBeAsked("OTLP has no way to ask a receiver what it has")

    async def close(self) -> None:
        """Close the connections."""
        for exporter in (self._metrics, self._spans):
            if exporter is not None:
                exporter.shutdown()
        self._metrics = self._spans = None

    def _make_exporters(self) -> None:
        import requests  # noqa: PLC0415 - an extra
        from opentelemetry.exporter.otlp.proto.http import Compression  # noqa: PLC0415
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415
            OTLPMetricExporter,
        )
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )

        def note(response: Response, *_args: Any, **_kwargs: Any) -> None:
            # An exporter says only that it failed.
            self._answers.append(response)

        base = self._options.url.partition("?")[0].rstrip("/")
        made: list[Any] = []
        for kind, path in ((OTLPMetricExporter, "metrics"), (OTLPSpanExporter, "traces")):
            session = requests.Session()
            session.hooks["response"].append(note)
            if self._options.ca_file is not None:
                session.mount("https://", _trusting(self._options.ca_file))
            make: Callable[..., Any] = kind
            made.append(
                make(
                    endpoint=f"{base}/v1/{path}",
                    headers=self._options.headers,
                    timeout=_TIMEOUT_S,
                    compression=Compression.Gzip,
                    session=session,
                )
            )
        self._metrics, self._spans = made

    def _ship(self, shipment: Shipment) -> Receipt:
        from aqltelemetry.shipping.destinations import otlp_metrics, otlp_spans  # noqa: PLC0415

        reading = ShipmentPoints(shipment, self._steps(shipment.prefix))
        files = [*reading.read()]
        refused = dict(reading.refused)
        for file in files:
            resource = self._resource(file)
            data = otlp_metrics.metrics_data(shipment.prefix, file, resource)
            reason = self._export(self._metrics, data)
            if reason is None and self._slow_s is not None and shipment.prefix == DURATION:
                spans = otlp_spans.slow_requests(file, resource, self._slow_s)
                parts = (spans[at : at + _MAX_SPANS] for at in range(0, len(spans), _MAX_SPANS))
                reasons = (self._export(self._spans, part) for part in parts)
                reason = next((each for each in reasons if each is not None), None)
            if reason is not None:
                refused[file.file.name] = reason
        rows = sum(len(file.rows) for file in files if file.file.name not in refused)
        return Receipt(rows, refused, reading.notes())

    def _steps(self, prefix: str) -> Steps:

        steps = Steps(self._options.interval_ms, bucket_numbers, has_anchors=False)
        if prefix == DURATION:
            return steps
        return steps._replace(
            is_counted=partial(is_histogram, prefix),
            is_left_out=lambda label: sample_series(prefix, label) is None,
        )

    def _resource(self, file: FilePoints) -> Resource:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra

        origin = self._target.origin
        attributes: dict[str, str | int] = {
            "service.name": origin.service or "unknown_service",
            "service.instance.id": origin.instance or file.writer,
            "host.name": origin.host,
            "process.pid": file.pid,
            "aqltelemetry.writer": file.writer,
        }
        return Resource({name: value for name, value in attributes.items() if value != ""})

    def _export(self, exporter: Any, data: Any) -> str | None:
        """Send data; return why they are refused, None if they are stored."""
        self._answers.clear()
        if exporter.export(data).name == "SUCCESS":
            return None
        if not self._answers:
            raise Unavailable(f"{self._target}: it does not answer")
        answer = self._answers[-1]
        reason = f"it answers {answer.status_code}: {answer.text.strip()[:_REASON_CHARACTERS]}"
        if answer.status_code in SETUP_ERRORS:
            raise DestinationError(str(self._target), reason)
        if answer.status_code in _REFUSED:
            return reason
        raise Unavailable(f"{self._target}: {reason}")


def _trusting(ca_file: str) -> HTTPAdapter:
    """Return an adapter that trusts these certificates, whatever the environment says."""
    from requests.adapters import HTTPAdapter  # noqa: PLC0415 - an extra

    class Trusting(HTTPAdapter):
        def send(self, *args: Any, **options: Any) -> Response:
            return super().send(*args, **{**options, "verify": ca_file})

    return Trusting()


def _slow_s(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = parse_seconds(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise OptionError("slow_spans", text, "must be a time above 0, such as 500ms or 2s")
    return seconds

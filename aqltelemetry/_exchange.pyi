from aqltelemetry.exchange import Gauge as Gauge

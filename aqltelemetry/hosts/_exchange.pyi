from aqltelemetry.hosts.exchange import Gauge as Gauge

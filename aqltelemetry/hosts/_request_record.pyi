from aqltelemetry.hosts.request_record import Gauge as Gauge

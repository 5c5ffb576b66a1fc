from aqltelemetry.hosts.asgi.connections import Connections as Connections

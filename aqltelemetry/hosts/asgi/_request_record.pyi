from aqltelemetry.hosts.asgi.request_record import AsgiRequests as AsgiRequests

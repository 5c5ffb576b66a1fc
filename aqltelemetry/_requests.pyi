from collections.abc import Awaitable, Callable
from typing import Any

from aqltelemetry.asgi_connections import Connections as Connections
from aqltelemetry.exchange import Gauge as Gauge
from aqltelemetry.wsgi_answers import Answer as Answer

class RequestTimer:
    def __init__(
        self, twin: Any, handle: Callable[[Any], Awaitable[Any]], request_type: type
    ) -> None: ...
    def handle(self, request: Any) -> Awaitable[Any]: ...

def prepare_hook(request: Any, response: Any) -> Awaitable[None]: ...

from collections.abc import Awaitable, Callable
from typing import Any

from aqltelemetry.exchange import Gauge as Gauge

class RequestTimer:
    def __init__(
        self,
        twin: Any,
        handle: Callable[[Any], Awaitable[Any]],
        request_type: type,
        awaited: Callable[[Awaitable[Any]], Awaitable[Any]],
    ) -> None: ...
    def handle(self, request: Any) -> Awaitable[Any]: ...

def prepare_hook(request: Any, response: Any) -> Awaitable[None]: ...

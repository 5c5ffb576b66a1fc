from collections.abc import Awaitable, Callable
from typing import Any

class RequestTimer:
    def __init__(
        self, twin: Any, handle: Callable[[Any], Awaitable[Any]], request_type: type
    ) -> None: ...
    def handle(self, request: Any) -> Awaitable[Any]: ...

def prepare_hook(request: Any, response: Any) -> Awaitable[None]: ...

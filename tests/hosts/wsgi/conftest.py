"""The modules that time a WSGI request: the pure one and its compiled twin."""

from __future__ import annotations

from types import ModuleType

import pytest

from aqltelemetry.hosts.wsgi import request_record
from twinned import compiled_twin


@pytest.fixture(scope="session")
def compiled() -> ModuleType:
    return compiled_twin("hosts.wsgi._request_record")


@pytest.fixture(scope="session", params=["pure", "compiled"])
def twin(request: pytest.FixtureRequest) -> ModuleType:
    if request.param == "pure":
        return request_record
    found: ModuleType = request.getfixturevalue("compiled")
    return found

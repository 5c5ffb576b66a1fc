from __future__ import annotations

import json
import re
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from aqltelemetry.commands.cli import main
from live_page import RECORDED, record, serving

pytestmark = pytest.mark.system


@pytest.fixture
def recorded(directory: Path) -> Path:
    record(directory)
    return directory


def _refused(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["serve", *arguments])
    assert result.exit_code in (1, 2)
    return result.output


def test_another_address_gets_a_token_of_its_own(recorded: Path) -> None:
    with serving(recorded, "--host", "0.0.0.0") as url:
        found = re.fullmatch(r"http://[^/]+:(\d+)/\?token=(\S{43})", url)
        assert found is not None
        address = f"http://127.0.0.1:{found[1]}/report.json"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(address, timeout=60)
        request = urllib.request.Request(address, headers={"Authorization": f"Bearer {found[2]}"})
        with urllib.request.urlopen(request, timeout=60) as response:
            assert {row["count"] for row in json.load(response)["durations"]} == set(
                RECORDED.values()
            )


def test_a_port_in_use_is_reported_in_one_line(recorded: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        printed = _refused(str(recorded), "--port", port)
    text = f"Error: port {port} of 127.0.0.1 is in use; --port 0 chooses a free one\n"
    assert printed == text


def test_wrong_options_are_reported(recorded: Path) -> None:
    assert "does not exist" in _refused(str(recorded / "none"))
    assert "at least 16 characters" in _refused(str(recorded), "--token", "short")
    assert "is no address of this machine" in _refused(str(recorded), "--host", "no.such.invalid")
    assert "can't listen" in _refused(str(recorded), "--host", "192.0.2.1")
    assert "--since 'x'" in _refused(str(recorded), "--since", "x")


def test_help_explains_the_options() -> None:
    printed = CliRunner().invoke(main, ["serve", "--help"]).output
    assert "Show recordings live in a browser." in printed
    assert "AQLTELEMETRY_TOKEN" in printed


def test_it_is_interrupted_before_anybody_has_looked(recorded: Path) -> None:
    with serving(recorded):
        pass

"""The files that deploy a shipper are well-formed, and their command lines are accepted."""

from __future__ import annotations

import configparser
import shlex
from typing import Any

import click
import yaml

from aqltelemetry.commands.cli import main
from aqltelemetry.settings import settings
from pages import Page

_PAGE = Page("docs/guides/deploy-shipper.md")
_SHIP = ["aqltelemetry", "ship"]


def _documents() -> dict[str, dict[str, Any]]:
    found = [(text.splitlines()[0], yaml.safe_load(text)) for text in _PAGE.blocks("yaml")]
    return {line.removeprefix("# "): document for line, document in found}


def _parsed(command: list[str]) -> dict[str, Any]:
    """Return the parameters of a command line of `aqltelemetry ship`."""
    assert command[:2] == _SHIP
    found = main.get_command(click.Context(main), "ship")
    assert found is not None
    return found.make_context("ship", command[2:]).params


def _check(command: list[str], directory: str) -> None:
    parameters = _parsed(command)
    assert parameters["directories"] == (directory,)
    assert parameters["once"] is False
    assert parameters["delete_after_s"] > 0
    assert parameters["service"] == "shop"


def test_the_unit_of_systemd_follows_and_stops_in_time() -> None:
    (text,) = _PAGE.blocks("ini")
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(text.partition("\n")[2])
    service = unit["Service"]
    program, *rest = shlex.split(service["ExecStart"])
    assert program.endswith("/bin/aqltelemetry")
    _check(["aqltelemetry", *rest], service["ReadWritePaths"])
    assert int(service["TimeoutStopSec"]) > 5
    assert service["EnvironmentFile"] in _PAGE.path.read_text().split("```text")[1]


def test_the_compose_file_shares_one_volume() -> None:
    services = _documents()["compose.yaml"]["services"]
    _check(shlex.split(services["shipper"]["command"]), "/monitoring")
    assert settings(environ=services["shop"]["environment"]).directory == "/monitoring"
    assert (
        services["shop"]["volumes"] == services["shipper"]["volumes"] == ["monitoring:/monitoring"]
    )


def test_the_sidecar_sees_the_directory_of_the_service_and_ends_after_it() -> None:
    pod = _documents()["shop.yaml"]["spec"]["template"]["spec"]
    (shipper,), (shop,) = pod["initContainers"], pod["containers"]
    _check(shipper["args"], "/monitoring")
    assert shipper["restartPolicy"] == "Always"
    assert shipper["volumeMounts"] == shop["volumeMounts"]
    _check_variables(shipper)


def test_the_shipper_of_a_node_ships_a_directory_of_the_node() -> None:
    pod = _documents()["shipper.yaml"]["spec"]["template"]["spec"]
    (shipper,), (volume,) = pod["containers"], pod["volumes"]
    _check(shipper["args"], "/monitoring/shop")
    assert shipper["volumeMounts"][0]["name"] == volume["name"]
    assert volume["hostPath"]["path"]
    _check_variables(shipper)


def _check_variables(container: dict[str, Any]) -> None:
    """Check that variables are those of options of `ship`, and that the URL is a secret."""
    found = main.get_command(click.Context(main), "ship")
    assert found is not None
    known = {each.envvar for each in found.params if isinstance(each, click.Option)}
    variables = {each["name"]: each["valueFrom"] for each in container["env"]}
    assert set(variables) <= known
    assert "secretKeyRef" in variables["AQLTELEMETRY_SHIP_TO"]

"""The files that deploy a service and its shipper are well-formed, and programs accept them."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from gunicorn.config import Config  # type: ignore[import-untyped]

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


def _units() -> dict[str, dict[str, str]]:
    """Return the sections `[Service]` of the units by the names of their files."""
    found = {}
    for text in _PAGE.blocks("ini"):
        path, _, content = text.partition("\n")
        unit = configparser.ConfigParser(interpolation=None)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string(content)
        found[Path(path.removeprefix("# ")).name] = dict(unit["Service"])
    return found


def test_the_units_of_systemd_share_a_directory_and_stop_in_time() -> None:
    units = _units()
    shop, shipper = units["shop.service"], units["shop-shipper.service"]
    name, _, directory = shop["Environment"].partition("=")
    assert settings(environ={name: directory}).directory == directory
    program, *rest = shlex.split(shipper["ExecStart"])
    assert program.endswith("/bin/aqltelemetry")
    _check(["aqltelemetry", *rest], directory)
    assert Path(directory).parent == Path("/var/lib") / shipper["StateDirectory"]
    assert shop["StateDirectory"] == shipper["StateDirectory"]
    assert shop["User"] == shipper["User"]
    assert int(shipper["TimeoutStopSec"]) > 5
    assert int(shop["TimeoutStopSec"]) > Config().settings["graceful_timeout"].get()
    assert shipper["EnvironmentFile"] in _PAGE.path.read_text().split("```text")[1]


def test_gunicorn_accepts_the_command_lines_of_the_service() -> None:
    commands = [_units()["shop.service"]["ExecStart"]]
    commands.append(_documents()["compose.yaml"]["services"]["shop"]["command"])
    for command in commands:
        program, *rest = shlex.split(command)
        assert program.endswith("gunicorn")
        found = Config().parser().parse_args(rest)
        assert (found.config, found.args) == ("python:aqltelemetry.gunicorn", ["app:app"])


@pytest.mark.system
def test_systemd_accepts_the_units(
    tmp_path: Path, debian_package: Callable[[str, str], Path]
) -> None:
    program = debian_package("systemd", "usr/bin/systemd-analyze")
    for name, text in zip(_units(), _PAGE.blocks("ini"), strict=True):
        # The programs of the page are not installed here.
        unit = re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={sys.executable}", text)
        unit = re.sub(r"(?m)^WorkingDirectory=\S+", f"WorkingDirectory={tmp_path}", unit)
        (tmp_path / name).write_text(unit)
        command = [str(program), "verify", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_manifests_have_the_schema_of_kubernetes() -> None:
    validator = pytest.importorskip("kubernetes_validate")
    manifests = [each for each in _documents().values() if "kind" in each]
    assert [each["kind"] for each in manifests] == ["Deployment", "DaemonSet", "Deployment"]
    for manifest in manifests:
        validator.validate(manifest, "1.30", strict=True)


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
    # The user of the shipper can write into the directory that the node makes for root.
    (directory,) = pod["initContainers"]
    owner = pod["securityContext"]["runAsUser"]
    assert directory["args"][-1].endswith(f"chown {owner} /monitoring/shop")
    _check_variables(shipper)
    service = _documents()["shop-on-node.yaml"]["spec"]["template"]["spec"]
    assert service["securityContext"]["runAsUser"] == owner
    mounted = service["volumes"][0]["hostPath"]["path"]
    assert mounted == f"{volume['hostPath']['path']}/shop"


def _check_variables(container: dict[str, Any]) -> None:
    """Check that variables are those of options of `ship`, and that the URL is a secret."""
    found = main.get_command(click.Context(main), "ship")
    assert found is not None
    known = {each.envvar for each in found.params if isinstance(each, click.Option)}
    variables = {each["name"]: each["valueFrom"] for each in container["env"]}
    assert set(variables) <= known
    assert "secretKeyRef" in variables["AQLTELEMETRY_SHIP_TO"]

"""The systemd unit and the compose example fit the program and the files that they name."""

from __future__ import annotations

import configparser
import itertools
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from guardproxy.config.load import loads
from tests.k8s.test_manifests import ROOT

DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "guardproxy.service"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())["services"]


@pytest.fixture(scope="module")
def unit() -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign] # systemd's names have capitals
    parser.read(UNIT)
    return dict(parser["Service"])


@pytest.mark.needs("systemd-analyze")
def test_systemd_takes_the_unit(tmp_path):
    """With a program in place of ours, which is not installed here: every directive is known, and hardly exposed."""
    text = re.sub(r"/opt/guardproxy/bin/guardproxy", "/bin/true", UNIT.read_text())
    file = tmp_path / "guardproxy.service"
    file.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", file], capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "guardproxy.service" in line]
    assert not ours, ours
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=25", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-400:]


def test_the_unit_agrees_with_the_program(unit):
    """Its signals, its exit status, and the time that it needs to drain."""
    limits = loads("{}").config
    assert float(unit["TimeoutStopSec"]) > limits.drain.seconds
    assert int(unit["LimitNOFILE"]) >= 2 * limits.limits.connections
    assert unit["RestartPreventExitStatus"] == "2"
    assert "-HUP" in unit["ExecReload"]
    assert unit["ExecStart"].endswith(" run /etc/guardproxy/guardproxy.yaml")


def test_compose_mounts_files_that_there_are():
    """And nothing is reached from outside this machine."""
    for name, service in COMPOSE.items():
        for volume in service.get("volumes", ()):
            source, _, mode = volume.split(":")
            assert (DEPLOY / "compose" / source).exists(), (name, source)
            assert mode == "ro"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_compose_wires_the_program_to_its_watchers():
    """Prometheus scrapes the admin port under a name that is allowed there; Grafana finds Prometheus."""
    command = COMPOSE["guardproxy"]["command"]
    overrides = dict(part.split("=", 1) for flag, part in itertools.pairwise(command) if flag == "-o")
    scraped = yaml.safe_load((DEPLOY / "compose/prometheus.yaml").read_text())
    ((target,),) = (one["targets"] for job in scraped["scrape_configs"] for one in job["static_configs"])
    host, port = target.split(":")
    assert host in COMPOSE
    assert host in yaml.safe_load(overrides["own_hosts"])
    assert overrides["admin"].endswith(f":{port}")
    (source,) = yaml.safe_load((DEPLOY / "compose/grafana/datasources.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    urls = {name: value for name, value in COMPOSE["guardproxy"]["environment"].items() if name.endswith("_URL")}
    assert set(urls) == set(re.findall(r"\$\{(\w+_URL)", (ROOT / "config/guardproxy.yaml").read_text()))
    assert Path(COMPOSE["guardproxy"]["volumes"][0].split(":")[1]) == Path(command[1]).parent

"""The program, started as the manifests start it: their command, their ConfigMap, their ports, their probes.

It runs in a network of its own, so that the ports can be the manifests' own; a folder stands for the ConfigMap, laid
out as the kubelet does it, with a ``..data`` link.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s.test_manifests import ROOT, SETUPS, guard_of, one_of, rendered

SOON = 30.0
INSIDE = "--inside"


def mounted(setup: list[Any], volume: Any, folder: Path) -> None:
    """Lay out the ConfigMap of *volume* in *folder*."""
    data = one_of([one for one in setup if one["metadata"]["name"] == volume["configMap"]["name"]], "ConfigMap")["data"]
    version = folder / "..2026"
    for item in volume["configMap"]["items"]:
        file = version / item["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(data[item["key"]])
    (folder / "..data").symlink_to(version.name)
    for name in {Path(item["path"]).parts[0] for item in volume["configMap"]["items"]}:
        (folder / name).symlink_to(Path("..data") / name)


@pytest.mark.needs("unshare")
@pytest.mark.parametrize("name", SETUPS)
def test_it_starts_as_its_manifest_starts_it(name, tmp_path):
    """Probes succeed though no model server is there, ports are open to those who need them, and it ends in peace."""
    setup = rendered(name)
    pod = one_of(setup, "Deployment")["spec"]["template"]["spec"]
    container = guard_of({"spec": pod})
    (volume,) = pod["volumes"]
    (mount,) = container["volumeMounts"]
    folder = tmp_path / "config"
    folder.mkdir()
    mounted(setup, volume, folder)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    probes = {
        kind: (container[kind]["httpGet"]["path"], ports[container[kind]["httpGet"]["port"]])
        for kind in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    dockerfile = (ROOT / "Dockerfile").read_text()
    order = {
        "args": [argument.replace(mount["mountPath"], str(folder)) for argument in container["args"]],
        "probes": probes,
        "health": json.loads(dockerfile[dockerfile.index('["python", "-c"') :].partition("\n")[0]),
        "grace": pod["terminationGracePeriodSeconds"],
    }
    found = in_a_network_of_its_own(order)
    assert found["probes"] == dict.fromkeys(probes, 200)
    assert found["health"] == 0
    listening = {(address, port) for address, port in found["listening"]}
    admin = yaml.safe_load((folder / "guardproxy.yaml").read_text())["admin"].rpartition(":")[2]
    assert ("0.0.0.0", int(admin)) in listening
    assert (("127.0.0.1" if name != "standalone" else "0.0.0.0"), 8000) in listening
    assert found["models"] == 200
    assert found["exit"] == 0


def in_a_network_of_its_own(order: dict[str, Any]) -> dict[str, Any]:
    """Run this file in a network namespace, as root or as whoever this is."""
    ours = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    command = [*ours, sys.executable, "-m", "tests.k8s.test_started", INSIDE, json.dumps(order)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=55)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


# -- inside


def inside(order: dict[str, Any]) -> dict[str, Any]:
    """What the kubelet does with a container, and what it finds."""
    loopback_up()
    process = subprocess.Popen([sys.executable, "-m", "guardproxy", *order["args"]], stdout=sys.stderr)
    try:
        deadline = time.monotonic() + SOON
        while status(*order["probes"]["startupProbe"]) != 200:
            assert time.monotonic() < deadline, "the startup probe never succeeded"
            assert process.poll() is None, "it ended"
            time.sleep(0.1)
        found: dict[str, Any] = {
            "probes": {kind: status(*probe) for kind, probe in order["probes"].items()},
            "health": subprocess.run([sys.executable, *order["health"][1:]], check=False).returncode,
            "listening": listening(),
            "models": status("/v1/models", 8000),
        }
        process.send_signal(signal.SIGTERM)
        return {**found, "exit": process.wait(order["grace"])}
    finally:
        process.kill()
        process.wait()


def status(path: str, port: int) -> int:
    """What a probe is answered; 0 where nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def listening() -> list[tuple[str, int]]:
    """Where sockets listen in this network."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    found = []
    for address, state in ((row[1], row[3]) for row in rows):
        host, _, port = address.partition(":")
        if state == "0A":
            found.append((socket.inet_ntoa(struct.pack("<L", int(host, 16))), int(port, 16)))
    return found


def loopback_up() -> None:
    """A new network's loopback is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        name = b"lo".ljust(16, b"\0")
        flags = struct.unpack("16sh", fcntl.ioctl(any_socket, 0x8913, struct.pack("16sh", name, 0)))[1]
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", name, flags | 1))


if __name__ == "__main__" and sys.argv[1:2] == [INSIDE]:
    sys.stdout.write(json.dumps(inside(json.loads(sys.argv[2]))) + "\n")

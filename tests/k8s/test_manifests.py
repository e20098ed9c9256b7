"""The manifests, the alerts and the image fit each other and the configuration that they carry.

Nothing here starts the program: files are read, rendered and compared.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import kubernetes_validate
import pytest
import yaml

from tests.conftest import skip_without

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
BASE = K8S / "base"
SOURCES = sorted(
    str(path.relative_to(K8S))
    for path in K8S.rglob("*.yaml")
    if path.name != "kustomization.yaml" and not path.parent.name.startswith("inject")
)
SETUPS = ("native-sidecar", "classic-sidecar", "standalone")
SIDECARS = SETUPS[:2]
CUSTOM = {"monitoring.coreos.com/v1", "argoproj.io/v1alpha1"}  # the Prometheus operator's kinds, and Argo Rollouts'
MIB = 2**20

# The four alerts that operators of these guards know; their names, expressions and texts are a promise.
ALERTS = [
    {
        "alert": "HighJSONFallbackRate",
        "expr": "rate(llm_json_fallback_used_total[5m]) / rate(llm_requests_total[5m]) > 0.01",
        "for": "5m",
        "labels": {"severity": "warning"},
        "annotations": {"summary": "High JSON fallback rate (>1%)"},
    },
    {
        "alert": "QwenCircuitBreakerOpen",
        "expr": 'circuit_breaker_state{model="qwen"} == 1',
        "for": "1m",
        "labels": {"severity": "critical"},
        "annotations": {
            "summary": "Qwen circuit breaker is OPEN",
            "description": "Qwen model has high failure rate, auto downshift triggered",
        },
    },
    {
        "alert": "LowCacheHitRate",
        "expr": "rate(cache_hits_total[5m]) / (rate(cache_hits_total[5m]) + rate(cache_misses_total[5m])) < 0.7",
        "for": "10m",
        "labels": {"severity": "warning"},
        "annotations": {"summary": "Low cache hit rate (<70%)"},
    },
    {
        "alert": "LLMModelUnhealthy",
        "expr": "llm_health_status == 0",
        "for": "5m",
        "labels": {"severity": "critical"},
        "annotations": {
            "summary": "LLM model {{ $labels.model }} is unhealthy",
            "description": "Model has been unhealthy for 5 minutes",
        },
    },
]


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def size(text: str) -> int:
    """Bytes, from the way the configuration (256MiB) or Kubernetes (512Mi) writes them."""
    match = re.fullmatch(r"(\d+)([KMG]i)B?", text)
    assert match, f"{text!r} is no size"
    return int(match[1]) * {"Ki": 2**10, "Mi": MIB, "Gi": 2**30}[match[2]]


def port(address: str) -> int:
    return int(address.rpartition(":")[2])


@pytest.fixture(scope="module")
def reference() -> Any:
    """The configuration with every default spelled out."""
    return load(ROOT / "config/guardproxy.yaml")


@pytest.fixture(scope="module")
def data() -> Any:
    return load(BASE / "configmap.yaml")["data"]


@pytest.fixture(scope="module")
def config(data) -> Any:
    """The configuration that the ConfigMap carries."""
    return yaml.safe_load(data["guardproxy.yaml"])


def rendered(setup: str) -> list[Any]:
    """All resources of one way to run it, as `kubectl apply -k` would send them."""
    skip_without("kubectl")
    done = subprocess.run(["kubectl", "kustomize", K8S / setup], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def one_of(resources: list[Any], kind: str) -> Any:
    (found,) = (resource for resource in resources if resource["kind"] == kind)
    return found


def guard_of(pod: Any) -> Any:
    """guardproxy's container in a pod."""
    spec = pod["spec"]
    (found,) = (one for one in (*spec.get("initContainers", ()), *spec["containers"]) if one["name"] == "guardproxy")
    return found


def overrides_of(container: Any) -> dict[str, str]:
    """What a container's `-o key=value` arguments say."""
    args = container["args"]
    return dict(args[i + 1].split("=", 1) for i, arg in enumerate(args) if arg == "-o")


@pytest.fixture(scope="module", params=SIDECARS)
def setup(request) -> list[Any]:
    """Each way to run it beside an app."""
    return rendered(request.param)


@pytest.fixture(scope="module")
def pod(setup) -> Any:
    return one_of(setup, "Deployment")["spec"]["template"]


@pytest.fixture(scope="module")
def sidecar(pod) -> Any:
    return guard_of(pod)


@pytest.fixture(scope="module")
def overrides(sidecar) -> dict[str, str]:
    return overrides_of(sidecar)


# -- every manifest is one


def check(resource: Any) -> None:
    """What the API server would take."""
    if resource["apiVersion"] in CUSTOM:
        assert {*resource} == {"apiVersion", "kind", "metadata", "spec"}
        assert resource["metadata"]["name"]
    else:
        kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("name", SOURCES)
def test_a_manifest_is_what_the_api_server_takes(name):
    check(load(K8S / name))


@pytest.mark.parametrize("setup", SETUPS)
def test_what_is_rendered_is_what_the_api_server_takes(setup):
    """Every resource of every setup; and each of them has a name of its own."""
    resources = rendered(setup)
    for resource in resources:
        check(resource)
    names = [(resource["kind"], resource["metadata"]["name"]) for resource in resources]
    assert len(set(names)) == len(names)


def test_the_first_look_is_a_native_sidecar():
    assert rendered(".") == rendered("native-sidecar")


def test_every_manifest_is_named_by_its_kustomization():
    """A file that nobody names is a file that nobody applies."""
    for folder in {path.parent for path in K8S.rglob("kustomization.yaml")} - {K8S}:
        kustomization = load(folder / "kustomization.yaml")
        named = {
            *kustomization.get("resources", ()),
            *(patch.get("path") for patch in kustomization.get("patches", ())),
        }
        assert {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"} <= named, folder


def test_a_component_injects_it_into_any_deployment(tmp_path):
    """One line in a kustomization that knew nothing of it; of the app nothing is changed."""
    skip_without("kubectl")
    shutil.copytree(K8S, tmp_path / "guardproxy")
    app = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "mine"},
        "spec": {
            "selector": {"matchLabels": {"app": "mine"}},
            "template": {
                "metadata": {"labels": {"app": "mine"}},
                "spec": {
                    "initContainers": [{"name": "migrate", "image": "mine:1"}],
                    "containers": [{"name": "web", "image": "mine:1"}],
                    "volumes": [{"name": "scratch", "emptyDir": {}}],
                },
            },
        },
    }
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/app.yaml").write_text(yaml.safe_dump(app))
    mine = {"resources": ["app.yaml"], "components": ["../guardproxy/inject"]}
    (tmp_path / "mine/kustomization.yaml").write_text(yaml.safe_dump(mine))
    made = subprocess.run(["kubectl", "kustomize", tmp_path / "mine"], capture_output=True, text=True, check=True)
    resources = list(yaml.safe_load_all(made.stdout))
    deployment = one_of(resources, "Deployment")
    check(deployment)
    assert deployment["metadata"]["name"] == "mine"
    spec = deployment["spec"]["template"]["spec"]
    assert spec["containers"] == [{"name": "web", "image": "mine:1"}]
    assert {one["name"] for one in spec["initContainers"]} == {"guardproxy", "migrate"}
    assert {volume["name"] for volume in spec["volumes"]} == {"guardproxy-config", "scratch"}
    assert deployment["spec"]["template"]["metadata"]["labels"] == {"app": "mine", "guardproxy": "sidecar"}
    assert one_of(resources, "NetworkPolicy")


# -- the checklist before a promotion


def test_both_ways_to_verify_run_the_same_container():
    """And under the restricted pod security standard, as the app does."""
    job = load(K8S / "verify-job.yaml")["spec"]
    (metric,) = load(K8S / "analysistemplate.yaml")["spec"]["metrics"]
    analysis = metric["provider"]["job"]["spec"]
    kubernetes_validate.validate(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "analysis"}, "spec": analysis},
        kubernetes_validate.latest_version(),
        strict=True,
    )
    one, other = (spec["template"]["spec"] for spec in (job, analysis))
    assert one["containers"][0].pop("args") == ["verify", "http://example-app-canary:9090"]
    assert other["containers"][0].pop("args") == ["verify", "{{args.url}}"]
    assert one == other
    assert job["backoffLimit"] == analysis["backoffLimit"] == 0


# -- alerts


def test_alert_rules_are_the_promised_ones():
    """Word for word; that each links a page of what to do is all that is added."""
    rules = load(ROOT / "config/alerts.yaml")["groups"][0]["rules"]
    assert all(rule["annotations"].pop("runbook_url") for rule in rules)
    assert rules == ALERTS


def test_prometheus_operator_gets_the_same_rules():
    assert load(BASE / "prometheusrule.yaml")["spec"] == load(ROOT / "config/alerts.yaml")


# -- the configuration


def test_grafana_gets_the_dashboard_as_it_is():
    text = load(BASE / "grafana-dashboard.yaml")["data"]["guardproxy.json"]
    assert text == (ROOT / "config/grafana-dashboard.json").read_text()


def test_each_guard_has_its_row_on_the_dashboard():
    """And every panel stands under a row, without overlapping another."""
    panels = json.loads((ROOT / "config/grafana-dashboard.json").read_text())["panels"]
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert {"JSON guard", "Circuit breaker and downshift", "Cache", "Health"} <= set(rows)
    assert panels[0]["type"] == "row"
    places = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24


def test_reference_configuration_is_offered_its_schema_by_editors():
    first = (ROOT / "config/guardproxy.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=guardproxy.schema.json"


def test_fallback_satisfies_its_own_schema(reference):
    entry = reference["json_guard"]["schemas"]["llm_brief"]
    schema = json.loads((ROOT / "config" / entry["file"]).read_text(encoding="utf-8"))
    jsonschema_rs.meta.validate(schema)
    jsonschema_rs.Draft202012Validator(schema).validate(entry["fallback"])
    jsonschema_rs.Draft202012Validator(schema).validate({k: v for k, v in entry["fallback"].items() if k != "error"})


def test_configmap_differs_from_the_reference_in_addresses_alone(config, reference):
    def shared(part: Any, whole: Any, path: str) -> None:
        if isinstance(part, dict):
            for key, value in part.items():
                assert key in whole, f"{path}.{key} is no setting"
                if key != "url":
                    shared(value, whole[key], f"{path}.{key}")
        else:
            assert part == whole, path

    shared(config, reference, "")


def test_configmap_has_the_schema_of_the_reference_where_its_configuration_looks(data, config, pod):
    assert data["llm_brief.json"] == (ROOT / "config/schemas/llm_brief.json").read_text(encoding="utf-8")
    (volume,) = pod["spec"]["volumes"]
    paths = {item["path"] for item in volume["configMap"]["items"]}
    assert {item["key"] for item in volume["configMap"]["items"]} == set(data)
    assert {entry["file"] for entry in config["json_guard"]["schemas"].values()} < paths


# -- the pod


def test_a_native_sidecar_is_one():
    """It starts before the app and stops after it; the classic one is an ordinary container."""
    native = one_of(rendered("native-sidecar"), "Deployment")["spec"]["template"]["spec"]
    assert [one["restartPolicy"] for one in native["initContainers"]] == ["Always"]
    classic = one_of(rendered("classic-sidecar"), "Deployment")["spec"]["template"]["spec"]
    assert "initContainers" not in classic
    assert {one["name"] for one in classic["containers"]} == {"app", "guardproxy"}


def test_it_sees_its_configuration_change(sidecar, pod):
    (mount,) = sidecar["volumeMounts"]
    assert "subPath" not in mount
    (volume,) = pod["spec"]["volumes"]
    assert (mount["name"], volume["configMap"]["name"]) == (volume["name"], "guardproxy")
    assert sidecar["args"][:2] == ["run", f"{mount['mountPath']}/guardproxy.yaml"]


def test_app_calls_the_data_port_over_loopback_and_nobody_else_can(config, pod, sidecar, overrides):
    app = next(one for one in pod["spec"]["containers"] if one["name"] == "app")
    env = {variable["name"]: variable["value"] for variable in app["env"]}
    assert env["OPENAI_BASE_URL"] == f"http://localhost:{port(config['listen'])}/v1"
    assert config["listen"].startswith("127.0.0.1:")
    assert "listen" not in overrides
    assert port(config["listen"]) not in {p["containerPort"] for p in sidecar["ports"]}


def test_probes_ask_the_admin_port_on_the_pods_address(config, sidecar, overrides):
    assert overrides == {"admin": f"0.0.0.0:{port(config['admin'])}"}
    assert sidecar["ports"] == [{"name": "admin", "containerPort": port(config["admin"])}]
    probes = {kind: sidecar[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert probes == {
        "startupProbe": {"path": "/readyz", "port": "admin"},
        "livenessProbe": {"path": "/healthz", "port": "admin"},
        "readinessProbe": {"path": "/readyz", "port": "admin"},
    }


def test_memory_limit_leaves_room_beside_the_cache_and_cpu_has_none(config, sidecar):
    limits = sidecar["resources"]["limits"]
    assert size(limits["memory"]) >= size(config["cache"]["max_bytes"]) + 128 * MIB
    assert "cpu" not in limits


def test_pod_is_given_longer_than_the_drain_takes(config, pod):
    assert pod["spec"]["terminationGracePeriodSeconds"] > config["drain"]["seconds"]


@pytest.mark.parametrize("name", SETUPS)
def test_it_runs_under_the_restricted_pod_security_standard(name):
    """By its own container's context: it asks nothing of the app's."""
    container = guard_of(one_of(rendered(name), "Deployment")["spec"]["template"])
    assert container["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert "cpu" not in container["resources"]["limits"]
    assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]


def test_a_service_of_its_own_is_reached_and_scaled(config):
    """Its data port is open to the pods of its namespace; the autoscaler and the budget mean its Deployment."""
    resources = rendered("standalone")
    deployment = one_of(resources, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    container = guard_of(deployment["spec"]["template"])
    assert overrides_of(container) == {"listen": "0.0.0.0:8000", "admin": "0.0.0.0:9090"}
    for selector in (
        one_of(resources, "Service")["spec"]["selector"],
        one_of(resources, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one_of(resources, "PodMonitor")["spec"]["selector"]["matchLabels"],
        one_of(resources, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    assert one_of(resources, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "guardproxy"
    assert "replicas" not in deployment["spec"]  # the autoscaler's to say
    wait = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > wait + config["drain"]["seconds"]


def test_monitor_and_policy_select_the_pod_and_know_its_ports(config, pod, setup):
    monitor = one_of(setup, "PodMonitor")["spec"]
    policy = one_of(setup, "NetworkPolicy")["spec"]
    labels = pod["metadata"]["labels"].items()
    assert monitor["selector"]["matchLabels"].items() <= labels
    assert policy["podSelector"]["matchLabels"].items() <= labels
    assert [(e["port"], e["path"]) for e in monitor["podMetricsEndpoints"]] == [("admin", "/metrics")]
    app = next(one for one in pod["spec"]["containers"] if one["name"] == "app")
    open_ports = [entry["port"] for rule in policy["ingress"] for entry in rule["ports"]]
    assert open_ports == [app["ports"][0]["containerPort"], port(config["admin"])]


# -- the image


def test_image_agrees_with_the_manifests(config, pod):
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    user = guard_of(pod)["securityContext"]["runAsUser"]
    assert f"USER {user}:{user}" in lines
    assert f"EXPOSE {port(config['listen'])} {port(config['admin'])}" in lines
    assert "STOPSIGNAL SIGTERM" in lines
    assert 'CMD ["run", "/etc/guardproxy/guardproxy.yaml"]' in lines


def test_lock_pins_every_distribution_by_hash_and_names_no_host():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = re.findall(r"^[a-z].*?(?=^[a-z]|\Z)", text, re.MULTILINE | re.DOTALL)
    assert pinned
    assert all(re.match(r"\S+==\S+ ", entry) and "--hash=sha256:" in entry for entry in pinned)
    assert not re.search(r"://|^-", text, re.MULTILINE)

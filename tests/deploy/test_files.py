"""What is deployed says what its tools understand: schemas, linters, and the program itself."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.requirements import requirements
from streamseg.config import parse_config, read_config
from tests.support.program import ROOT

DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
TOKEN = "0123456789abcdef"


def tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name(name), *arguments],
        cwd=DEPLOY,
        check=False,
        capture_output=True,
        text=True,
    )


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_the_dockerfile_has_no_faults_that_a_linter_knows() -> None:
    done = tool("hadolint", "Dockerfile")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_compose_files_follow_the_specification(name: str) -> None:
    done = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", name)
    assert done.returncode == 0, done.stdout


def test_a_compose_file_names_only_what_there_is() -> None:
    compose = load(DEPLOY / "compose.yaml")
    volumes = [volume for service in compose["services"].values() for volume in service.get("volumes", [])]
    for place in (volume.partition(":")[0] for volume in volumes):
        assert place in compose["volumes"] or (DEPLOY / place).exists(), place
    for config in compose["configs"].values():
        assert "content" in config or (DEPLOY / config["file"]).is_file()
    hosts = re.findall(r"(?:rtsp|redis|http)://(\w+):", (DEPLOY / "cameras.yaml").read_text())
    assert set(hosts) <= set(compose["services"])


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifests_are_what_kubernetes_takes(path: Path) -> None:
    manifest = load(path)
    if manifest["kind"] == "Kustomization":
        assert {f"{name}" for name in manifest["resources"]} <= {other.name for other in MANIFESTS}
    elif manifest["kind"] == "RayCluster":  # of an operator: its pods are Kubernetes' own
        spec = manifest["spec"]
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            assert all(isinstance(value, str) for value in group["rayStartParams"].values())
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, **group["template"]}
            kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    else:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_a_manifest_with_a_mistake_is_refused() -> None:
    manifest = load(DEPLOY / "kubernetes" / "deployment.yaml")
    manifest["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_pods_find_their_configuration_and_their_secrets() -> None:
    kubernetes = DEPLOY / "kubernetes"
    pod = load(kubernetes / "deployment.yaml")["spec"]["template"]["spec"]
    config, secret = load(kubernetes / "configmap.yaml"), load(kubernetes / "secret.example.yaml")
    assert pod["volumes"][0]["configMap"]["name"] == config["metadata"]["name"]
    assert pod["containers"][0]["envFrom"][0]["secretRef"]["name"] == secret["metadata"]["name"]
    used = set(re.findall(r"\$\{(\w+)\}", config["data"]["cameras.yaml"]))
    assert used == set(secret["stringData"])
    ports = load(kubernetes / "service.yaml")["spec"]["ports"]
    named = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
    assert {port["targetPort"]: port["port"] for port in ports} == named


def test_the_configurations_are_the_programs_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STREAMSEG_TOKEN", "CAMERA_PASSWORD", "REDIS_PASSWORD"):
        monkeypatch.setenv(name, TOKEN)
    mapped = tmp_path / "cameras.yaml"
    mapped.write_text(load(DEPLOY / "kubernetes" / "configmap.yaml")["data"]["cameras.yaml"])
    for path in (mapped, DEPLOY / "cameras.yaml"):
        config = parse_config(read_config(path), where=str(path))
        assert config.metrics.enabled
        assert config.metrics.token == config.view.token == TOKEN
        assert (config.view.port, config.metrics.port) == (8080, 9090)


def test_an_image_needs_no_desktop_and_gets_torch_apart() -> None:
    lines = requirements(ROOT / "pyproject.toml", ["onnxruntime", "mqtt"])
    names = [re.split(r"[<>=]", line)[0] for line in lines]
    assert {"av", "onnx", "onnxruntime", "paho-mqtt", "opencv-python-headless"} <= set(names)
    assert not {"torch", "torchvision", "opencv-python", "streamseg"} & set(names)

"""What docker/ ships is locked, runs as nobody in particular, is pinned, and names commands that there are."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.main import get_command

import dsgd
from dsgd.cli import app
from dsgd.config import load
from dsgd.study import find_study

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
DOCKERFILES = [DOCKER / "Dockerfile", DOCKER / "Dockerfile.cuda"]
COMPOSE = DOCKER / "compose.yaml"
MANIFESTS = sorted((DOCKER / "kuberay").glob("*.yaml"))
SCHEMAS = os.environ.get("DSGD_SCHEMAS")  # a folder that holds KubeRay's own definitions and Compose's

project = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pinned(package: str) -> str:
    """The version in constraints.txt."""
    return re.search(rf"^{package}==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]


def services() -> dict[str, Any]:
    """Compose's, with nothing set in the environment."""
    return yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", COMPOSE.read_text()))["services"]


def resources() -> Iterator[dict[str, Any]]:
    """KubeRay's custom resources; what else a manifest holds is Kubernetes' own."""
    for path in MANIFESTS:
        yield from (found for found in yaml.safe_load_all(path.read_text()) if found["apiVersion"] == "ray.io/v1")


def pods(value: Any) -> Iterator[dict[str, Any]]:
    """Every specification of a pod, wherever it stands."""
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from pods(inner)


def containers() -> list[dict[str, Any]]:
    return [container for resource in resources() for pod in pods(resource) for container in pod["containers"]]


def commands(program: str) -> list[list[str]]:
    """What follows `dsgd` or `ray` wherever a container, a manifest, the documentation or the check starts it."""
    texts = [" ".join([*service["entrypoint"], *service.get("command", [])]) for service in services().values()]
    texts += [" ".join(services()["head"]["healthcheck"]["test"])]
    texts += [resource["spec"].get("entrypoint", "") for resource in resources()]
    texts += re.findall(r"```sh\n(.*?)```", (DOCKER / "README.md").read_text(), re.DOTALL)
    texts += re.findall(r"^must image (.*)", (DOCKER / "image-check").read_text(), re.MULTILINE)
    text = re.sub(r"\bdsgd:[\w.-]+", "dsgd", "\n".join(texts))  # an image's name stands for its entrypoint
    return [shlex.split(found) for found in re.findall(rf"(?<![\w=-]){program} ([a-z][^'\n#>]*)", text)]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_has_a_pinned_base_a_numbered_user_and_no_address_of_an_index(path):
    text = path.read_text()
    base = re.search(r"^ARG BASE_IMAGE=(\S+)$", text, re.MULTILINE)[1]
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+[\w.-]*", base)
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["10001:10001"]
    assert text.index("\nUSER ") > text.rindex("\nRUN ")
    assert "RAY_USAGE_STATS_ENABLED=0" in text
    assert "RAY_AUTH_MODE=token" in text
    assert "://" not in text
    assert not re.search(r"^(ARG|ENV).*(PIP_\w+=|TOKEN=|PASSWORD)", text, re.MULTILINE)
    assert text.count("--constraint") == text.count("pip install") - 1 == 2  # all that comes from an index


def test_both_images_are_one_but_for_their_base():
    processors, graphics = (path.read_text().partition("\n# What pip is to install")[2] for path in DOCKERFILES)
    assert processors == graphics != ""


def test_an_image_is_given_all_that_the_wheel_is_made_of():
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["only-include"], project["project"]["readme"], "LICENSE", "pyproject.toml"}
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert {line[1:] for line in lines if line.startswith("!")} == needed | {"constraints.txt"}


@pytest.mark.parametrize("name", sorted(services()))
def test_a_service_is_locked_unprivileged_bounded_and_unpublished(name):
    service = services()[name]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", service["user"])
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"ports", "privileged", "network_mode", "cap_add", "pid"} & set(service)
    assert service["environment"].items() >= {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}.items()
    (secret,) = service["secrets"]
    assert service["environment"]["RAY_AUTH_TOKEN_PATH"] == f"/run/secrets/{secret['target']}"
    assert (secret["uid"], secret["mode"]) == (service["user"].partition(":")[0], 0o400)
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}


def test_compose_asks_for_the_token_and_keeps_the_cluster_to_itself():
    written = yaml.safe_load(COMPOSE.read_text())
    assert re.match(r"\$\{RAY_AUTH_TOKEN:\?.+\}$", written["x-token"])
    assert written["secrets"] == {"ray_token": {"environment": "RAY_AUTH_TOKEN"}}
    assert written["networks"] == {"cluster": {"internal": True}}
    assert all(service["networks"] == ["cluster"] for service in written["services"].values())


def test_manifests_keep_to_the_fields_that_kuberay_has():
    schema = yaml.safe_load((ROOT / "tests" / "kuberay_schema.yaml").read_text())
    found = list(resources())
    assert sorted(resource["kind"] for resource in found) == ["RayCluster", "RayJob"]
    for resource in found:
        jsonschema.validate(resource, schema, jsonschema.Draft202012Validator)


@pytest.mark.skipif(not SCHEMAS, reason="DSGD_SCHEMAS names no folder")
def test_manifests_pass_kuberays_own_definitions():
    for resource in resources():
        path = Path(str(SCHEMAS)) / f"ray.io_{resource['kind'].lower()}s.yaml"
        versions = yaml.load(path.read_text(), yaml.CSafeLoader)["spec"]["versions"]
        (schema,) = (found["schema"]["openAPIV3Schema"] for found in versions if found["name"] == "v1")
        jsonschema.validate(resource, closed(schema), jsonschema.Draft4Validator)


@pytest.mark.skipif(not SCHEMAS, reason="DSGD_SCHEMAS names no folder")
def test_compose_passes_its_specification():
    schema = yaml.safe_load((Path(str(SCHEMAS)) / "compose-spec.json").read_text())
    jsonschema.validate(yaml.safe_load(COMPOSE.read_text()), schema, jsonschema.Draft202012Validator)


def closed(schema: Any) -> Any:
    """The schema, refusing the fields that it does not name: Kubernetes would drop them without a word."""
    if isinstance(schema, list):
        return [closed(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    names = schema.get("type") == "object" and "properties" in schema
    return {"additionalProperties": False, **inner} if names else inner


@pytest.mark.parametrize("container", containers(), ids=lambda container: container["name"])
def test_a_container_takes_the_token_from_the_secret_and_reports_to_nobody(container):
    given = {entry["name"]: entry.get("value") or entry["valueFrom"]["secretKeyRef"] for entry in container["env"]}
    (cluster,) = (found for found in resources() if found["kind"] == "RayCluster")
    secret = {"name": cluster["spec"]["authOptions"]["secretName"], "key": "auth_token"}
    assert given == {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secret, "RAY_USAGE_STATS_ENABLED": "0"}


def test_the_job_runs_on_the_cluster_and_leaves_its_results_on_the_volume():
    cluster, job = (next(r for r in resources() if r["kind"] == kind) for kind in ("RayCluster", "RayJob"))
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    (claim,) = (found for found in yaml.safe_load_all(MANIFESTS[0].read_text()) if found["apiVersion"] == "v1")
    head = cluster["spec"]["headGroupSpec"]["template"]["spec"]
    assert head["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[words.index("--out") + 1].startswith(head["containers"][0]["volumeMounts"][0]["mountPath"] + "/")


def test_images_and_versions_are_this_ones():
    tag = f"dsgd:{dsgd.__version__}"
    assert {container["image"] for container in containers()} == {tag}
    assert {service["image"] for service in services().values()} == {tag}
    assert all(tag in path.read_text() for path in (*DOCKERFILES, DOCKER / "README.md"))
    assert {found["spec"]["rayVersion"] for found in resources() if found["kind"] == "RayCluster"} == {pinned("ray")}


@pytest.mark.parametrize("words", commands("dsgd"), ids=" ".join)
def test_the_commands_of_dsgd_are_there(words):
    group = get_command(app)
    context = group.make_context("dsgd", list(words))
    name, command, rest = group.resolve_command(context, words)
    given = command.make_context(name, list(rest), parent=context).params
    arguments = given.get("arguments") or given.get("words") or []
    if name == "study":
        assert given["preset"] in find_study(given["name"]).presets
    load(None, ["task=digits", *(word for word in arguments if "=" in word)])


@pytest.mark.parametrize("words", commands("ray"), ids=" ".join)
def test_the_commands_of_ray_are_there(words):
    from ray.scripts.scripts import cli

    name, *options = words
    cli.commands[name].make_context(name, options)


def test_starting_parameters_are_options_of_ray_start():
    from ray.scripts.scripts import cli

    (spec,) = (found["spec"] for found in resources() if found["kind"] == "RayCluster")
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        given = [f"--{key}={value}" for key, value in group["rayStartParams"].items()]
        cli.commands["start"].make_context("start", given)


def test_every_kind_of_command_was_found():
    assert {words[0] for words in commands("dsgd")} == {"study", "run", "doctor", "topology"}
    assert {words[0] for words in commands("ray")} == {"start", "health-check"}

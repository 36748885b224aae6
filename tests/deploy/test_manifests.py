"""Compose file and Kubernetes manifests against the programs they start.

What these tests can't see: whether images come up, and whether a cluster
admits the manifests.
"""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import compose_spec
import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement

from serving.gateway.config import GatewayConfig, parse_args
from serving.gateway.server import AFTER_GRACE_SECONDS
from serving.limits import Limits
from serving.rpc.call_server import MAX_UNREAD
from serving.tf_serving_command import tf_serving_command, tf_serving_config
from tests.test_dependency_rule import DISTRIBUTIONS, ROOT, imports, modules

DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
COMPOSE = DEPLOY / "docker-compose.yml"
SECURE = DEPLOY / "docker-compose.secure.yml"
# Of the last three minor versions, the oldest.
KUBERNETES_VERSION = "1.35"
ENVIRONMENT = {
    "MODELS": "/pushed",
    "SECRETS": "/secrets",
    "STORE_PASSWORD": "secret",
}


def interpolated(text: str) -> str:
    """Fills in ${NAME}, ${NAME:-default}, ${NAME:?words} and $(NAME)."""

    def value(match: "re.Match[str]") -> str:
        name, default = match["name"], match["default"]
        return ENVIRONMENT.get(name, default or "")

    return re.sub(
        r"\$[{(](?P<name>\w+)(:-(?P<default>[^}]*)|:\?[^}]*)?[})]", value, text
    )


def compose(*paths: Path) -> dict[str, Any]:
    """Reads compose files, later ones on top, as far as ours need it."""
    merged: dict[str, Any] = {"services": {}}
    for path in paths:
        content = yaml.safe_load(interpolated(path.read_text()))
        for name, service in content.pop("services").items():
            before = merged["services"].setdefault(name, {})
            volumes = before.get("volumes", []) + service.get("volumes", [])
            before.update(service, volumes=volumes)
        merged.update(content)
    return merged


def documents() -> list[dict[str, Any]]:
    names = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    return [
        document
        for name in names["resources"]
        for document in yaml.safe_load_all((KUBERNETES / name).read_text())
    ]


def named(kind: str, name: str) -> dict[str, Any]:
    (found,) = (
        document
        for document in documents()
        if (document["kind"], document["metadata"]["name"]) == (kind, name)
    )
    return found


def pod(kind: str, name: str) -> dict[str, Any]:
    spec: dict[str, Any] = named(kind, name)["spec"]["template"]["spec"]
    return spec


def container(kind: str, name: str) -> dict[str, Any]:
    (only,) = pod(kind, name)["containers"]
    return only


GATEWAY_ARGUMENTS = {
    "compose": compose(COMPOSE)["services"]["gateway"]["command"],
    "secure": compose(COMPOSE, SECURE)["services"]["gateway"]["command"],
    "kubernetes": container("Deployment", "gateway")["args"],
}
MODEL_SERVER_ARGUMENTS = {
    "compose": compose(COMPOSE)["services"]["model-server"]["command"],
    "kubernetes": container("Deployment", "model-server")["args"],
}


@pytest.fixture(params=GATEWAY_ARGUMENTS)
def gateway(request) -> GatewayConfig:
    """What the gateway makes of the arguments of each."""
    arguments = GATEWAY_ARGUMENTS[request.param]
    return parse_args([interpolated(argument) for argument in arguments])


@pytest.mark.parametrize("paths", [(COMPOSE,), (COMPOSE, SECURE)])
def test_compose_file_is_one_by_the_specification(paths):
    parsed = compose_spec.PyCompose.from_yaml(yaml.safe_dump(compose(*paths)))
    parsed.validate_networks()
    parsed.validate_volumes()


def test_specification_refuses_a_key_it_does_not_have():
    content = compose(COMPOSE)
    content["services"]["gateway"]["stop_grace_perod"] = "1s"
    with pytest.raises(ValueError, match="stop_grace_perod"):
        compose_spec.PyCompose.from_yaml(yaml.safe_dump(content))


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(d, id=f"{d['kind']}-{d['metadata']['name']}")
        for d in documents()
    ],
)
def test_manifest_fits_the_schema_of_its_kind(document):
    kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)


@pytest.mark.skipif(not shutil.which("kubectl"), reason="needs kubectl")
def test_kustomize_builds_what_the_files_say():
    text = subprocess.check_output(["kubectl", "kustomize", str(KUBERNETES)])
    built = [
        (document["kind"], document["metadata"]["name"])
        for document in yaml.safe_load_all(text)
    ]
    for document in documents():
        assert (document["kind"], document["metadata"]["name"]) in built
    (config,) = (name for kind, name in built if kind == "ConfigMap")
    assert config.encode() in text


def test_gateway_finds_its_model_server_and_its_store(gateway):
    assert re.fullmatch(r"(dns:///)?model-server:8500", gateway.backend)
    assert "store:6379/0" in gateway.store.location
    assert "model-server" in compose(COMPOSE)["services"]
    assert named("Service", "model-server")["spec"]["ports"][0]["port"] == 8500
    assert named("Service", "store")["spec"]["ports"][0]["port"] == 6379


@pytest.mark.parametrize("arguments", MODEL_SERVER_ARGUMENTS.values())
def test_model_server_starts_as_our_own_launcher_starts_it(arguments):
    ours = tf_serving_command("tf", 8500, Path("c"), 1.0)
    here = dict(argument.split("=", 1) for argument in arguments)
    launched = dict(argument.split("=", 1) for argument in ours[1:])
    # How many cores a container may use is its own affair.
    own = {"--tensorflow_intra_op_parallelism", "--model_config_file"}
    own.add("--tensorflow_inter_op_parallelism")
    assert {k: v for k, v in here.items() if k not in own} == {
        k: v for k, v in launched.items() if k not in own
    }


def test_models_are_those_of_the_gateway(gateway):
    text = (KUBERNETES / "models.config").read_text()
    without_comments = re.sub(r"(?m)^#.*\n", "", text)
    assert without_comments == tf_serving_config(
        {name: Path(path) for name, path in gateway.models.items()}
    )


def test_gateway_listens_where_containers_and_probes_look():
    config = parse_args(
        [interpolated(a) for a in GATEWAY_ARGUMENTS["kubernetes"]]
    )
    here = container("Deployment", "gateway")
    ports = {port["name"]: port["containerPort"] for port in here["ports"]}
    assert ports == {
        "grpc": config.port,
        "health": config.health_port,
        "metrics": config.metrics_port,
    }
    assert here["readinessProbe"]["grpc"]["port"] == config.health_port
    for service in ("gateway", "gateway-pods"):
        (port,) = named("Service", service)["spec"]["ports"]
        assert (port["port"], port["targetPort"]) == (config.port, "grpc")
    scraped = named("Deployment", "gateway")["spec"]["template"]["metadata"]
    assert scraped["annotations"]["prometheus.io/port"] == str(
        config.metrics_port
    )
    assert config.host == "0.0.0.0"
    dockerfile = (DEPLOY / "gateway" / "Dockerfile").read_text()
    for port in ports.values():
        assert re.search(rf"EXPOSE .*\b{port}\b", dockerfile)


def test_compose_probes_and_publishes_where_the_gateway_listens():
    config = parse_args(GATEWAY_ARGUMENTS["compose"])
    service = compose(COMPOSE)["services"]["gateway"]
    assert (
        service["healthcheck"]["test"][-1] == f"localhost:{config.health_port}"
    )
    # Without TLS and tokens, to this machine only.
    assert service["ports"] == [
        f"127.0.0.1:{port}:{port}"
        for port in (config.port, config.metrics_port)
    ]


@pytest.mark.parametrize("name", ["secure", "kubernetes"])
def test_gateway_that_others_reach_asks_for_tls_and_tokens(name):
    arguments = [interpolated(a) for a in GATEWAY_ARGUMENTS[name]]
    security = parse_args(arguments).security
    assert security.tls is not None
    assert security.tokens is not None


def test_what_the_gateway_reads_is_mounted():
    config = parse_args(
        [interpolated(a) for a in GATEWAY_ARGUMENTS["kubernetes"]]
    )
    mounts = [
        Path(mount["mountPath"])
        for mount in container("Deployment", "gateway")["volumeMounts"]
    ]
    wanted = [
        *config.models.values(),
        config.security.tls.certificate,
        config.security.tls.key,
        config.security.tokens,
    ]
    for path in wanted:
        assert any(mount in path.parents for mount in mounts), path
    files = {"tls.crt", "tls.key"}
    assert {
        config.security.tls.certificate.name,
        config.security.tls.key.name,
    } == (files)


def test_pods_wait_for_what_has_begun():
    config = parse_args(
        [interpolated(a) for a in GATEWAY_ARGUMENTS["kubernetes"]]
    )
    here = container("Deployment", "gateway")
    slept = float(here["lifecycle"]["preStop"]["exec"]["command"][-1])
    grace = pod("Deployment", "gateway")["terminationGracePeriodSeconds"]
    assert grace > slept + config.grace_seconds + AFTER_GRACE_SECONDS
    composed = parse_args(GATEWAY_ARGUMENTS["compose"])
    stop = compose(COMPOSE)["services"]["gateway"]["stop_grace_period"]
    longest = composed.grace_seconds + AFTER_GRACE_SECONDS
    assert float(stop.removesuffix("s")) > longest


def test_requests_of_strangers_fit_into_the_gateways_memory():
    """All that may be on their way, beside the gateway itself."""
    here = container("Deployment", "gateway")["resources"]
    itself = mebibytes(here["requests"]["memory"])
    arriving = MAX_UNREAD * Limits().message_bytes >> 20
    assert mebibytes(here["limits"]["memory"]) >= itself + arriving


def mebibytes(quantity: str) -> int:
    number, unit = quantity[:-2], quantity[-2:]
    return int(number) * {"Mi": 1, "Gi": 1024}[unit]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Deployment", "gateway"),
        ("Deployment", "model-server"),
        ("StatefulSet", "store"),
    ],
)
def test_pods_may_do_nothing_that_they_need_not(kind, name):
    spec, only = pod(kind, name), container(kind, name)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in only["resources"]["limits"]


def test_only_gateways_reach_model_server_and_store():
    for name, port in (("model-server", 8500), ("store", 6379)):
        spec = named("NetworkPolicy", name)["spec"]
        (rule,) = spec["ingress"]
        (source,) = rule["from"]
        assert source["podSelector"]["matchLabels"] == {
            "app.kubernetes.io/name": "gateway"
        }
        assert rule["ports"] == [{"port": port}]
    networks = compose(COMPOSE)["networks"]
    assert networks["backend"] == {"internal": True}


def test_store_syncs_each_write_and_evicts_nothing():
    for arguments in (
        compose(COMPOSE)["services"]["store"]["command"][1:],
        container("StatefulSet", "store")["args"],
    ):
        pairs = dict(zip(arguments[::2], arguments[1::2], strict=True))
        assert pairs["--appendonly"] == "yes"
        assert pairs["--appendfsync"] == "always"
        assert pairs["--maxmemory-policy"] == "noeviction"


def test_secrets_and_commands_of_the_guide_are_those_of_the_manifests():
    guide = (ROOT / "docs" / "deploy.md").read_text()
    secrets = {
        volume["secret"]["secretName"]
        for volume in pod("Deployment", "gateway")["volumes"]
        if "secret" in volume
    } | {"store"}
    for secret in secrets:
        assert re.search(rf"create secret \w+ {secret}\b", guide), secret
    for path in (COMPOSE, SECURE, KUBERNETES):
        assert str(path.relative_to(ROOT)) in guide


def requirements() -> dict[str, Requirement]:
    lines = (DEPLOY / "gateway" / "requirements.in").read_text().splitlines()
    parsed = [Requirement(line) for line in lines if not line.startswith("#")]
    return {requirement.name: requirement for requirement in parsed}


def test_image_has_what_the_gateway_imports_and_nothing_else():
    # Asked for by name only.
    optional = {"opentelemetry-api", "opentelemetry-sdk"}
    needed = {"hiredis"}
    stdlib = __import__("sys").stdlib_module_names
    for module, path in modules():
        if not module.startswith("serving") or ".model_server" in module:
            continue
        for name in imports(path.read_text(), module, path.stem == "__init__"):
            top = name.split(".")[0]
            if top in stdlib or top in ("serving", "__future__"):
                continue
            if top == "google":
                top = ".".join(name.split(".")[:2])
            if top == "opentelemetry":
                continue
            needed.add(DISTRIBUTIONS.get(top, top.replace("_", "-")))
    assert needed - optional == requirements().keys()


def test_lock_pins_every_requirement_of_the_image_by_hash():
    text = (DEPLOY / "gateway" / "requirements.lock").read_text()
    assert "://" not in text
    pins = dict(re.findall(r"^([a-z0-9.-]+)==([^ ]+)", text, re.MULTILINE))
    for name, requirement in requirements().items():
        assert requirement.specifier.contains(pins[name]), name
    pinned = re.split(r"\n(?=[a-z0-9])", text.split("\n", 2)[2])
    assert all("--hash=sha256:" in pin for pin in pinned)


def test_dockerfile_copies_what_is_there_and_starts_the_gateway():
    text = (DEPLOY / "gateway" / "Dockerfile").read_text()
    for line in re.findall(r"(?m)^COPY (?!--from)(.*)$", text):
        source = shlex.split(line)[0]
        assert (ROOT / source).exists()
        ignored = (DEPLOY / "gateway" / "Dockerfile.dockerignore").read_text()
        assert f"!{source}" in ignored.splitlines()
    assert 'ENTRYPOINT ["python", "-m", "serving.gateway"]' in text
    assert "USER 65532" in text

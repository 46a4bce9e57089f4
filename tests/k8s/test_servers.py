"""The servers: ports, probes, shutdown, store and where they run."""

import yaml
from manifests import K8S, Resource, mount_of, named, serve_config, server

from progan_service.commands.parser import parser


def test_the_server_listens_where_everybody_looks() -> None:
    config = serve_config()
    assert config.host == "0.0.0.0"  # the default, 127.0.0.1, is out of reach of probes and clients
    assert (config.port, config.http_port) == (8500, 8501)
    assert server()["ports"] == [
        {"name": "grpc", "containerPort": config.port},
        {"name": "http", "containerPort": config.http_port},
    ]
    service = named("base", "Service", "progan")["spec"]
    assert service["clusterIP"] == "None"  # headless: clients balance over the pods themselves
    assert service["ports"] == [
        {"name": "grpc", "port": config.port, "targetPort": "grpc"},
        {"name": "http", "port": config.http_port, "targetPort": "http"},
    ]
    [ingress] = named("base", "NetworkPolicy", "progan-server")["spec"]["ingress"]
    assert [rule["port"] for rule in ingress["ports"]] == [config.port, config.http_port]


def test_probes_ask_the_port_that_answers_whatever_happens_to_the_other() -> None:
    probes = {probe: server()[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")}
    assert probes["startup"] == probes["liveness"] == {"path": "/livez", "port": "http"}
    assert probes["readiness"] == {"path": "/readyz", "port": "http"}


def test_probes_use_https_where_the_server_has_tls() -> None:
    component = yaml.safe_load((K8S / "components/tls/kustomization.yaml").read_text())
    added = {patch["path"]: patch["value"] for patch in yaml.safe_load(component["patches"][1]["patch"])}
    for probe in ("startup", "liveness", "readiness"):
        assert added[f"/spec/template/spec/containers/0/{probe}Probe/httpGet/scheme"] == "HTTPS"


def test_a_slow_start_has_five_minutes_and_a_slow_answer_three_seconds() -> None:
    startup = server()["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] == 300
    assert [server()[f"{probe}Probe"]["timeoutSeconds"] for probe in ("startup", "liveness", "readiness")] == [3, 3, 3]


def test_no_service_of_the_cluster_sets_a_setting_of_the_server() -> None:
    """Kubernetes would tell pods of a Service `progan` with PROGAN_PORT=tcp://..., which is the variable of --port."""
    assert named("base", "Deployment", "progan")["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_a_server_is_not_killed_while_it_drains() -> None:
    config = serve_config()
    pod = named("base", "Deployment", "progan")["spec"]["template"]["spec"]
    assert (config.lame_duck_s, config.drain_s) == (5, 20)
    assert pod["terminationGracePeriodSeconds"] > config.lame_duck_s + config.drain_s


def test_servers_read_the_store_that_the_export_writes() -> None:
    train = named("train", "Job", "progan-train")["spec"]["template"]["spec"]
    serve = named("base", "Deployment", "progan")["spec"]["template"]["spec"]
    [export] = train["containers"]
    published = mount_of(export, str(parser().parse_args(export["args"]).store))
    loaded = mount_of(server(), str(serve_config().store))

    def claim(pod: Resource, mount: Resource) -> str:
        [volume] = [volume for volume in pod["volumes"] if volume["name"] == mount["name"]]
        return str(volume["persistentVolumeClaim"]["claimName"])

    assert claim(train, published) == claim(serve, loaded) == "progan-models"
    assert "readOnly" not in published
    assert loaded["readOnly"] is True
    assert named("base", "PersistentVolumeClaim", "progan-models")["spec"]["accessModes"] == ["ReadWriteMany"]


def test_a_client_that_asks_dns_every_30_s_knows_a_new_server_before_an_old_one_goes() -> None:
    assert named("base", "Deployment", "progan")["spec"]["minReadySeconds"] == 30


def test_servers_are_on_different_machines_and_in_different_zones() -> None:
    deployment = named("base", "Deployment", "progan")["spec"]
    spread = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    assert [one["labelSelector"] for one in spread] == [deployment["selector"]] * 2
    assert {one["whenUnsatisfiable"] for one in spread} == {"ScheduleAnyway"}

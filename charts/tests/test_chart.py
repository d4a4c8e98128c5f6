"""What the chart makes of values: one picture of each object that matters."""

import base64
import json
import re

from chart import CHART
from parts import component, configuration, gateway, pod, pods

WORKLOADS = ("Deployment", "StatefulSet")
SELECTING = (*WORKLOADS, "Service", "PodDisruptionBudget", "PodMonitor", "NetworkPolicy")

def test_pods_are_restricted_and_hold_no_token(render, ci):
    for pod_name, _, spec in pods(render(ci)):
        assert spec["automountServiceAccountToken"] is False, pod_name
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            assert "command" not in container or "/bin/sh" not in container["command"]
    assert gateway(render(ci)) and pod(render("minimal"))[1]["securityContext"]["runAsUser"] == 65532


def test_no_name_is_there_twice(render, ci):
    for pod_name, _, spec in pods(render(ci)):
        containers = spec.get("initContainers", []) + spec["containers"]
        assert once(containers, "name") and once(spec.get("volumes", []), "name"), pod_name
        assert once([port for each in containers for port in each.get("ports", [])], "containerPort"), pod_name
        for each in containers:
            assert once(each.get("env", []), "name") and once(each.get("ports", []), "name"), pod_name
            assert once(each.get("volumeMounts", []), "mountPath"), pod_name


def once(parts, key):
    values = [part[key] for part in parts]
    return len(values) == len(set(values))


def test_what_objects_name_is_there(render, ci):
    objects, given = render(ci), (CHART / "ci" / f"{ci}-values.yaml").read_text()
    names = {(each["kind"], each["metadata"]["name"]) for each in objects.objects}
    for pod_name, metadata, spec in pods(objects):
        for kind, wanted in references(spec):
            assert (kind, wanted) in names or re.search(rf"\b{re.escape(wanted)}\b", given), (pod_name, kind, wanted)
        mounted = {volume["name"] for volume in spec.get("volumes", [])}
        templates = next((each["spec"].get("volumeClaimTemplates", []) for each in objects.objects
                          if each["kind"] in WORKLOADS and each["metadata"]["name"] == pod_name), [])
        mounted |= {template["metadata"]["name"] for template in templates}
        for container in spec["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= mounted
    for each in objects.all("StatefulSet"):
        assert ("Service", each["spec"]["serviceName"]) in names
    for each in objects.all("HorizontalPodAutoscaler") + objects.all("ScaledObject"):
        target = each["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) in names


def references(spec):
    """Kind and name of everything that a pod needs to start."""
    if spec["serviceAccountName"] if "serviceAccountName" in spec else None:
        yield "ServiceAccount", spec["serviceAccountName"]
    for volume in spec.get("volumes", []):
        for source in [volume, *volume.get("projected", {}).get("sources", [])]:
            if "configMap" in source:
                yield "ConfigMap", source["configMap"]["name"]
            if "secret" in source:
                yield "Secret", source["secret"].get("secretName") or source["secret"]["name"]
    for container in spec["containers"]:
        for variable in container.get("env", []):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield "Secret", reference["name"]


def test_selectors_find_their_pods_and_never_change(render, ci):
    objects = render(ci)
    labels = [metadata.get("labels", {}) for _, metadata, _ in pods(objects)]
    containers = [each for _, _, spec in pods(objects) for each in spec["containers"]]
    ports = {port["name"] for each in containers for port in each.get("ports", [])}
    for each in objects.objects:
        spec = each.get("spec", {})
        if each["kind"] not in SELECTING:
            continue
        selector = spec["podSelector" if each["kind"] == "NetworkPolicy" else "selector"]
        wanted = selector.get("matchLabels", selector)
        assert set(wanted) == {f"app.kubernetes.io/{part}" for part in ("name", "instance", "component")}, each
        assert any(wanted.items() <= pod_labels.items() for pod_labels in labels), each
        if each["kind"] == "Service":
            assert {port["targetPort"] for port in spec["ports"]} <= ports


def test_generated_secrets_are_nowhere_else(render):
    objects = render(None)
    secrets = objects.all("Secret")
    assert {each["metadata"]["name"] for each in secrets} == {"fanfare-auth", "fanfare-nats", "fanfare-valkey"}
    others = json.dumps([each for each in objects.objects if each["kind"] != "Secret"])
    for each in secrets:
        for key, value in each["data"].items():
            assert value not in others and decoded(value) not in others, key
    assert len(decoded(objects.one("Secret", "fanfare-auth")["data"]["jwt-secret"])) >= 32


def decoded(value):
    return base64.b64decode(value).decode()


def test_given_secrets_are_not_made(render):
    assert render("ha").all("Secret") == []
    assert render("external").all("Secret") == []


def test_drain_and_rollout_go_together(render):
    for name, grace, ready, pause in (("minimal", 120, 30, 10), ("keda", 300, 90, 15)):
        objects = render(name)
        deployment, (_, spec) = objects.one("Deployment", "fanfare"), pod(objects)
        assert spec["terminationGracePeriodSeconds"] == grace
        assert deployment["spec"]["minReadySeconds"] == ready
        assert deployment["spec"]["progressDeadlineSeconds"] > ready
        assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        assert gateway(objects)["lifecycle"] == {"preStop": {"sleep": {"seconds": pause}}}
    assert 'duration = "180s"' in configuration(render("keda"))
    assert "max_rate = 500" in configuration(render("keda"))


def test_the_grace_period_follows_the_drain(render):
    manifests = render("minimal", "drain.durationSeconds=200", "drain.delaySeconds=7")
    _, spec = pod(manifests)
    assert spec["terminationGracePeriodSeconds"] == 10 + 7 + 200 + 30 + 20
    assert manifests.one("Deployment", "fanfare")["spec"]["minReadySeconds"] == 100


def test_probes_ask_the_admin_port(render):
    container = gateway(render("minimal"))
    paths = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert paths["liveness"] == paths["startup"] == {"path": "/healthz", "port": "admin"}
    assert paths["readiness"] == {"path": "/readyz", "port": "admin"}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 8080, "admin": 9090, "internal": 7400}


def test_a_full_disk_does_not_restart_valkey(render):
    """Then, PING is answered with an error, which is one to valkey-cli with -e alone."""
    _, spec = pod(render("ha"), "fanfare-valkey")
    [container] = spec["containers"]
    commands = {kind: container[f"{kind}Probe"]["exec"]["command"] for kind in ("startup", "liveness", "readiness")}
    assert commands["startup"] == ["valkey-cli", "-e", "ping"]
    assert commands["liveness"] == commands["readiness"] == ["valkey-cli", "ping"]


def test_autoscalers_decide_on_replicas(render):
    assert render("minimal").one("Deployment", "fanfare")["spec"]["replicas"] == 1
    for name in ("ha", "keda"):
        assert "replicas" not in render(name).one("Deployment", "fanfare")["spec"]


def test_hpa_goes_by_connections_and_cpu(render):
    spec = render("ha").one("HorizontalPodAutoscaler", "fanfare")["spec"]
    pods_metric, cpu = spec["metrics"]
    assert pods_metric["pods"] == {"metric": {"name": "fanfare_connections"},
                                   "target": {"type": "AverageValue", "averageValue": "20000"}}
    assert cpu["resource"]["target"]["averageUtilization"] == 70
    assert spec["behavior"]["scaleDown"] == {
        "stabilizationWindowSeconds": 1800, "selectPolicy": "Min",
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 300}]}
    assert spec["behavior"]["scaleUp"]["stabilizationWindowSeconds"] == 0


def test_keda_goes_by_what_does_not_drain(render):
    objects = render("keda")
    assert objects.all("HorizontalPodAutoscaler") == []
    spec = objects.one("ScaledObject", "fanfare")["spec"]
    prometheus, cpu = spec["triggers"]
    assert prometheus["metadata"]["threshold"] == "50000" and "fanfare_draining" in prometheus["metadata"]["query"]
    assert prometheus["metadata"]["ignoreNullValues"] == "false"
    assert prometheus["authenticationRef"] == {"name": "prometheus"} and cpu["metadata"] == {"value": "70"}
    assert spec["fallback"]["replicas"] == 6
    assert "scaleDown" in spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]


def test_pods_are_spread_by_revision(render):
    constraints = pod(render("ha"))[1]["topologySpreadConstraints"]
    assert {each["topologyKey"]: each["whenUnsatisfiable"] for each in constraints} == {
        "topology.kubernetes.io/zone": "DoNotSchedule", "kubernetes.io/hostname": "ScheduleAnyway"}
    assert all(each["matchLabelKeys"] == ["pod-template-hash"] for each in constraints)


def test_disruption_budgets_let_broken_pods_go(render):
    budgets = render("ha").all("PodDisruptionBudget")
    assert {each["metadata"]["name"] for each in budgets} == {"fanfare", "fanfare-nats"}
    assert all(each["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" for each in budgets)


def checksum(objects):
    return pod(objects)[0]["annotations"].get("checksum/config")


def test_gateways_look_at_their_files(render):
    assert 'watch = "5s"' in configuration(render("ha"))
    assert 'watch = "0s"' in configuration(render("ha", "config.reload.watch=0s"))


def test_pods_change_with_their_configuration_alone(render):
    first = checksum(render("ha"))
    assert first != checksum(render("ha", "config.limits.in_flight=99"))
    assert first != checksum(render("ha", "profiles.files.other=text"))
    assert first != checksum(render("ha", "drain.maxRate=900"))
    assert first == checksum(render("ha", "service.port=81"))
    assert checksum(render("ha", "rollOnConfigChange=false")) is None


def test_pod_labels_hold_no_version(render):
    for name, metadata, _ in pods(render("monitoring")):
        if name != "fanfare-test":
            assert not any("version" in label or "chart" in label for label in metadata["labels"])


def rules(policy, direction):
    return {str(port["port"]): rule for rule in policy["spec"][direction] for port in rule.get("ports", [])}


def test_network_policies_allow_what_is_needed(render):
    objects = render("restricted")
    policy = objects.one("NetworkPolicy", "push")
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    ingress, egress = rules(policy, "ingress"), rules(policy, "egress")
    prober, clients = ingress["http"]["from"]
    assert clients == {"namespaceSelector": {"matchLabels": {"role": "ingress"}}}
    assert prober["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "prober"
    assert [list(peer) for peer in ingress["admin"]["from"]] == [["podSelector"], ["namespaceSelector", "podSelector"]]
    assert ingress["internal"]["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"
    assert set(egress) == {"53", "7400", "4222", "6379"}
    nats = objects.one("NetworkPolicy", "push-nats")
    assert set(rules(nats, "ingress")) == {"client", "cluster", "monitor"}
    assert {"namespaceSelector": {"matchLabels": {"push": "publisher"}}} in rules(nats, "ingress")["client"]["from"]
    assert objects.one("NetworkPolicy", "push-valkey")["spec"]["egress"] == []
    assert set(rules(objects.one("NetworkPolicy", "push-prober"), "egress")) == {"53", "8080", "4222"}


def test_network_policies_know_the_ports_of_urls(render):
    policy = render("external").one("NetworkPolicy", "fanfare")
    assert set(rules(policy, "egress")) == {"53", "7400", "4222", "6380", "4318", "443"}
    assert {"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]} in policy["spec"]["egress"]
    several = render("external", "redis.url=redis-sentinel://a:26379?node=b:26380")
    assert {"26379", "26380", "6379"} <= set(rules(several.one("NetworkPolicy", "fanfare"), "egress"))
    assert render("external", "networkPolicy.enabled=false").all("NetworkPolicy") == []


def test_gateways_know_their_own_address(render):
    def advertised(name):
        variables = {each["name"]: each.get("value") for each in gateway(render(name))["env"]}
        return variables["FANFARE__HTTP__INTERNAL_ADVERTISE"]

    assert advertised("ha") == "$(POD_IP):7400"
    assert advertised("tls") == "[$(POD_IP)]:7400"
    internal = render("ha").one("Service", "fanfare-internal")["spec"]
    assert internal["clusterIP"] == "None" and internal["publishNotReadyAddresses"] is True


def test_every_image_comes_from_the_mirror(render):
    images = [each["image"] for _, _, spec in pods(render("restricted")) for each in spec["containers"]]
    assert len(images) == 4 and all(image.startswith("mirror.example.com/") for image in images)
    assert gateway(render("external"))["image"].startswith("registry.example.com/push/fanfare@sha256:")


def test_both_ways_in(render):
    ingress = render("external").one("Ingress", "fanfare")["spec"]
    assert [path["pathType"] for path in ingress["rules"][0]["http"]["paths"]] == ["Exact", "Prefix"]
    route = render("gateway-api").one("HTTPRoute", "fanfare")["spec"]
    assert route["rules"][0]["backendRefs"] == [{"name": "fanfare", "port": 80}]
    assert route["rules"][0]["timeouts"] == {"request": "0s"}
    untimed = render("gateway-api", "httpRoute.timeouts=null").one("HTTPRoute", "fanfare")["spec"]
    assert "timeouts" not in untimed["rules"][0]
    assert render("tls").one("Service", "fanfare")["spec"]["ports"][0]["appProtocol"] == "https"


def test_the_prober_may_reach_its_servers(render):
    def egress(*servers):
        sets = [f"prober.servers[{index}]={url}" for index, url in enumerate(servers)]
        return set(rules(render("ha", *sets).one("NetworkPolicy", "fanfare-prober"), "egress"))

    assert egress() == {"53", "8080", "4222"}
    assert egress("wss://push.example.com/live") == {"53", "8080", "4222", "443"}
    assert egress("ws://a.example.com/ws", "https://[2001:db8::1]/ws", "wss://c.example.com:8443/ws") == {
        "53", "8080", "4222", "80", "443", "8443"}


def test_one_monitor_finds_gateways_and_the_prober(render):
    objects = render("monitoring")
    monitors = {each["metadata"]["name"]: each for each in objects.all("PodMonitor")}
    assert set(monitors) == {f"fanfare{part}" for part in ("", "-prober", "-nats", "-valkey")}
    assert objects.all("ServiceMonitor") == []
    endpoint = monitors["fanfare"]["spec"]["podMetricsEndpoints"][0]
    assert endpoint["port"] == "admin"
    assert endpoint["relabelings"][0] == {"targetLabel": "job", "replacement": "fanfare"}
    services = render("monitoring", "monitoring.podMonitor.enabled=false", "monitoring.serviceMonitor.enabled=true")
    assert len(services.all("ServiceMonitor")) == 4 and services.one("Service", "fanfare-prober")


def test_the_test_publishes_and_receives(render):
    metadata, spec = pod(render("ha"), "fanfare-test")
    assert metadata["annotations"]["helm.sh/hook"] == "test"
    assert spec["containers"][0]["args"] == ["probe", "--server=ws://fanfare.fanfare.svc:80/ws", "--once"]
    assert spec["restartPolicy"] == "Never" and "command" not in spec["containers"][0]
    # It could not publish, and is left out.
    assert [name for name, _, _ in pods(render("minimal"))] == ["fanfare"]
    assert "--server=wss://push.example.com/live" in pod(render("tls"), "fanfare-test")[1]["containers"][0]["args"]


def test_extra_parts_are_in_place(render):
    objects = render("external")
    assert objects.one("ConfigMap", "fanfare-extra")["data"] == {"note": "made with fanfare"}
    assert {"name": "RUST_BACKTRACE", "value": "1"} in gateway(objects)["env"]
    assert {"name": "OTEL_RESOURCE_ATTRIBUTES", "value": "team=push"} in gateway(objects)["env"]
    assert all(each["metadata"]["labels"]["team"] == "push" for each in objects.objects if component(each))
    sets = ("extraContainers[0].name=side", "initContainers[0].name=first", "extraEnvFrom[0].secretRef.name=more",
            "podLabels.a=b", "podAnnotations.c=d", "schedulerName=own", "runtimeClassName=gvisor")
    metadata, spec = pod(render("minimal", *sets))
    assert [each["name"] for each in spec["containers"]] == ["fanfare", "side"]
    assert spec["initContainers"] == [{"name": "first"}]
    assert spec["containers"][0]["envFrom"] == [{"secretRef": {"name": "more"}}]
    assert metadata["labels"]["a"] == "b" and metadata["annotations"]["c"] == "d"
    assert spec["schedulerName"] == "own" and spec["runtimeClassName"] == "gvisor"


def test_names_can_be_chosen(render):
    objects = render("restricted")
    assert {each["metadata"]["namespace"] for each in objects.objects} == {"push-system"}
    assert all(each["metadata"]["name"].startswith("push") for each in objects.objects)
    assert pod(objects, "push")[1]["serviceAccountName"] == "push" and objects.all("ServiceAccount") == []
    assert gateway(objects)["volumeMounts"][-1] == {"name": "bundle", "mountPath": "/srv/bundle"}

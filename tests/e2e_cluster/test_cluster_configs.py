"""What the components of the local cluster are told: every path and address is the node's own."""

import base64
import json
import tomllib
from pathlib import Path

import pytest
import yaml

from localkube import certificates, components, configs, layout, network
from localkube.binaries import Binaries
from localkube.layout import Layout, Node

STATE = Path("/state")
PLACE = Layout(state=STATE, cache=Path("/cache"))
PROGRAMS = Binaries(kubernetes=Path("/k"), companions=Path("/c"))
NODES = [Node(1, STATE), Node(2, STATE)]


def test_a_kubeconfig_carries_everything_inside() -> None:
    config = yaml.safe_load(configs.kubeconfig(b"authority", b"certificate", b"key", server="https://10.0.0.1:6443"))

    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    assert config["current-context"] == config["contexts"][0]["name"]
    assert cluster["server"] == "https://10.0.0.1:6443"
    assert base64.b64decode(cluster["certificate-authority-data"]) == b"authority"
    assert base64.b64decode(user["client-key-data"]) == b"key"


@pytest.mark.parametrize("node", NODES)
def test_containerd_writes_below_the_nodes_folder_only(node: Node) -> None:
    config = tomllib.loads(configs.containerd(node))

    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    runc = cri["containerd"]["runtimes"]["runc"]["options"]
    written = [config["root"], config["state"], config["grpc"]["address"], runc["Root"], cri["cni"]["conf_dir"]]
    assert all(Path(path).is_relative_to(node.folder) for path in written)
    assert cri["restrict_oom_score_adj"] is True
    assert cri["netns_mounts_under_state_dir"] is True


def test_nodes_share_no_address_no_pods_and_no_cgroup() -> None:
    facts = [(n.name, n.namespace, n.cgroup, n.address, n.gateway, n.pods, str(n.folder)) for n in NODES]

    assert all(one != other for one, other in zip(*facts, strict=True))


@pytest.mark.parametrize("node", NODES)
def test_the_pod_network_is_the_nodes_own(node: Node) -> None:
    network_config = json.loads(configs.cni(node))

    bridge = network_config["plugins"][0]
    assert network_config["name"].startswith(f"{layout.PREFIX}-")
    assert bridge["ipam"]["ranges"] == [[{"subnet": node.pods}]]
    assert Path(bridge["ipam"]["dataDir"]).is_relative_to(node.volatile), "addresses are forgotten with the power"


@pytest.mark.parametrize("node", NODES)
def test_the_kubelet_keeps_to_its_cgroup_and_folders(node: Node) -> None:
    config = yaml.safe_load(configs.kubelet(node, "/pki"))

    assert (config["cgroupRoot"], config["address"]) == (node.cgroup, node.address)
    assert config["cpuCFSQuota"] is False, "a stand-in with a fiftieth of a core starts at once"
    assert config["tlsCertFile"] == f"/pki/{certificates.of_node(node).file}.crt"
    assert all(Path(config[key]).is_relative_to(node.folder) for key in ("podLogsDir", "volumePluginDir"))


@pytest.mark.parametrize(
    ("identity", "lines", "never"),
    [
        (
            certificates.of_node(NODES[1]),
            ["O = system:nodes", "CN = system:node:node2", "subjectAltName = DNS:node2, IP:10.77.2.1", "serverAuth"],
            [],
        ),
        (
            certificates.Identity("kube-proxy", user="system:kube-proxy"),
            ["CN = system:kube-proxy"],
            ["O =", "serverAuth"],
        ),
    ],
)
def test_a_certificate_stands_for_one_user(identity: certificates.Identity, lines: list[str], never: list[str]) -> None:
    config = certificates.request_config(identity)

    assert all(line in config for line in lines)
    assert not any(line in config for line in never)
    assert "CA:FALSE" in config


def test_every_kubeconfig_that_a_component_reads_has_a_certificate() -> None:
    commands = {**components.of_control_plane(PLACE, PROGRAMS), **components.of_node(PLACE, PROGRAMS, NODES[0])}
    words = [word for argv in commands.values() for word in argv]
    wanted = {Path(word.partition("=")[2]).stem for word in words if word.startswith("--kubeconfig=")}
    issued = {identity.file for identity in (*certificates.CONTROL_PLANE, certificates.of_node(NODES[0]))}

    assert wanted <= issued
    assert "coredns.kubeconfig" in configs.corefile(f"{PLACE.configs}/coredns.kubeconfig")


def test_the_api_server_starts_after_etcd_and_the_kubelet_after_containerd() -> None:
    assert list(components.of_control_plane(PLACE, PROGRAMS))[:2] == ["etcd", "kube-apiserver"]
    assert list(components.of_node(PLACE, PROGRAMS, NODES[1])) == [
        "containerd-node2",
        "kubelet-node2",
        "kube-proxy-node2",
    ]


def test_dns_is_reached_as_the_service_that_pods_are_told() -> None:
    kinds = {each["kind"]: each for each in configs.dns_objects()}

    assert kinds["Service"]["spec"]["clusterIP"] == configs_dns()
    assert kinds["EndpointSlice"]["endpoints"][0]["addresses"] == [layout.CONTROL_ADDRESS]
    assert kinds["EndpointSlice"]["metadata"]["labels"]["kubernetes.io/service-name"] == "kube-dns"


def configs_dns() -> str:
    return str(yaml.safe_load(configs.kubelet(NODES[0], "/pki"))["clusterDNS"][0])


@pytest.mark.parametrize(("gpus", "counted"), [(0, False), (8, True)])
def test_a_node_without_a_machine_takes_only_pods_meant_for_it(gpus: int, counted: bool) -> None:
    node = configs.fake_node("fake-1", gpus)

    assert node["spec"]["taints"][0]["effect"] == "NoSchedule"
    assert ("nvidia.com/gpu" in node["status"]["capacity"]) is counted


def test_gpus_are_added_to_capacity_and_to_what_can_be_allocated() -> None:
    patch = json.loads(configs.gpu_patch(4))

    assert [(step["path"], step["value"]) for step in patch] == [
        ("/status/capacity/nvidia.com~1gpu", "4"),
        ("/status/allocatable/nvidia.com~1gpu", "4"),
    ]


def test_the_second_node_hangs_on_the_first_and_has_no_other_way_out() -> None:
    commands = [(index, " ".join(words)) for index, words in network.addressing(NODES[1])]

    assert (1, "ip route replace 10.78.2.0/24 via 10.77.2.1") in commands
    assert (2, "ip route replace default via 10.77.2.254") in commands
    assert [command for index, command in commands if index == 1 and "default" in command] == []
    assert not any("default" in " ".join(words) for _, words in network.addressing(NODES[0]))

"""Render what each component reads: kubeconfigs, containerd, CNI, kubelet and DNS configuration."""

import base64
import json
from typing import Any

import yaml

from localkube import layout
from localkube.layout import Node


def kubeconfig(authority: bytes, certificate: bytes, key: bytes, server: str = layout.API_URL) -> str:
    """A kubeconfig with everything inside, so that it can be copied into a pod."""

    def encoded(content: bytes) -> str:
        return base64.b64encode(content).decode()

    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "shoal",
            "clusters": [
                {"name": "shoal", "cluster": {"server": server, "certificate-authority-data": encoded(authority)}}
            ],
            "users": [
                {
                    "name": "shoal",
                    "user": {"client-certificate-data": encoded(certificate), "client-key-data": encoded(key)},
                }
            ],
            "contexts": [{"name": "shoal", "context": {"cluster": "shoal", "user": "shoal"}}],
        },
        sort_keys=False,
    )


def containerd(node: Node) -> str:
    """containerd with its own root, state and sockets; where it or runc would write elsewhere, they are told not to."""
    return f"""version = 2
root = "{node.folder}/containerd"
state = "{node.volatile}/containerd"
oom_score = 0
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = "{node.containerd_socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{node.folder}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{layout.PAUSE_IMAGE}"
  # root without CAP_SYS_RESOURCE cannot lower a score: every sandbox would fail
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{node.folder}/cni"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
      Root = "{node.volatile}/runc"
"""


def cni_network(node: Node) -> str:
    """The name of the node's pod network, also in what CNI remembers about it."""
    return node.namespace


def cni(node: Node) -> str:
    """A bridge per node with addresses of the node's own range."""
    return json.dumps(
        {
            "cniVersion": "1.0.0",
            "name": cni_network(node),
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "pods0",
                    "isGateway": True,
                    "ipMasq": False,
                    "hairpinMode": True,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": node.pods}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                        "dataDir": f"{node.volatile}/addresses",
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        },
        indent=2,
    )


def kubelet(node: Node, pki: str) -> str:
    """A kubelet that takes a small shared machine as it is and keeps to the node's own folders and cgroup."""
    config: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{pki}/kubelet-{node.name}.crt",
        "tlsPrivateKeyFile": f"{pki}/kubelet-{node.name}.key",
        "containerRuntimeEndpoint": f"unix://{node.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.cgroup,
        "clusterDNS": [layout.DNS_SERVICE_ADDRESS],
        "clusterDomain": layout.DOMAIN,
        "resolvConf": "",
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "localStorageCapacityIsolation": False,
        # Limits of a fiftieth of a core let many stand-ins onto one node; held to them, Python takes 15 s to start.
        "cpuCFSQuota": False,
        "podLogsDir": f"{node.folder}/pod-logs",
        "volumePluginDir": f"{node.folder}/volume-plugins",
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
    }
    return yaml.safe_dump(config, sort_keys=False)


def corefile(kubeconfig_path: str) -> str:
    """Names of Services and pods; nothing is asked outside, since there is no way out."""
    return f""".:53 {{
    bind {layout.CONTROL_ADDRESS}
    errors
    ready {layout.CONTROL_ADDRESS}:8181
    kubernetes {layout.DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig_path}
        pods insecure
        ttl 2
    }}
    cache 2
}}
"""


def dns_objects() -> list[dict[str, Any]]:
    """What makes the DNS process reachable as the usual Service, and lets it read what it answers from."""
    labels = {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}
    ports = [("dns", "UDP"), ("dns-tcp", "TCP")]
    reads = [("", ["endpoints", "services", "pods", "namespaces"]), ("discovery.k8s.io", ["endpointslices"])]
    rbac = "rbac.authorization.k8s.io"
    return [
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "system:coredns"},
            "rules": [{"apiGroups": [group], "resources": kinds, "verbs": ["list", "watch"]} for group, kinds in reads],
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:coredns"},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "system:coredns"},
            "subjects": [{"apiGroup": rbac, "kind": "User", "name": "system:coredns"}],
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
            "spec": {
                "clusterIP": layout.DNS_SERVICE_ADDRESS,
                "ports": [{"name": name, "port": 53, "protocol": protocol} for name, protocol in ports],
            },
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns",
                "namespace": "kube-system",
                "labels": {**labels, "kubernetes.io/service-name": "kube-dns"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [layout.CONTROL_ADDRESS], "conditions": {"ready": True}}],
            "ports": [{"name": name, "port": 53, "protocol": protocol} for name, protocol in ports],
        },
    ]


def fake_node(name: str, gpus: int) -> dict[str, Any]:
    """A node without a machine that kwok keeps ready; tainted, so that only pods meant for it land there."""
    mark = "kwok.x-k8s.io/node"
    amounts = {"cpu": "64", "memory": "512Gi", "pods": "1000"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {mark: "fake"},
            "labels": {"type": "kwok", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
        },
        "spec": {"taints": [{"key": mark, "value": "fake", "effect": "NoSchedule"}]},
        "status": {"allocatable": amounts, "capacity": amounts},
    }


def gpu_patch(gpus: int) -> str:
    """Let the scheduler count GPUs: the kubelet keeps the capacity; allocatable saves waiting for its next look."""
    value = {"op": "add", "value": str(gpus)}
    parts = ("capacity", "allocatable")
    return json.dumps([{**value, "path": f"/status/{part}/nvidia.com~1gpu"} for part in parts])

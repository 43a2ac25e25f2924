"""The command line of each component; all of them run in the network namespace of a node."""

from localkube import layout
from localkube.binaries import Binaries
from localkube.layout import Layout, Node

ETCD_URL = "http://127.0.0.1:2379"


def of_control_plane(place: Layout, binaries: Binaries) -> dict[str, list[str]]:
    """What makes the control plane, in the order of starting."""
    pki, configs = place.pki, place.configs
    return {
        "etcd": [
            str(binaries.path("etcd")),
            "--name=shoal",
            f"--data-dir={place.state}/etcd",
            "--unsafe-no-fsync",
            f"--listen-client-urls={ETCD_URL}",
            f"--advertise-client-urls={ETCD_URL}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--log-level=warn",
        ],
        "kube-apiserver": [
            str(binaries.path("kube-apiserver")),
            f"--etcd-servers={ETCD_URL}",
            f"--advertise-address={layout.CONTROL_ADDRESS}",
            f"--bind-address={layout.CONTROL_ADDRESS}",
            f"--secure-port={layout.API_PORT}",
            f"--service-cluster-ip-range={layout.SERVICES}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged",
            "--endpoint-reconciler-type=master-count",
            "--kubelet-preferred-address-types=InternalIP",
            f"--client-ca-file={pki}/ca.crt",
            f"--kubelet-certificate-authority={pki}/ca.crt",
            f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
            f"--kubelet-client-key={pki}/apiserver-kubelet.key",
            f"--tls-cert-file={pki}/apiserver.crt",
            f"--tls-private-key-file={pki}/apiserver.key",
            f"--service-account-issuer=https://kubernetes.default.svc.{layout.DOMAIN}",
            f"--service-account-key-file={pki}/service-accounts.pub",
            f"--service-account-signing-key-file={pki}/service-accounts.key",
        ],
        "kube-controller-manager": [
            str(binaries.path("kube-controller-manager")),
            f"--kubeconfig={configs}/kube-controller-manager.kubeconfig",
            "--bind-address=127.0.0.1",
            "--use-service-account-credentials",
            f"--root-ca-file={pki}/ca.crt",
            f"--service-account-private-key-file={pki}/service-accounts.key",
            f"--cluster-signing-cert-file={pki}/ca.crt",
            f"--cluster-signing-key-file={pki}/ca.key",
            "--leader-elect=false",
        ],
        "kube-scheduler": [
            str(binaries.path("kube-scheduler")),
            f"--kubeconfig={configs}/kube-scheduler.kubeconfig",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
        ],
    }


def of_dns(place: Layout, binaries: Binaries) -> list[str]:
    """CoreDNS; it comes after its rights, for one that was refused once waits seconds before it asks again."""
    return [str(binaries.path("coredns")), "-conf", f"{place.configs}/Corefile"]


def of_node(place: Layout, binaries: Binaries, node: Node) -> dict[str, list[str]]:
    """What makes a node, in the order of starting; the kubelet comes after containerd answers, else it gives up."""
    configs = place.configs
    return {
        f"containerd-{node.name}": ["containerd", "--config", f"{configs}/containerd-{node.name}.toml"],
        f"kubelet-{node.name}": [
            str(binaries.path("kubelet")),
            f"--config={configs}/kubelet-{node.name}.yaml",
            f"--kubeconfig={configs}/kubelet-{node.name}.kubeconfig",
            f"--root-dir={node.kubelet_folder}",
            f"--cert-dir={node.kubelet_folder}/pki",
            f"--node-ip={node.address}",
            f"--hostname-override={node.name}",
        ],
        f"kube-proxy-{node.name}": [
            str(binaries.path("kube-proxy")),
            f"--kubeconfig={configs}/kube-proxy.kubeconfig",
            f"--hostname-override={node.name}",
            f"--cluster-cidr={layout.PODS}",
            "--proxy-mode=iptables",
            "--oom-score-adj=0",
            "--conntrack-max-per-core=0",
        ],
    }


def of_kwok(place: Layout, binaries: Binaries) -> list[str]:
    """kwok, acting only for nodes that say so."""
    return [
        str(binaries.path("kwok")),
        f"--kubeconfig={place.kubeconfig}",
        f"--config={binaries.kwok_stages}",
        "--manage-all-nodes=false",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        f"--cidr={layout.FAKE_PODS}",
        f"--node-ip={layout.CONTROL_ADDRESS}",
        "--node-lease-duration-seconds=40",
    ]

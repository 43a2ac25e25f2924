"""Who is who in the cluster: an authority of its own and a certificate for each component, made by openssl."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localkube.commands import run
from localkube.layout import API_SERVICE_ADDRESS, CONTROL_ADDRESS, DOMAIN, Node

DAYS = 30
AUTHORITY = "ca"


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate: the file it lies in, the user (and group) it stands for, the names it may serve under."""

    file: str
    user: str
    group: str = ""
    serves: tuple[str, ...] = ()


CONTROL_PLANE = (
    Identity(
        "apiserver",
        user="kube-apiserver",
        serves=(
            "DNS:kubernetes",
            "DNS:kubernetes.default",
            "DNS:kubernetes.default.svc",
            f"DNS:kubernetes.default.svc.{DOMAIN}",
            "DNS:localhost",
            f"IP:{CONTROL_ADDRESS}",
            f"IP:{API_SERVICE_ADDRESS}",
            "IP:127.0.0.1",
        ),
    ),
    Identity("apiserver-kubelet", user="kube-apiserver-kubelet", group="system:masters"),
    Identity("admin", user="admin", group="system:masters"),
    Identity("kube-controller-manager", user="system:kube-controller-manager"),
    Identity("kube-scheduler", user="system:kube-scheduler"),
    Identity("kube-proxy", user="system:kube-proxy"),
    Identity("coredns", user="system:coredns"),
)


def of_node(node: Node) -> Identity:
    """The identity that the Node authorizer expects of this node's kubelet."""
    names = (f"DNS:{node.name}", f"IP:{node.address}")
    return Identity(f"kubelet-{node.name}", user=f"system:node:{node.name}", group="system:nodes", serves=names)


def request_config(identity: Identity) -> str:
    """What openssl reads for this certificate."""
    group = [f"O = {identity.group}"] if identity.group else []
    names = [f"subjectAltName = {', '.join(identity.serves)}"] if identity.serves else []
    lines = [
        "[req]",
        "prompt = no",
        "distinguished_name = subject",
        "x509_extensions = extensions",
        "[subject]",
        *group,
        f"CN = {identity.user}",
        "[extensions]",
        "basicConstraints = critical, CA:FALSE",
        "keyUsage = critical, digitalSignature, keyEncipherment",
        f"extendedKeyUsage = clientAuth{', serverAuth' if identity.serves else ''}",
        *names,
    ]
    return "\n".join(lines) + "\n"


AUTHORITY_CONFIG = """[req]
prompt = no
distinguished_name = subject
x509_extensions = extensions
[subject]
CN = shoal-cluster
[extensions]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign, digitalSignature
subjectKeyIdentifier = hash
"""


def issue_all(folder: Path, identities: Sequence[Identity]) -> None:
    """Make the authority, the key of service account tokens and every certificate that is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if not (folder / f"{AUTHORITY}.crt").exists():
        _request(folder, AUTHORITY, AUTHORITY_CONFIG, signed_by=[])
    if not (folder / "service-accounts.key").exists():
        key = folder / "service-accounts.key"
        run(["openssl", "genrsa", "-out", key, "2048"], doing="making the key of service accounts")
        run(["openssl", "rsa", "-in", key, "-pubout", "-out", key.with_suffix(".pub")], doing="writing its public half")
    signed_by = ["-CA", str(folder / f"{AUTHORITY}.crt"), "-CAkey", str(folder / f"{AUTHORITY}.key")]
    for identity in identities:
        if not (folder / f"{identity.file}.crt").exists():
            _request(folder, identity.file, request_config(identity), signed_by)


def _request(folder: Path, file: str, config: str, signed_by: Sequence[str]) -> None:
    (folder / f"{file}.cnf").write_text(config)
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    out = ["-keyout", str(folder / f"{file}.key"), "-out", str(folder / f"{file}.crt")]
    run(
        ["openssl", "req", "-x509", "-config", folder / f"{file}.cnf", "-days", str(DAYS), *curve, *signed_by, *out],
        doing=f"making the certificate of {file}",
    )

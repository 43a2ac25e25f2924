"""The door to network namespaces: one per node, joined by cables to the first, with no way out of the machine."""

from pathlib import Path

from localkube import layout
from localkube.commands import run
from localkube.layout import Node
from localkube.processes import inside


def cable(node: Node) -> tuple[int, list[str]]:
    """The command that makes the node's interface, with the index of the node whose network it runs in."""
    if node.index == 1:
        # Both ends stay here: an interface that is up and bears the address is all that is needed.
        return 1, ["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0-end"]
    return 1, f"ip link add to-{node.name} type veth peer name eth0 netns {node.namespace}".split()


def addressing(node: Node) -> list[tuple[int, list[str]]]:
    """The commands that give the interface its addresses and routes; each may run again."""
    here, first = node.index, 1
    if node.index == 1:
        commands = [
            (here, "ip link set lo up"),
            (here, "ip link set eth0 up"),
            (here, "ip link set eth0-end up"),
            (here, f"ip address replace {node.address}/24 dev eth0"),
            # Services need a route before their address is translated; all else is unreachable at once.
            (here, f"ip route replace {layout.SERVICES} dev eth0 src {node.address}"),
        ]
    else:
        commands = [
            (first, f"ip address replace {node.gateway}/24 dev to-{node.name}"),
            (first, f"ip link set to-{node.name} up"),
            (here, "ip link set lo up"),
            (here, f"ip address replace {node.address}/24 dev eth0"),
            (here, "ip link set eth0 up"),
            (here, f"ip route replace default via {node.gateway}"),
            (first, f"ip route replace {node.pods} via {node.address}"),
        ]
    return [(index, command.split()) for index, command in [*commands, (here, "sysctl -qw net.ipv4.ip_forward=1")]]


def make(node: Node) -> None:
    """Make the node's namespace and cable it; what is there already stays."""
    doing = f"cabling {node.name}"
    first, interface = Node(1, node.state), cable(node)[1][3]
    if not node.netns.exists():
        run(["ip", "netns", "add", node.namespace], doing=doing)
        if node.index > 1 and _has_interface(first, interface):
            # The end of a cable whose other end is in a namespace that the kernel has not yet taken away.
            run(inside(first, ["ip", "link", "delete", interface]), doing=doing)
    for index, command in [*([] if _has_interface(first, interface) else [cable(node)]), *addressing(node)]:
        run(inside(Node(index, node.state), command), doing=doing)


def _has_interface(node: Node, name: str) -> bool:
    listing = run(inside(node, ["ip", "-o", "link", "show"]), doing=f"listing the interfaces of {node.name}")
    return any(line.split()[1].partition("@")[0].rstrip(":") == name for line in listing.splitlines())


def silence(node: Node) -> None:
    """Let nothing in or out of the node any more, as when its power is cut: no reset, no answer."""
    for chain, way in (("PREROUTING", "-i"), ("OUTPUT", "-o")):
        drop = ["iptables", "-w", "-t", "raw", "-I", chain, "!", way, "lo", "-j", "DROP"]
        run(inside(node, drop), doing=f"silencing {node.name}")


def namespaces(folder: Path = layout.NETNS_FOLDER) -> list[str]:
    """The network namespaces of this machine by name."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

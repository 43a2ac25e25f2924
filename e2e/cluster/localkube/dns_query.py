"""Ask a DNS server for the IPv4 addresses of a name, past the resolver of this machine: `dns_query.py NAME SERVER`."""

import secrets
import socket
import struct
import sys

ADDRESS, INTERNET = 1, 1


def question(name: str, number: int) -> bytes:
    """A query for the addresses of a name."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    return struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", ADDRESS, INTERNET)


def addresses(answer: bytes, number: int) -> list[str]:
    """The addresses in an answer to that query; none when the name is not known."""
    got, flags, questions, answers = struct.unpack(">4H", answer[:8])
    if got != number:
        raise ValueError("an answer to another question")
    if flags & 0x0F not in (0, 3):
        raise ValueError(f"the DNS server answers with code {flags & 0x0F}")
    position = 12
    for _ in range(questions):
        position = _after_name(answer, position) + 4
    found = []
    for _ in range(answers):
        position = _after_name(answer, position)
        kind, _, _, length = struct.unpack(">2HIH", answer[position : position + 10])
        position += 10
        if kind == ADDRESS:
            found.append(socket.inet_ntoa(answer[position : position + length]))
        position += length
    return sorted(found)


def _after_name(answer: bytes, position: int) -> int:
    while length := answer[position]:
        if length >= 0xC0:
            return position + 2
        position += length + 1
    return position + 1


def ask(name: str, server: str, timeout_seconds: float = 3) -> list[str]:
    """Send the query and read the answer."""
    number = secrets.randbelow(1 << 16)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
        sending.settimeout(timeout_seconds)
        sending.sendto(question(name, number), (server, 53))
        return addresses(sending.recv(4096), number)


if __name__ == "__main__":
    try:
        sys.stdout.write("\n".join(ask(sys.argv[1], sys.argv[2])) + "\n")
    except (OSError, ValueError) as failed:
        sys.exit(f"{sys.argv[1]}: {failed}")

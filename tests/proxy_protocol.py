"""Headers of the PROXY protocol, as its specification writes them (HAProxy, doc/proxy-protocol.txt)."""

from __future__ import annotations

import ipaddress
import struct

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
TCP4, TCP6 = 0x11, 0x21


def version_1(source: str, destination: str, source_port: int, destination_port: int) -> bytes:
    """A line of version 1."""
    family = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {family} {source} {destination} {source_port} {destination_port}\r\n".encode()


def version_2(command: int, family: int, block: bytes) -> bytes:
    """A header of version 2 with any block."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(block)) + block


def addresses(source: str, destination: str, source_port: int, destination_port: int) -> bytes:
    """The addresses of such a block."""
    packed = [ipaddress.ip_address(text).packed for text in (source, destination)]
    return b"".join(packed) + struct.pack("!HH", source_port, destination_port)


def vector(kind: int, value: bytes) -> bytes:
    """What may follow the addresses."""
    return struct.pack("!BH", kind, len(value)) + value

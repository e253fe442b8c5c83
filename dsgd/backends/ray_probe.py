"""Asks an address, in a millisecond and without a token, whether a Ray cluster is there and whether it wants one.

Ray's own client takes minutes to say that nothing answers, and says of a wrong token only that it failed to connect. So
one request of gRPC (HTTP/2, RFC 9113) is written by hand: who the cluster is, to which one with token authentication
answers with status 16, UNAUTHENTICATED, and an open one with status 0.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from typing import Literal

Answer = Literal["nothing", "no ray", "open", "locked"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, ACK, END_HEADERS = 1, 1, 4
STATUS = b"grpc-status"


def probe(host: str, port: int, seconds: float = 3.0) -> Answer:
    """What is at the address: nothing that listens, something that is no Ray, an open cluster, or one with a lock."""
    try:
        connection = socket.create_connection((host, port), seconds)
    except OSError:
        return "nothing"
    with connection:
        try:
            connection.sendall(PREFACE + _frame(SETTINGS, 0, 0, b"") + _question(f"{host}:{port}"))
            for kind, flags, payload in _frames(connection, time.monotonic() + seconds):
                if kind == SETTINGS and not flags & ACK:
                    connection.sendall(_frame(SETTINGS, ACK, 0, b""))
                if kind == HEADERS and flags & END_STREAM:
                    return _answer(payload)
        except OSError:
            return "no ray"
    return "no ray"


def _question(authority: str) -> bytes:
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/ray.rpc.NodeInfoGcsService/GetClusterId",
        ":authority": authority,
        "te": "trailers",
        "content-type": "application/grpc",
    }
    written = b"".join(_header(name.encode(), value.encode()) for name, value in headers.items())
    empty_message = bytes(5)
    return _frame(HEADERS, END_HEADERS, 1, written) + _frame(DATA, END_STREAM, 1, empty_message)


def _header(name: bytes, value: bytes) -> bytes:
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _frames(connection: socket.socket, until: float) -> Iterator[tuple[int, int, bytes]]:
    """Kind, flags and payload of each frame that arrives, until the connection is closed or the time is up."""
    received = b""
    while (left := until - time.monotonic()) > 0:
        connection.settimeout(left)
        more = connection.recv(65536)
        if not more:
            return
        received += more
        while len(received) >= 9 and len(received) >= 9 + (size := int.from_bytes(received[:3], "big")):
            yield received[3], received[4], received[9 : 9 + size]
            received = received[9 + size :]


def _answer(trailers: bytes) -> Answer:
    value = trailers.partition(STATUS)[2]  # its length, and as many bytes
    status = value[1 : 1 + value[0]] if value else b""
    return "locked" if status == b"16" else "open" if status == b"0" else "no ray"

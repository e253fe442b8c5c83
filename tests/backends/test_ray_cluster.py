"""Which Ray clusters are taken: their addresses, locks and tokens, and what is said where there is none."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsgd.backends import ray_cluster
from dsgd.backends.ray_actors import RayBackend
from dsgd.backends.ray_cluster import MODE, TOKEN, TOKEN_PATH, check_lock, keep_token_private
from dsgd.backends.ray_probe import probe
from dsgd.backends.supervision import BackendError
from tests.backends.fleets import Make
from topologies import Static, Topology


def test_ray_is_told_to_report_to_nobody(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray_cluster, "check_head", lambda: None)
    for address in ("local", "auto", "10.1.2.3:6379"):
        with ray_cluster.connected(address, insecure=False, cpus=1):
            assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert "RAY_USAGE_STATS_ENABLED" not in os.environ


@pytest.mark.parametrize("accepted", [True, False])
def test_an_open_cluster_is_accepted_on_the_command_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], accepted: bool
) -> None:
    """The flag reaches the backend, and the backend's connection."""
    from dsgd import cli
    from dsgd.backends import ray_actors

    def refused(address: str, insecure: bool, cpus: float) -> Any:
        raise BackendError(f"{address} insecure={insecure}")

    monkeypatch.setattr(ray_actors, "connected", refused)
    words = ["run", "task=digits", "steps=1", "backend=ray", "backend.address=10.1.2.3:6379"]
    words += ["--insecure-cluster"] * accepted
    assert cli.main([*words, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["backend"]["insecure_cluster"] is accepted
    assert cli.main([*words, "--out", str(home / "run")]) == 1
    assert f"10.1.2.3:6379 insecure={accepted}" in capsys.readouterr().err


class Server:
    """Listens on the loopback and answers each connection by what `reply` makes of its first bytes."""

    def __init__(self, reply: Callable[[bytes], bytes]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.reply = reply
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(self.reply(connection.recv(4096)))


def trailers(status: str) -> bytes:
    """An answer of gRPC with that status, as HTTP/2 frames."""
    return ended(b"\x00\x0bgrpc-status" + bytes([len(status)]) + status.encode())


def ended(payload: bytes) -> bytes:
    """An answer of HTTP/2 that ends with these trailers."""
    return (
        bytes(3)
        + b"\x04\x00"
        + bytes(4)
        + len(payload).to_bytes(3, "big")
        + b"\x01\x05"
        + bytes([0, 0, 0, 1])
        + payload
    )


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (lambda asked: b"HTTP/1.1 400 Bad Request\r\n\r\n", "no ray"),
        (lambda asked: b"", "no ray"),
        (lambda asked: trailers("0"), "open"),
        (lambda asked: trailers("16"), "locked"),
        (lambda asked: trailers("12"), "no ray"),
        (lambda asked: ended(b"\x00\x0bgrpc-status"), "no ray"),
        (lambda asked: ended(b"\x00\x0bgrpc-status\x02"), "no ray"),
        (lambda asked: ended(b""), "no ray"),
    ],
    ids=["http", "silence", "open", "locked", "other grpc", "no status", "cut status", "no trailers"],
)
def test_a_probe_tells_what_listens(reply: Callable[[bytes], bytes], answer: str) -> None:
    assert probe("127.0.0.1", Server(reply).port, 2) == answer


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a token."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (TOKEN, TOKEN_PATH, MODE):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_nothing_at_the_address_is_said_at_once(home: Path, small: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(BackendError, match=rf"nothing listens at address 127.0.0.1:{port}; start a cluster there"):
        RayBackend(2, address=f"127.0.0.1:{port}").train(small(n=4))
    assert time.monotonic() - began < 15


NO_ADDRESSES = ["nonsense", "host:", "ray://127.0.0.1:6379", "http://localhost:8265", "localhost:99999", "a b:1", ":1"]


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=f"address is {address}; allowed are local, auto, or host:port"):
        RayBackend(2, address=address)


def test_what_is_no_cluster_is_refused(home: Path) -> None:
    server = Server(lambda asked: b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(BackendError, match="is no Ray cluster"):
        check_lock(f"127.0.0.1:{server.port}", insecure=False)


def test_a_locked_cluster_wants_a_token(home: Path) -> None:
    server = Server(lambda asked: trailers("16"))
    with pytest.raises(BackendError, match=r"wants a token; copy ~/.ray/auth_token from its head"):
        check_lock(f"127.0.0.1:{server.port}", insecure=False)
    keep_token_private(make=True)
    check_lock(f"127.0.0.1:{server.port}", insecure=False)


def test_an_open_cluster_is_taken_on_the_loopback_and_elsewhere_only_if_that_is_accepted(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "probe", lambda host, port: "open")
    check_lock("127.0.0.1:6379", insecure=False)
    check_lock("10.1.2.3:6379", insecure=True)
    with pytest.raises(BackendError, match=r"lets in anybody who reaches it.*--insecure-cluster"):
        check_lock("10.1.2.3:6379", insecure=False)


def test_a_token_is_made_for_the_user_alone_and_one_that_others_can_read_is_closed(home: Path) -> None:
    token = home / ".ray" / "auth_token"
    keep_token_private(make=True)
    made = token.read_text()
    assert len(made) == 64
    assert token.stat().st_mode & 0o777 == 0o600
    token.chmod(0o644)
    keep_token_private(make=True)
    assert token.read_text() == made
    assert token.stat().st_mode & 0o777 == 0o600


def test_no_token_is_made_for_a_cluster_elsewhere(home: Path) -> None:
    keep_token_private()
    assert not (home / ".ray").exists()


@pytest.mark.parametrize("wrong", [{"cpus": 0.0}, {"gpus": -0.5}, {"wait": -1.0}])
def test_less_than_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"it must be (at least|above) 0"):
        RayBackend(**wrong)  # type: ignore[arg-type]


def test_the_environment_is_left_as_it_was(home: Path, small: Make) -> None:
    before = dict(os.environ)
    with pytest.raises(BackendError):
        RayBackend(2, address="127.0.0.1:1").train(small(n=4))
    assert dict(os.environ) == before


def test_stationary_graph_is_shared_out_by_few_edges() -> None:
    """What an actor is sent follows from the blocks, which follow the graph."""
    from topologies import blocks, crossings

    ring = Static(Topology("ring", 12))
    assert crossings(ring, blocks(ring, 3)) == 6

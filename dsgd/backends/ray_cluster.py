"""The connection to a Ray cluster: an own one for the run, or one that is there already, never without its lock.

Ray authenticates by a token, in RAY_AUTH_TOKEN, in the file that RAY_AUTH_TOKEN_PATH names, or in ~/.ray/auth_token. It
reads its settings from the environment when it is imported, so these are made here, before.
"""

from __future__ import annotations

import atexit
import ipaddress
import math
import os
import re
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dsgd.backends.ray_probe import probe
from dsgd.backends.supervision import BackendError

SETTINGS = {  # a cluster that does not answer is given up after seconds, not a quarter of an hour
    "RAY_NUM_REDIS_GET_RETRIES": "1",
    "RAY_py_gcs_connect_timeout_s": "3",
    "RAY_gcs_rpc_server_connect_timeout_s": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
ONE_NODE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # Ray then listens on 127.0.0.1 alone
MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


@contextmanager
def connected(address: str, insecure: bool, cpus: float) -> Iterator[None]:
    """Ray is connected while the block lasts; a connection that is there already is used, and left as it is.

    `address` is host:port, auto, or local: an own cluster on this machine, with room for `cpus` cores. BackendError in
    a sentence where it cannot be reached, wants a token that is not there, or is open to a network and not `insecure`.
    """
    with settings(SETTINGS | (ONE_NODE if address == "local" else {})):
        keep_token_private(make=address == "local")
        if address != "local" and has_token():
            os.environ.setdefault(MODE, "token")
        import ray

        if ray.is_initialized():
            check_head()
            yield
            return
        with _own_signals():
            _connect(address, insecure, cpus)
        try:
            yield
        finally:
            _disconnect()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Signals are handled after the block as before: Ray takes SIGTERM for itself when it connects."""
    ours = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)} if ours else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _connect(address: str, insecure: bool, cpus: float) -> None:
    import logging

    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        cores = max(os.cpu_count() or 1, math.ceil(cpus))
        ray.init(address="local", num_cpus=cores, include_dashboard=False, **quiet)
        _hush()
        return
    locked = address != "auto" and check_lock(address, insecure)
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:300]
        then = "its token may be another than the one here" if locked else "see ray start"
        raise BackendError(f"no Ray cluster could be reached at address {address}: {said}; {then}") from None
    _hush()
    if address == "auto":
        try:
            check_lock(str(ray.get_runtime_context().gcs_address), insecure)
        except BackendError:
            ray.shutdown()
            raise


def _hush() -> None:
    """Of a lost actor or node Ray would tell on stdout, where JSON may be due."""
    import ray

    ray._private.worker._worker_logs_enabled = False


def _disconnect() -> None:
    """Ray's own leave-taking, at the end of the process too, would wait for a head that does not answer."""
    import ray

    if head_answers():
        ray.shutdown()
    else:
        atexit.unregister(ray.shutdown)


def check_head() -> None:
    """BackendError where the head of the cluster connected to does not answer any more."""
    if not head_answers():
        raise BackendError("the head of the Ray cluster does not answer any more; once it does, dsgd resume goes on")


def head_answers() -> bool:
    """Whether the head of the cluster connected to does; where it does not, most of Ray's calls wait for minutes."""
    import ray

    return probe(*_parted(str(ray.get_runtime_context().gcs_address))) != "nothing"


def check_lock(address: str, insecure: bool) -> bool:
    """Whether the Ray cluster at host:port is locked; if not, it must be on this machine alone, or `insecure`.

    Else BackendError, as where no cluster answers, or it wants a token and there is none here.
    """
    host, port = _parted(address)
    answer = probe(host, port)
    match answer:
        case "nothing":
            raise BackendError(f"nothing listens at address {address}; start a cluster there: ray start --head")
        case "no ray":
            raise BackendError(f"what listens at address {address} is no Ray cluster; give that of `ray start --head`")
        case "locked" if not has_token():
            raise BackendError(
                f"the cluster at {address} wants a token; copy ~/.ray/auth_token from its head, or set {TOKEN_PATH}"
            )
        case "open" if not insecure and not _loopback(host):
            raise BackendError(
                f"the cluster at {address} lets in anybody who reaches it; start it with {MODE}=token "
                "(ray get-auth-token --generate), or accept that with --insecure-cluster"
            )
    return answer == "locked"


def keep_token_private(make: bool = False) -> None:
    """Sees to it that nobody else can read the file of the user's token; `make` makes one where there is none."""
    path = _token_file()
    if make and not has_token():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(opened, "w") as written:
                written.write(secrets.token_hex(32))
    if path.is_file() and path.stat().st_mode & 0o077:
        with suppress(PermissionError):  # another user's, such as a mounted secret
            path.chmod(0o600)


@contextmanager
def settings(wanted: dict[str, str]) -> Iterator[None]:
    """The environment with what is wanted and not set by the user; after the block also without what Ray left there."""
    before = set(os.environ)
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        for name in set(os.environ) - before:
            if name in wanted or name.startswith("RAY_"):
                del os.environ[name]


def _token_file() -> Path:
    return Path(os.environ.get(TOKEN_PATH) or Path.home() / ".ray" / "auth_token")


def has_token() -> bool:
    return bool(os.environ.get(TOKEN)) or _token_file().is_file()


def _parted(address: str) -> tuple[str, int]:
    check_address(address)
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def check_address(address: str) -> None:
    """ValueError unless it is local, auto, or host:port."""
    found = re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})", address)
    if address not in ("local", "auto") and not (found and 0 < int(found[2]) < 2**16):
        raise ValueError(f"address is {address}; allowed are local, auto, or host:port such as 10.0.0.1:6379")


def _loopback(host: str) -> bool:
    """Whether an address leads to this machine alone."""
    try:
        return all(ipaddress.ip_address(found[4][0]).is_loopback for found in socket.getaddrinfo(host, None))
    except OSError:
        return False

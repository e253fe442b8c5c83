"""Hosts on this machine: network namespaces with addresses of their own, joined by a switch that is one more namespace.

Nothing of the machine's own network is touched, and with the namespaces all of it goes. The processes of a host are
those in its namespace; they are ended by their numbers.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PORT = 6379
SECONDS_TO_START, SECONDS_TO_SEE_A_LOSS = 60.0, 5.0
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
LOCKED, OPEN = {"RAY_AUTH_MODE": "token"}, {"RAY_AUTH_MODE": "disabled"}
WATCHFUL = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}


def why_none() -> str:
    """Why no hosts can be made here, or nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not shutil.which("ip"):
        return "network namespaces need ip (iproute2)"
    try:
        with hosts(1):
            return ""
    except subprocess.CalledProcessError as error:
        return f"no network namespaces can be made here: {' '.join(error.stderr.split())}"


@dataclass(frozen=True)
class Host:
    """A namespace with one address, plugged into a port of the switch; `home` is its user's folder."""

    namespace: str
    address: str
    switch: str
    port: str
    home: Path

    def start(self, *command: str | Path, **how: Any) -> subprocess.Popen[str]:
        """A process of this host."""
        return subprocess.Popen(self._there(command), text=True, **self._how(**how))

    def run(self, *command: str | Path, seconds: float = SECONDS_TO_START, **how: Any) -> Any:
        """A process of this host once it has ended; subprocess.TimeoutExpired where it does not."""
        return subprocess.run(self._there(command), text=True, capture_output=True, timeout=seconds, **self._how(**how))

    def processes(self, said: str = "") -> list[int]:
        """The numbers of the processes here, those whose command line says so."""
        found = _ip("netns", "pids", self.namespace).split()
        return [int(pid) for pid in found if said in _command_line(int(pid))]

    def end(self) -> None:
        """Ends all processes here, at once."""
        while running := self.processes():
            for pid in running:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def unplug(self) -> None:
        """The cable is pulled at the switch."""
        _ip("-n", self.switch, "link", "set", self.port, "down")

    def plug(self) -> None:
        _ip("-n", self.switch, "link", "set", self.port, "up")

    def isolate(self, on: bool = True) -> None:
        """No isolated host reaches another isolated one; they reach all others."""
        _ip("-n", self.switch, "link", "set", self.port, "type", "bridge_slave", "isolated", "on" if on else "off")

    def _there(self, command: Sequence[str | Path]) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *map(str, command)]

    def _how(self, env: Mapping[str, str] | None = None, **how: Any) -> dict[str, Any]:
        """Of this process's environment only the path of commands is passed on."""
        own = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(self.home)}
        return {"env": own | dict(env or {}), "cwd": ROOT, "stdin": subprocess.DEVNULL} | how


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """So many hosts, joined by a switch, while the block lasts; then nothing of them is left."""
    with tempfile.TemporaryDirectory(prefix="dsgd-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        tag = Path(folder).name
        switch = f"{tag}-switch"
        made = [
            Host(f"{tag}-{k}", f"10.7.0.{k}", switch, f"port{k}", Path(folder, str(k))) for k in range(1, count + 1)
        ]
        try:
            _ip("netns", "add", switch)
            _ip("-n", switch, "link", "add", "bridge", "up", "type", "bridge")
            for host in made:
                _plug_in(host)
            yield made
        finally:
            existing = {line.split()[0] for line in _ip("netns", "list").splitlines()}
            for host in (host for host in made if host.namespace in existing):
                host.end()
            for name in existing & {switch, *(host.namespace for host in made)}:
                _ip("netns", "del", name)


def _plug_in(host: Host) -> None:
    host.home.mkdir()
    there = ("-n", host.namespace)
    _ip("netns", "add", host.namespace)
    _ip("-n", host.switch, "link", "add", host.port, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
    _ip("-n", host.switch, "link", "set", host.port, "master", "bridge", "up")
    _ip(*there, "link", "set", "lo", "up")
    _ip(*there, "link", "set", "eth0", "up")
    _ip(*there, "address", "add", f"{host.address}/24", "dev", "eth0")


class Cluster:
    """A Ray cluster on hosts, the first of which is its head; locked by a token that all of them have, or open.

    A `watchful` one sees within seconds that a host is cut off; with Ray's own settings that takes a minute.
    """

    def __init__(self, hosts: Sequence[Host], locked: bool = True, watchful: bool = True) -> None:
        self.hosts, self._settings = hosts, QUIET | (LOCKED if locked else OPEN) | (WATCHFUL if watchful else {})
        self.head, *self.workers = hosts
        self.address = f"{self.head.address}:{PORT}"
        self._struck: list[Host] = []
        if locked:
            token = secrets.token_hex(32)
            for host in hosts:
                _write_token(host.home, token)
        self._start(self.head, "--head", "--port", str(PORT), "--include-dashboard", "false")
        for worker in self.workers:
            self._start(worker, "--address", self.address)

    def lose(self, host: Host) -> None:
        """A host is gone with all that ran there."""
        self._struck.append(host)
        host.end()

    def cut_off(self, host: Host) -> None:
        """A host's cable is pulled."""
        self._struck.append(host)
        host.unplug()

    def part(self, *hosts: Host) -> None:
        """These hosts do not reach each other, but all others."""
        for host in hosts:
            host.isolate()

    def mend(self) -> None:
        """Every cable is in, and a host that Ray took for dead, which it remains, is started anew."""
        for host in self.hosts:
            host.plug()
            host.isolate(False)
        if self._struck:
            time.sleep(SECONDS_TO_SEE_A_LOSS)
        for host in self._struck:
            host.end()
            self._start(host, "--address", self.address)
        self._struck.clear()

    def _start(self, host: Host, *how: str) -> None:
        """The node's daemons; Ray's paths are short, for they hold sockets."""
        ray = Path(sys.executable).with_name("ray")
        own = ("--node-ip-address", host.address, "--temp-dir", str(host.home / "ray"))
        sizes = ("--num-cpus", "2", "--object-store-memory", str(100 * 2**20), "--disable-usage-stats")
        started = host.run(ray, "start", *how, *own, *sizes, env=self._settings)
        assert started.returncode == 0, started.stdout + started.stderr


def _write_token(home: Path, token: str) -> None:
    (home / ".ray").mkdir(mode=0o700)
    file = home / ".ray" / "auth_token"
    file.touch(mode=0o600)
    file.write_text(token)


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=10).stdout

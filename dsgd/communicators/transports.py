"""torch.distributed as the carrier: gloo between processes on CPUs, and GPUs that share a device; NCCL across GPUs."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from dsgd.communicators.distributed import Wait
from dsgd.communicators.lines import LONGEST, Line, lines
from dsgd.communicators.messages import MessageError, PeerLost
from dsgd.communicators.shared import mates
from dsgd.threads import in_thread

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch._C._distributed_c10d import Store

TAGS = 2**30


class Gloo:
    """Place `me` of `size`; listens on the address `host` alone. A peer that is silent for `timeout` seconds is lost.

    Buffers lie on the CPU: a GPU's rows go through pinned memory.
    """

    device: torch.device | str = "cpu"

    def __init__(self, store: Store, me: int, size: int, host: str, timeout: float) -> None:
        from torch.distributed import ProcessGroupGloo

        kind: Any = ProcessGroupGloo  # its options, by which an address can be given, are typed nowhere
        self.me, self.size, self._timeout = me, size, timeout
        options = kind._Options()
        options._devices = [kind.create_device(hostname=host)]
        options._timeout = timedelta(seconds=timeout)
        self._group = self._asked(None, partial(kind, store, me, size, options))
        self._reunions = Reunions(store)
        self.mates: Mapping[int, int] = self._asked(None, partial(mates, store, me, size))
        self._lines: dict[int, Line] = self._asked(None, partial(lines, store, me, self.mates, timeout))

    def exchange(
        self, number: int, outgoing: Mapping[int, Tensor], incoming: Mapping[int, Tensor]
    ) -> tuple[dict[int, Wait], dict[int, Wait]]:
        def begun(begin: Any, buffers: Mapping[int, Tensor]) -> dict[int, Wait]:
            works = {k: self._asked(k, partial(begin, [b], k, number % TAGS)) for k, b in buffers.items()}
            return {k: Awaited(partial(self._asked, k, work.wait), buffers[k]) for k, work in works.items()}

        (out, far_out), (in_, far_in) = self._shared_out(outgoing), self._shared_out(incoming)
        for k in out.keys() | in_.keys():
            self._lines[k].write(number, out[k].numpy().tobytes() if k in out else b"")
        arrivals = {k: partial(_copied, self._lines[k], number, buffer) for k, buffer in in_.items()}
        departures = {k: partial(_heard, self._lines[k], number) for k in out}
        return begun(self._group.recv, far_in) | arrivals, begun(self._group.send, far_out) | departures

    def _shared_out(self, buffers: Mapping[int, Tensor]) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Those for a line, being short and for a place on this machine, and those for gloo."""
        near = {k: b for k, b in buffers.items() if k in self._lines and len(b) <= LONGEST}
        return near, {k: b for k, b in buffers.items() if k not in near}

    def await_leader(self) -> None:
        self._asked(0, partial(self._reunions.meet, self.me))

    def total(self, tensor: Tensor) -> None:
        self._asked(None, self._group.allreduce([tensor]).wait)

    def _asked(self, peer: int | None, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except RuntimeError as error:
            who = "another place" if peer is None else f"place {peer}"
            raise PeerLost(f"{who} is gone, or did not answer place {self.me} within {self._timeout:g} s") from error


def _heard(line: Line, number: int, seconds: float | None) -> bool:
    """What was sent has been copied; but who has no patience goes on only when the peer has come as far."""
    return seconds is not None or line.read(number, None) is not None


def _copied(line: Line, number: int, buffer: Tensor, seconds: float | None) -> bool:
    letter = line.read(number, seconds)
    if letter is None:
        return False
    if len(letter) != len(buffer):
        raise MessageError(f"a message of {len(letter)} bytes came in exchange {number}, due were {len(buffer)}")
    buffer.numpy()[:] = memoryview(letter)
    return True


@dataclass
class Awaited:
    """Waits by `wait`, which ends or raises in its own time; where that may not last, in a thread beside.

    gloo has no other way: a wait that times out closes all its connections, and it does not say what has arrived.
    """

    wait: Callable[[], Any]
    buffer: Tensor  # not let go while gloo may write there
    _begun: Future[Any] | None = None

    def __call__(self, seconds: float | None) -> bool:
        if seconds is None and self._begun is None:
            self.wait()
            return True
        self._begun = self._begun or in_thread(self.wait)
        try:
            self._begun.result(seconds)
        except TimeoutError:
            return False
        return True


class Reunions:
    """Where all wait for the first place as long as it takes: its owner watches over it, and the store ends with it."""

    def __init__(self, store: Store) -> None:
        self._store, self._count = store, 0

    def meet(self, me: int) -> None:
        self._count += 1
        if me == 0:
            self._store.set(f"reunion {self._count}", "")
        else:
            self._store.wait([f"reunion {self._count}"], timedelta(days=30))


class Collective:
    """The process group that torch.distributed was initialised with, one GPU a place for NCCL; buffers lie there.

    It waits for whoever is late.
    """

    def __init__(self, device: torch.device | str, store: Store) -> None:
        import torch.distributed as dist

        self._reunions = Reunions(store)
        self.me, self.size, self.device = dist.get_rank(), dist.get_world_size(), device
        self.mates: Mapping[int, int] = {}

    def exchange(
        self, number: int, outgoing: Mapping[int, Tensor], incoming: Mapping[int, Tensor]
    ) -> tuple[dict[int, Wait], dict[int, Wait]]:
        import torch.distributed as dist

        operations = [dist.P2POp(dist.irecv, b, k) for k, b in sorted(incoming.items())]
        operations += [dist.P2POp(dist.isend, b, k) for k, b in sorted(outgoing.items())]
        works = dist.batch_isend_irecv(operations) if operations else []

        def wait(seconds: float | None) -> bool:
            while works:
                _asked_of_group(works.pop().wait)
            return True

        return dict.fromkeys(incoming, wait), dict.fromkeys(outgoing, wait)

    def await_leader(self) -> None:
        _asked_of_group(partial(self._reunions.meet, self.me))

    def total(self, tensor: Tensor) -> None:
        import torch.distributed as dist

        _asked_of_group(lambda: dist.all_reduce(tensor))


def _asked_of_group(ask: Callable[[], Any]) -> None:
    try:
        ask()
    except RuntimeError as error:
        raise PeerLost(f"another place is gone, or did not answer in time ({error})") from error


def listening_store(host: str, timeout: float) -> tuple[Store, int]:
    """The store at which the places find each other, served from here on the address `host` alone, and its port."""
    from torch._C._distributed_c10d import TCPStore

    listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    port = listener.getsockname()[1]
    return TCPStore(
        host,
        port,
        is_master=True,
        wait_for_workers=False,
        timeout=timedelta(seconds=timeout),
        master_listen_fd=listener.detach(),
    ), port


def store_at(host: str, port: int, timeout: float) -> Store:
    """The store that another place serves; PeerLost where it does not answer."""
    from torch._C._distributed_c10d import TCPStore

    try:
        return TCPStore(host, port, is_master=False, timeout=timedelta(seconds=timeout))
    except RuntimeError as error:
        raise PeerLost(f"the first place does not answer at {host}, port {port} within {timeout:g} s") from error

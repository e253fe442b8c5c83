"""torch.distributed as the carrier: gloo between processes on CPUs, and GPUs that share a device; NCCL across GPUs."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from dsgd.communicators.distributed import PeerLost

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

    def exchange(
        self, number: int, outgoing: Mapping[int, Tensor], incoming: Mapping[int, Tensor]
    ) -> tuple[dict[int, Callable[[], None]], Callable[[], None]]:
        tag, group = number % TAGS, self._group
        receiving = {k: self._asked(k, partial(group.recv, [buffer], k, tag)) for k, buffer in incoming.items()}
        sending = {k: self._asked(k, partial(group.send, [buffer], k, tag)) for k, buffer in outgoing.items()}

        def sent() -> None:
            for k, work in sending.items():
                self._asked(k, work.wait)

        return {k: partial(self._asked, k, work.wait) for k, work in receiving.items()}, sent

    def total(self, tensor: Tensor) -> None:
        self._asked(None, self._group.allreduce([tensor]).wait)

    def _asked(self, peer: int | None, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except RuntimeError as error:
            who = "another place" if peer is None else f"place {peer}"
            raise PeerLost(f"{who} is gone, or did not answer place {self.me} within {self._timeout:g} s") from error


class Collective:
    """The process group that torch.distributed was initialised with, one GPU a place for NCCL; buffers lie there."""

    def __init__(self, device: torch.device | str) -> None:
        import torch.distributed as dist

        self.me, self.size, self.device = dist.get_rank(), dist.get_world_size(), device

    def exchange(
        self, number: int, outgoing: Mapping[int, Tensor], incoming: Mapping[int, Tensor]
    ) -> tuple[dict[int, Callable[[], None]], Callable[[], None]]:
        import torch.distributed as dist

        operations = [dist.P2POp(dist.irecv, b, k) for k, b in sorted(incoming.items())]
        operations += [dist.P2POp(dist.isend, b, k) for k, b in sorted(outgoing.items())]
        works = dist.batch_isend_irecv(operations) if operations else []

        def wait() -> None:
            while works:
                _asked_of_group(works.pop().wait)

        return dict.fromkeys(incoming, wait), wait

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

"""Mixing over the replica axis, wherever the replicas live."""

from dsgd.communicators.communicator import Communicator
from dsgd.communicators.distributed import Distributed, Transport
from dsgd.communicators.local import KEPT, Local
from dsgd.communicators.messages import MessageError, PeerLost
from dsgd.communicators.quarantine import Quarantine, finite_rows

__all__ = ["KEPT", "Communicator", "Distributed", "Local", "MessageError", "PeerLost", "Quarantine", "Transport"]
__all__ += ["finite_rows"]

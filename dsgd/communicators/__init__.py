"""Mixing over the replica axis, wherever the replicas live."""

from dsgd.communicators.communicator import Communicator
from dsgd.communicators.local import KEPT, Local

__all__ = ["KEPT", "Communicator", "Local"]

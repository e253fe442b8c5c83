"""Data sets, and how their training examples are shared out over the replicas; NumPy only, never torch."""

from __future__ import annotations

from dsgd.data.cifar10 import Cifar10
from dsgd.data.classes import EmergingClasses
from dsgd.data.digits import Digits
from dsgd.data.examples import DataSet, DataSource, Examples
from dsgd.data.fashion_mnist import FashionMnist
from dsgd.data.held_out import HeldOut
from dsgd.data.input_noise import InputNoise
from dsgd.data.label_noise import LabelNoise
from dsgd.data.long_tail import LongTail
from dsgd.data.no_data import NoData
from dsgd.data.own import Own, from_hugging_face, from_torch
from dsgd.data.partition import PARTITIONS, ByLabel, Dirichlet, Iid, Partition, Shards
from dsgd.data.regression import Regression
from dsgd.data.river import River
from dsgd.data.sampling import Sampler, sampler
from dsgd.data.text import Text
from dsgd.data.xor import Xor

DATASETS: dict[str, type[DataSource]] = {
    "digits": Digits,
    "fashion_mnist": FashionMnist,
    "cifar10": Cifar10,
    "no_data": NoData,
    "held_out": HeldOut,
    "label_noise": LabelNoise,
    "input_noise": InputNoise,
    "long_tail": LongTail,
    "regression": Regression,
    "emerging_classes": EmergingClasses,
    "text": Text,
    "xor": Xor,
    "river": River,
}

__all__ = [
    "DATASETS",
    "PARTITIONS",
    "ByLabel",
    "Cifar10",
    "DataSet",
    "DataSource",
    "Digits",
    "Dirichlet",
    "EmergingClasses",
    "Examples",
    "FashionMnist",
    "HeldOut",
    "Iid",
    "InputNoise",
    "LabelNoise",
    "LongTail",
    "NoData",
    "Own",
    "Partition",
    "Regression",
    "River",
    "Sampler",
    "Shards",
    "Text",
    "Xor",
    "from_hugging_face",
    "from_torch",
    "sampler",
]

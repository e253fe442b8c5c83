"""Where to take the gradient: one method of one paper a file."""

from dsgd.gradients.asam import Asam
from dsgd.gradients.average_direction import AverageDirection
from dsgd.gradients.csam import Csam
from dsgd.gradients.fisher_sam import FisherSam
from dsgd.gradients.gradient import Estimate, Gradient
from dsgd.gradients.gsam import Gsam
from dsgd.gradients.imb_sam import ImbSam
from dsgd.gradients.look_sam import LookSam
from dsgd.gradients.m_sam import MSam
from dsgd.gradients.plain import Plain
from dsgd.gradients.random_direction import RandomDirection
from dsgd.gradients.rsgs import Rsgs
from dsgd.gradients.sam import Sam
from dsgd.gradients.sources import SOURCES, Source
from dsgd.gradients.ssam import Ssam
from dsgd.gradients.tram import Tram
from dsgd.gradients.unified_sam import UnifiedSam
from dsgd.gradients.usam import Usam
from dsgd.gradients.vasso import Vasso
from dsgd.gradients.weight_diversity import WeightDiversity

GRADIENTS: dict[str, type[Gradient]] = {
    "plain": Plain,
    "random_direction": RandomDirection,
    "average_direction": AverageDirection,
    "weight_diversity": WeightDiversity,
    "sam": Sam,
    "usam": Usam,
    "unified_sam": UnifiedSam,
    "m_sam": MSam,
    "asam": Asam,
    "fisher_sam": FisherSam,
    "gsam": Gsam,
    "look_sam": LookSam,
    "vasso": Vasso,
    "ssam": Ssam,
    "imb_sam": ImbSam,
    "csam": Csam,
    "tram": Tram,
    "rsgs": Rsgs,
}

__all__ = ["GRADIENTS", "SOURCES", "Estimate", "Gradient", "Source"]

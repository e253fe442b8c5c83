"""What is measured: one quantity a file."""

from dsgd.metrics.accuracy import Accuracy
from dsgd.metrics.class_accuracy import ClassAccuracy
from dsgd.metrics.consensus import Consensus
from dsgd.metrics.curvature import Curvature
from dsgd.metrics.drift import Drift
from dsgd.metrics.equivalence import Equivalence, probe
from dsgd.metrics.features import Features
from dsgd.metrics.gauges import Gauges
from dsgd.metrics.gauss_newton import GaussNewton
from dsgd.metrics.gradient_noise import GradientNoise
from dsgd.metrics.landscape import Landscape
from dsgd.metrics.merging import Merging
from dsgd.metrics.metric import Metric, Snapshot, Split, Values
from dsgd.metrics.perplexity import Perplexity
from dsgd.metrics.sharpness import Sharpness
from dsgd.metrics.smoothing import Smoothing
from dsgd.metrics.stability import StabilityEdge
from dsgd.metrics.uncertainty import Uncertainty

METRICS: dict[str, type[Metric]] = {
    "consensus": Consensus,
    "accuracy": Accuracy,
    "class_accuracy": ClassAccuracy,
    "curvature": Curvature,
    "sharpness": Sharpness,
    "smoothing": Smoothing,
    "merging": Merging,
    "gradient_noise": GradientNoise,
    "equivalence": Equivalence,
    "landscape": Landscape,
    "gauges": Gauges,
    "uncertainty": Uncertainty,
    "stability_edge": StabilityEdge,
    "drift": Drift,
    "perplexity": Perplexity,
    "gauss_newton": GaussNewton,
    "features": Features,
}

__all__ = [
    "METRICS",
    "Accuracy",
    "ClassAccuracy",
    "Consensus",
    "Curvature",
    "Drift",
    "Equivalence",
    "Features",
    "Gauges",
    "GaussNewton",
    "GradientNoise",
    "Landscape",
    "Merging",
    "Metric",
    "Perplexity",
    "Sharpness",
    "Smoothing",
    "Snapshot",
    "Split",
    "StabilityEdge",
    "Uncertainty",
    "Values",
    "probe",
]

"""What is measured: one quantity a file."""

from dsgd.metrics.accuracy import Accuracy
from dsgd.metrics.consensus import Consensus
from dsgd.metrics.curvature import Curvature
from dsgd.metrics.equivalence import Equivalence, probe
from dsgd.metrics.gauges import Gauges
from dsgd.metrics.gradient_noise import GradientNoise
from dsgd.metrics.merging import Merging
from dsgd.metrics.metric import Metric, Snapshot, Split, Values
from dsgd.metrics.sharpness import Sharpness

METRICS: dict[str, type[Metric]] = {
    "consensus": Consensus,
    "accuracy": Accuracy,
    "curvature": Curvature,
    "sharpness": Sharpness,
    "gradient_noise": GradientNoise,
    "equivalence": Equivalence,
    "gauges": Gauges,
    "merging": Merging,
}

__all__ = ["METRICS", "Accuracy", "Consensus", "Curvature", "Equivalence", "Gauges", "GradientNoise", "Merging"]
__all__ += ["Metric", "Sharpness", "Snapshot", "Split", "Values", "probe"]

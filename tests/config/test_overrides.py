"""An override changes one knob by its name, or says why it cannot."""

from __future__ import annotations

import pytest

from dsgd.config import load, parse
from dsgd.config.overrides import with_overrides
from dsgd.data import PARTITIONS
from dsgd.gradients import GRADIENTS
from dsgd.models import MODELS
from topologies import Static, Topology


def test_overrides_open_bare_names_in_order() -> None:
    overrides = ["task=digits", "task.partition=by_label", "task.partition.labels_per_replica=3", "model.widths=[3,4]"]
    overrides += ["topology.graph=erdos_renyi", "topology.graph.p=.5", "gradient=random_direction", "gradient.rho=1e-3"]
    run = load(None, overrides).run
    assert run.task.partition == PARTITIONS["by_label"](labels_per_replica=3)  # type: ignore[call-arg]  # a part's own knob
    assert run.model == MODELS["mlp"](widths=(3, 4))  # type: ignore[call-arg]  # a part's own knob
    assert run.topology == Static(Topology("erdos_renyi", 16, knobs=(("p", 0.5),)))
    assert run.gradient == GRADIENTS["random_direction"](rho=1e-3)  # type: ignore[call-arg]  # a part's own knob


def test_a_name_replaces_a_part_with_all_its_knobs() -> None:
    config = {
        "task": "digits",
        "gradient": {"name": "random_direction", "rho": 0.1},
        "topology": {"graph": "grid", "n": 9},
    }
    changed, _ = with_overrides(config, ["gradient=plain", "topology=ring", "topology.n=5"])
    assert changed["gradient"] == "plain"
    assert parse(changed).topology == Static(Topology("ring", 5))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("steps", "'steps': not an override; write path.to.key=value"),
        ("=3", "'=3': not an override"),
        ("a..b=3", "'a..b=3': not an override"),
        ("steps.x=3", "steps.x: steps is not a mapping; give steps as a whole"),
        ("twins.x=3", "twins.x: twins is not a mapping"),
        ("model.widths=[1", "model.widths: not valid YAML"),
        ("learning_rate.lr=.nan", "learning_rate.lr: .nan given; numbers must be finite"),
        ("a." * 40 + "b=1", "'a.a"),
    ],
)
def test_an_override_that_cannot_be_applied_is_told(override: str, expected: str) -> None:
    _, found = with_overrides({"task": "digits", "steps": 3, "twins": []}, [override])
    assert len(found) == 1
    assert found[0].startswith(expected)

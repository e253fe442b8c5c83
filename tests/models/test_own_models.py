"""Any torch module as a model: knobs, weights from a file, and the layers that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import dsgd
from dsgd.config import read
from dsgd.fingerprint import key
from dsgd.models import from_torch
from dsgd.run import Run
from dsgd.simulation import check_fit


@from_torch
def net(shape: tuple[int, ...], classes: int, width: int = 4) -> nn.Module:
    """A hidden layer and no more."""
    first = nn.Linear(shape[0] * shape[1] * shape[2], width)
    return nn.Sequential(nn.Flatten(), first, nn.Tanh(), nn.Linear(width, classes))


def of(*layers: nn.Module) -> Any:
    def made(shape: tuple[int, ...], classes: int) -> nn.Module:
        return nn.Sequential(*layers)

    return from_torch(made)()


def test_the_arguments_are_knobs_and_the_module_is_trained(small: Callable[..., Run]) -> None:
    run = small(model=net(width=3, smooth=True))
    assert dsgd.train(run).params["1.weight"].shape == (4, 3, 64)
    assert run.describe()["model"] == {"name": "net", "width": 3, "smooth": True, "weights": None}
    assert (run.smooth, small(model=net()).smooth, net.__doc__) == (True, False, "A hidden layer and no more.")


@pytest.mark.usefixtures("own_parts")
def test_a_configuration_reads_its_knobs() -> None:
    dsgd.register("model", "net")(net)
    given = {"task": "digits", "model": {"name": "net", "width": 3}}
    assert read(given).run.model == net(3)
    with pytest.raises(ValueError, match=r"model.width: 'a' given; allowed is a whole number"):
        read({"task": "digits", "model": {"name": "net", "width": "a"}})


@pytest.mark.usefixtures("own_parts")
def test_a_knob_without_annotation_is_of_its_defaults_type() -> None:
    dsgd.register("model", "bare")(from_torch(lambda shape, classes, hidden=16, bias=True: nn.Linear(64, classes)))
    run = read({"task": "digits", "model": {"name": "bare", "hidden": 4}}).run
    assert run.describe()["model"] == {"name": "bare", "hidden": 4, "bias": True, "smooth": False, "weights": None}
    with pytest.raises(ValueError, match=r"model.hidden: 0.5 given; allowed is a whole number"):
        read({"task": "digits", "model": {"name": "bare", "hidden": 0.5}})


def test_weights_from_a_file_are_where_it_starts(small: Callable[..., Run], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path, learnt = tmp_path / "net.safetensors", net().build((1, 8, 8), 10)
    save_file(learnt.state_dict(), path)
    run = small(model=net(weights=str(path)), steps=1, dtype="float32", snapshot_every=1)
    seen: dict[int, Any] = {}

    class Seen:
        stepped = measured = event = staticmethod(lambda *_, **__: None)

        def snapshotted(self, step: int, params: Any) -> None:
            seen[step] = {name: leaf.clone() for name, leaf in params.items()}

    dsgd.train(run, observers=[Seen()])
    assert torch.equal(seen[0]["1.weight"], learnt.state_dict()["1.weight"].expand(4, -1, -1))
    before = key(run)
    save_file({name: leaf + 1 for name, leaf in learnt.state_dict().items()}, path)
    assert key(run) != before
    with pytest.raises(ValueError, match=r"is of another model: 3 of another shape, the first 1.weight"):
        net(width=5, weights=str(path)).build((1, 8, 8), 10)
    with pytest.raises(ValueError, match="starts is own, but the model starts from the file"):
        replace(run, starts="own")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            of(nn.BatchNorm2d(1)),
            "^made has BatchNorm2d at 0, whose running statistics change in place; take dsgd.kernels",
        ),
        (of(nn.Linear(4, 4), nn.Dropout()), "^made has Dropout at 1, which is random; give it p=0, or leave it out$"),
        (of(nn.InstanceNorm2d(1, track_running_stats=True)), "^made has InstanceNorm2d at 0, whose running statistics"),
        (of(nn.RReLU()), "^made has RReLU at 0, which is random; take LeakyReLU, or leave it out$"),
        (of(nn.FractionalMaxPool2d(2, 4)), "^made has FractionalMaxPool2d at 0, which is random; take MaxPool, or"),
        (of(nn.MultiheadAttention(4, 2, dropout=0.5)), "^made has MultiheadAttention at 0, .*; give it dropout=0, or"),
        (
            of(nn.LSTM(4, 4, 2, dropout=0.5)),
            "^made has LSTM at 0, which is random; give it dropout=0, or leave it out$",
        ),
        (of(nn.GRU(4, 4, 2, dropout=0.5)), "^made has GRU at 0, which is random"),
        (of(nn.RNN(4, 4, 2, dropout=0.5)), "^made has RNN at 0, which is random"),
        (of(nn.TransformerEncoderLayer(4, 2, 4, dropout=0.1)), "^made has MultiheadAttention at 0.self_attn, which is"),
        (
            of(nn.Embedding(4, 2, max_norm=1)),
            "^made has Embedding at 0, whose rows change in place; drop max_norm$",
        ),
        (from_torch(lambda shape, classes: nn.Dropout())(), "^<lambda> has Dropout at its top, which is random"),
        (from_torch(lambda shape, classes: 3)(), "^<lambda> gave int; it must give a torch.nn.Module$"),
    ],
)
def test_what_replicas_cannot_share_is_refused(model: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.build((1, 8, 8), 10)


@pytest.mark.parametrize(
    "layer",
    [
        nn.InstanceNorm2d(1),
        nn.BatchNorm2d(1, track_running_stats=False),
        nn.Dropout(0),
        nn.LSTM(4, 4, 2),
        nn.TransformerEncoderLayer(4, 2, 4, dropout=0),
        nn.Embedding(4, 2),
    ],
)
def test_layers_of_these_kinds_that_stay_as_they_are_are_taken(layer: nn.Module) -> None:
    assert [*of(layer).build((1, 8, 8), 10)] == [layer]


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda shape: nn.Identity(), "must take the inputs' shape, the number of classes, and its knobs by name"),
        (lambda shape, classes, **knobs: nn.Identity(), "and its knobs by name"),
        (lambda shape, classes, weights: nn.Identity(), "has an argument weights, which every model has already"),
        (lambda shape, classes, build: nn.Identity(), "has an argument build, which every model has already"),
        (lambda shape, classes, files: nn.Identity(), "has an argument files, which every model has already"),
        (
            lambda shape, classes, hidden: nn.Identity(),
            "does not say of what type hidden is; annotate it, such as hidden",
        ),
        (lambda shape, classes, hidden=None: nn.Identity(), "does not say of what type hidden is; annotate it"),
    ],
)
def test_a_function_of_other_arguments_is_refused(factory: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_torch(factory)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            (nn.Flatten(), nn.Linear(64, 3)),
            r"^model made gives outputs of shape \(2, 3\) for 2 examples, the task has 10 classes; give outputs of "
            r"shape \(2, 10\)$",
        ),
        ((nn.Flatten(), nn.Linear(64, 30)), r"gives outputs of shape \(2, 30\) for 2 examples, the task has 10"),
        ((nn.Linear(8, 10),), r"gives outputs of shape \(2, 1, 8, 10\) for 2"),
        ((nn.Linear(64, 10),), r"^model made cannot take the task's inputs of shape \(1, 8, 8\): mat1 and mat2 "),
    ],
)
def test_what_does_not_fit_the_task_is_refused_before_the_run(
    layers: tuple[nn.Module, ...], message: str, small: Callable[..., Run]
) -> None:
    with pytest.raises(ValueError, match=message):
        dsgd.train(small(model=of(*layers), steps=1))


def test_the_look_at_the_outputs_changes_nothing(small: Callable[..., Run]) -> None:
    run = small()
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(), nn.Linear(64, 10))
    module[2].eval()
    before, modes = {k: v.clone() for k, v in module.state_dict().items()}, [m.training for m in module.modules()]
    check_fit(run, run.task.data.load(), module)
    assert [m.training for m in module.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_what_the_shapes_alone_do_not_show_is_no_refusal(small: Callable[..., Run]) -> None:
    """A module that looks at the numbers, without memory for these: it is looked at when it has some."""

    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(64, 10)

        def forward(self, x: torch.Tensor) -> Any:
            return self.inner(x.flatten(1)) if x.sum().item() < 1e9 else None

    run = small()
    check_fit(run, run.task.data.load(), Looks().to("meta"))

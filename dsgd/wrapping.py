"""The gradient methods in your own training script: an optimizer around that of an ordinary module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from dsgd.gradients import Gradient
from dsgd.perturbations import Noise
from dsgd.state import When
from dsgd.trees import Layout, Params

if TYPE_CHECKING:
    from torch import Tensor

    from dsgd.kernels import Criterion

Closure = Callable[[], Any]


def wrap(
    gradient: Gradient,
    module: nn.Module,
    base: Optimizer,
    *,
    seed: int = 0,
    class_counts: Tensor | None = None,
    lr_max: float = 0.0,
    lr_last: float = 0.0,
) -> Wrapped:
    """`base` made to step along the gradients of a method, such as `dsgd.gradients.sam.Sam(rho=0.05)`.

    `step(x, y)` is one step on the mini-batch x (B, ...), y (B,), the mean cross entropy of the module's outputs (B,
    classes). `step(closure)` is one on any loss: the closure clears the gradients, computes the loss, calls its
    `backward()` and returns it; methods that look at single examples cannot take it. Schedulers are given the wrapper
    or `base`, whose groups they share. ImbSAM needs the `class_counts` (classes,) of the training examples, GSAM with a
    radius that follows the learning rate its greatest and last value. ValueError where they lack.

    Running statistics of normalisation move once a step, at the parameters.
    """
    return Wrapped(gradient, module, base, seed, class_counts, lr_max, lr_last)


class Wrapped(Optimizer):
    """What `wrap` returns; `state_dict` holds the base's, the method's memory and the count of steps."""

    def __init__(
        self,
        gradient: Gradient,
        module: nn.Module,
        base: Optimizer,
        seed: int,
        class_counts: Tensor | None,
        lr_max: float,
        lr_last: float,
    ) -> None:
        if isinstance(base, torch.optim.LBFGS):
            raise ValueError("LBFGS asks for the loss itself, between its own steps; wrap another optimizer")
        if getattr(gradient, "follows_lr", False) and not lr_max > 0:
            raise ValueError("this method follows the learning rate; give its greatest and last, lr_max and lr_last")
        stepped = {id(p) for group in base.param_groups for p in group["params"]}
        named = {name: p for name, p in module.named_parameters() if id(p) in stepped}
        if len(named) < len(stepped):
            raise ValueError("the optimizer has parameters that the module does not; wrap it with its own module")
        if len({(p.dtype, p.device) for p in named.values()}) > 1:
            raise ValueError("the parameters have several dtypes or devices; wrap a module of one dtype on one device")
        super().__init__(base.param_groups, base.defaults)
        self.base, self.param_groups, self.state = base, base.param_groups, base.state
        self._gradient, self._seed, self._span = gradient, seed, (lr_max, lr_last)
        self._within = Within(module, named, class_counts)
        self._steps, self._memory = 0, gradient.init(self._within.read())

    def step(self, closure: Any = None, y: Tensor | None = None) -> Any:
        """A step: on a closure's loss, or on a mini-batch (x, y). Returns the method's loss, mostly that before it."""
        if closure is None or (y is None and not callable(closure)):
            raise ValueError("a wrapped optimizer asks for the loss more than once; give step a closure, or x and y")
        objective = OfClosure(self._within, closure) if y is None else OfExamples(self._within, closure, y)
        p, at = self._within.read(), When(self._steps, self.param_groups[0]["lr"], *self._span)
        noise = Noise(self._steps, ((self._seed, 0),))
        with self._within.visit(p, objective.look):
            found = self._gradient.estimate(objective, p, noise, self._memory, at)
        self._within.set_gradients(found.grads)
        self.base.step()
        self._steps, self._memory = self._steps + 1, found.memory
        return found.loss[0]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if hasattr(self, "_within"):
            raise ValueError("a wrapped optimizer's parameters are fixed; wrap anew with all of them in the base")
        super().add_param_group(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.base.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        memory = {name: tensor.clone() for name, tensor in self._memory.items()}
        return {"base": self.base.state_dict(), "gradient": memory, "steps": self._steps}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        if set(state_dict.get("gradient", {"none": None})) != set(self._memory):
            raise ValueError("the state is of another gradient method; wrap with the one that it was saved from")
        self.base.load_state_dict(state_dict["base"])
        self.param_groups, self.state = self.base.param_groups, self.base.state
        like = next(iter(self._within.named.values()))
        self._memory = {name: tensor.to(like.device) for name, tensor in state_dict["gradient"].items()}
        self._steps = state_dict["steps"]


@dataclass
class Within:
    """A module's parameters as one row of numbers, and its losses at other rows."""

    module: nn.Module
    named: Mapping[str, nn.Parameter]
    class_counts: Tensor | None
    unused: set[str] = field(default_factory=set)
    clean: Params | None = None  # where running statistics are still to move in this step

    @property
    def layout(self) -> Layout:
        return Layout(tuple(self.named), tuple(tuple(p.shape) for p in self.named.values()))

    def read(self) -> Params:
        """A copy of the parameters."""
        return Params(torch.cat([p.detach().reshape(-1) for p in self.named.values()])[None], self.layout)

    def write(self, p: Params) -> None:
        with torch.no_grad():
            for name, own in self.named.items():
                own.copy_(p[name][0])

    @contextmanager
    def visit(self, p: Params, look: Callable[[], Any]) -> Iterator[None]:
        """The parameters are again p when the block ends, by copy.

        Running statistics have moved once, in a pass on the whole mini-batch at p: one of the block's, or else `look`.
        """
        self.clean = p if any(True for _ in self.module.buffers()) else None
        try:
            yield
            if self.clean is not None:
                with self.at(p):
                    look()
        finally:
            self.clean = None
            self.write(p)

    def set_gradients(self, grads: Params) -> None:
        """Those the loss does not depend on are left without one, so that the base passes over them."""
        for name, own in self.named.items():
            own.grad = None if name in self.unused else grads[name][0].clone()

    def gradients(self) -> Params:
        """What a backward pass has left."""
        self.unused = {name for name, own in self.named.items() if own.grad is None}
        found = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.named.values()]
        return Params(torch.cat([g.reshape(-1) for g in found])[None], self.layout)

    @contextmanager
    def at(self, p: Params, whole: bool = True) -> Iterator[None]:
        """The module at p; its buffers move in a step's first such block at the parameters, on the `whole` batch."""
        self.write(p)
        moves = whole and self.clean is not None and torch.equal(p.matrix, self.clean.matrix)
        self.clean = None if moves else self.clean
        kept = {} if moves else {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        try:
            yield
        finally:
            with torch.no_grad():
                for name, buffer in self.module.named_buffers():
                    if name in kept:
                        buffer.copy_(kept[name])


@dataclass(frozen=True)
class OfClosure:
    """The loss that a closure computes; of its examples it knows nothing."""

    within: Within
    closure: Closure

    def loss_and_grad(self, p: Params, weights: Tensor | None = None) -> tuple[Tensor, Params]:
        if weights is not None:
            self._needs_examples()
        return _row_by_row(self._one, p, None)

    def _one(self, p: Params, weights: Tensor | None) -> tuple[Tensor, Params]:
        with self.within.at(p), torch.enable_grad():
            self.within.module.zero_grad()
            loss = self.closure()
        if all(own.grad is None for own in self.within.named.values()):
            raise ValueError("the closure left no gradients; let it call backward() on the loss that it returns")
        return torch.as_tensor(loss).detach(), self.within.gradients()

    def look(self) -> None:
        """One pass, for what it does to running statistics."""
        with torch.enable_grad():
            self.closure()

    def joint(self) -> OfClosure:
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._needs_examples()

    def _needs_examples(self) -> Any:
        raise ValueError("this method looks at single examples; call step(x, y) instead of step(closure)")


@dataclass(frozen=True)
class OfExamples:
    """The mean loss of the module's outputs on a mini-batch, as an objective of one row."""

    within: Within
    inputs: Tensor
    labels: Tensor
    criterion: Criterion | None = None
    whole: bool = True

    def look(self) -> None:
        """One pass, for what it does to running statistics."""
        with torch.no_grad():
            self.within.module(self.inputs)

    @property
    def x(self) -> Tensor:
        return self.inputs[None]

    @property
    def y(self) -> Tensor:
        return self.labels[None]

    def logits(self, p: Params) -> Tensor:
        rows = []
        for row in range(p.rows):
            with self.within.at(p.row(row), self.whole), torch.no_grad():
                rows.append(self.within.module(self.inputs))
        return torch.stack(rows)

    def losses(self, p: Params) -> Tensor:
        return torch.stack([self._losses(outputs) for outputs in self.logits(p)])

    def loss(self, p: Params) -> Tensor:
        return self.losses(p).mean(dim=1)

    def loss_and_grad(self, p: Params, weights: Tensor | None = None) -> tuple[Tensor, Params]:
        return _row_by_row(self._one, p, weights)

    def _one(self, p: Params, weights: Tensor | None) -> tuple[Tensor, Params]:
        with self.within.at(p, self.whole), torch.enable_grad():
            self.within.module.zero_grad()
            losses = self._losses(self.within.module(self.inputs))
            loss = losses.mean() if weights is None else (losses * weights).sum()
            loss.backward()
        return loss.detach(), self.within.gradients()

    def _losses(self, outputs: Tensor) -> Tensor:
        if self.criterion:
            return self.criterion(outputs, self.labels)
        return nn.functional.cross_entropy(outputs, self.labels, reduction="none")

    def joint(self) -> OfExamples:
        return self

    def part(self, start: int, stop: int) -> OfExamples:
        whole = self.whole and (start, stop) == (0, len(self.labels))
        return replace(self, inputs=self.inputs[start:stop], labels=self.labels[start:stop], whole=whole)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return tuple(self.inputs.shape[1:])

    def noised(self, noise: Tensor) -> OfExamples:
        return replace(self, inputs=self.inputs + noise[0], whole=False)

    def under(self, criterion: Criterion) -> OfExamples:
        return replace(self, criterion=criterion)

    def statistics(self, p: Params) -> Tensor:
        raise ValueError("the module keeps its running statistics itself")

    def class_counts(self, of: str) -> Tensor:
        if self.within.class_counts is None:
            raise ValueError("this method counts classes; give wrap the class_counts of the training examples")
        counts = torch.as_tensor(self.within.class_counts, device=self.labels.device)
        if counts.dim() != 1 or int(self.labels.max()) >= len(counts) or (counts < 0).any():
            raise ValueError(
                f"class_counts has shape {tuple(counts.shape)}; give one number, at least 0, for each of the classes, "
                f"of which a label is {int(self.labels.max())}"
            )
        return counts[None]


def _row_by_row(
    one: Callable[[Params, Tensor | None], tuple[Tensor, Params]], p: Params, weights: Tensor | None
) -> tuple[Tensor, Params]:
    found = [one(p.row(row), None if weights is None else weights[row]) for row in range(p.rows)]
    return torch.stack([loss for loss, _ in found]), p.like(torch.cat([grads.matrix for _, grads in found]))

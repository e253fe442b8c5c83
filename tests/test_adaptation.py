"""Prototypes calibrated as by hand, and a stream that moves normalisation layers by sure examples alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity, normalize

from dsgd.adaptation import Csfa, Frozen, Gossiping, Prototypes, calibrated
from dsgd.gradients.rsgs import Rsgs


def features() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)).double()


def numbers(*shape: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def on_stream(**knobs: object) -> Csfa:
    """All examples are sure, and the step is large, unless said otherwise."""
    gradient = Rsgs(**{"margin": math.inf, **knobs})  # type: ignore[arg-type]
    return Csfa(Prototypes(features(), numbers(3, 4)), gradient, lr=0.1, reset=0.0)


def state(csfa: Csfa) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in csfa.classifier.named_parameters()}


def moved(csfa: Csfa, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, p in csfa.classifier.named_parameters() if not torch.equal(p, before[name])}


def test_outputs_are_cosines_times_the_scale() -> None:
    classifier, x = Prototypes(features(), numbers(3, 4), scale=16), numbers(8, 6)
    found = classifier(x)
    expected = cosine_similarity(classifier.features(x)[:, None], numbers(3, 4)[None], dim=2)
    torch.testing.assert_close(found, 16 * expected)


def test_a_new_prototype_is_drawn_to_the_base_prototypes_that_it_is_like() -> None:
    """Weights softmax(tau cos) = (e^16 : 1) / sum for a prototype that is the first axis, (1, 1) / 2 between them."""
    base = torch.eye(2, 3, dtype=torch.float64)
    weight = 1 / (1 + math.exp(-16))
    shared = normalize(torch.tensor([[weight, 1 - weight, 0.0]], dtype=torch.float64), dim=1)
    for alpha in (0.0, 0.1, 1.0):
        expected = normalize((1 - alpha) * base[:1] + alpha * shared, dim=1)
        torch.testing.assert_close(calibrated(base[:1], base, alpha), expected, rtol=0, atol=1e-15)
    between = normalize(torch.tensor([[1.0, 1.0, 1.0]], dtype=torch.float64), dim=1)
    expected = normalize(0.5 * between + 0.5 * torch.tensor([[0.5**0.5, 0.5**0.5, 0.0]], dtype=torch.float64), dim=1)
    torch.testing.assert_close(calibrated(between, base, 0.5), expected)


def test_shots_of_new_classes_become_their_prototypes_and_leave_the_others() -> None:
    classifier, x = Prototypes(features(), numbers(3, 4)), numbers(6, 6)
    before = classifier.prototypes.clone()
    classifier.learn(x, torch.tensor([3, 3, 3, 4, 4, 4]), alpha=0.0)
    assert torch.equal(classifier.prototypes[:3], before)
    assert classifier.features.training
    assert not classifier.features[1].running_mean.any()  # type: ignore[index]
    classifier.features.eval()
    means = torch.stack([normalize(classifier.features(part), dim=1).mean(dim=0) for part in (x[:3], x[3:])])
    torch.testing.assert_close(classifier.prototypes[3:], normalize(means, dim=1).detach())
    assert classifier(x).shape == (6, 5)
    with pytest.raises(ValueError, match=r"the new classes are \[7\]; number them on from 5"):
        classifier.learn(x[:1], torch.tensor([7]), alpha=0.0)


def test_later_classes_are_drawn_to_the_first_prototypes_alone() -> None:
    classifier, x = Prototypes(features(), numbers(3, 4)), numbers(6, 6)
    classifier.learn(x[:3], torch.tensor([3, 3, 3]), alpha=0.3)
    classifier.learn(x[3:], torch.tensor([4, 4, 4]), alpha=0.3)
    features_of = normalize(classifier.features.eval()(x[3:]), dim=1).mean(dim=0, keepdim=True).detach()
    expected = calibrated(normalize(features_of, dim=1), normalize(numbers(3, 4), dim=1), 0.3)
    torch.testing.assert_close(classifier.prototypes[4:], expected)


def test_the_pipeline_calibrates_by_its_own_share() -> None:
    x, y = numbers(6, 6), torch.tensor([3, 3, 3, 4, 4, 4])
    found = []
    for share in (0.0, 0.4):
        csfa = on_stream()
        csfa.calibration = share
        csfa.learn(x, y)
        classifier = Prototypes(features(), numbers(3, 4))
        classifier.learn(x, y, alpha=share)
        assert torch.equal(csfa.classifier.prototypes, classifier.prototypes)
        found.append(classifier.prototypes)
    assert not torch.equal(*found)


def test_the_average_of_entropies_weighs_the_newest_by_a_tenth() -> None:
    csfa = on_stream()
    for entropy, average in ((2.0, 2.0), (1.0, 1.9), (0.0, 1.71)):
        csfa._watch(entropy)
        assert csfa._average == pytest.approx(average)


def test_only_normalisation_layers_move_and_predictions_are_those_before() -> None:
    csfa, x = on_stream(), numbers(32, 6)
    before, expected = state(csfa), csfa.classifier(x).argmax(dim=1)
    assert torch.equal(csfa.adapt(x), expected)
    assert moved(csfa, before) == {"features.1.weight", "features.1.bias"}


def test_the_entropy_of_the_stream_falls() -> None:
    csfa, x = on_stream(), numbers(32, 6)

    def entropy() -> float:
        return float(csfa.gradient.entropy(csfa.classifier(x).detach(), x).mean())

    before = entropy()
    for _ in range(5):
        csfa.adapt(x)
    assert entropy() < 0.8 * before


def test_a_batch_without_a_sure_example_moves_nothing_not_even_by_momentum() -> None:
    csfa, x = on_stream(), numbers(32, 6)
    csfa.adapt(x)
    before = state(csfa)
    csfa.gradient = Rsgs(margin=1e-9)
    csfa.adapt(x)
    assert moved(csfa, before) == set()
    csfa.gradient = Rsgs(margin=math.inf)
    csfa.adapt(x)
    assert moved(csfa, before)


def test_after_a_collapse_all_is_as_at_the_start() -> None:
    csfa, x = on_stream(), numbers(32, 6)
    before = state(csfa)
    csfa.reset = math.inf
    csfa.adapt(x)
    assert csfa.resets == 1
    assert moved(csfa, before) == set()


def test_one_step_is_sars_without_alpha_and_tents_without_rho() -> None:
    """Written out: entropy at the perturbed affine parameters; entropy where they are."""
    x = numbers(32, 6)
    for rho in (0.5, 0.0):
        csfa = on_stream(rho=rho, alpha=0.0)
        classifier = Prototypes(features(), numbers(3, 4))
        affine = [classifier.features[1].weight, classifier.features[1].bias]  # type: ignore[index]
        start = [p.detach().clone() for p in affine]

        def entropies(classifier: Prototypes = classifier) -> torch.Tensor:
            log_p = classifier(x).log_softmax(dim=1)
            return -(log_p.exp() * log_p).sum(dim=1).mean()

        grads = torch.autograd.grad(entropies(), affine)
        length = torch.cat(grads).norm() + 1e-12
        with torch.no_grad():
            for p, g in zip(affine, grads, strict=True):
                p.add_(rho * g / length)
        grads = torch.autograd.grad(entropies(), affine)
        csfa.adapt(x)
        found = [csfa.classifier.features[1].weight, csfa.classifier.features[1].bias]  # type: ignore[index]
        for p, first, g in zip(found, start, grads, strict=True):
            torch.testing.assert_close(p.detach(), first - 0.1 * g, rtol=1e-10, atol=1e-12)


def test_features_without_normalisation_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="no normalisation layer"):
        Csfa(Prototypes(nn.Linear(6, 4).double(), numbers(3, 4)))


def test_learners_adapt_by_their_parts_and_then_average_with_their_neighbours() -> None:
    w = torch.tensor([[0.75, 0.25], [0.25, 0.75]], dtype=torch.float64)
    x, alone = numbers(32, 6), [on_stream(), on_stream()]
    expected = torch.cat([learner.adapt(part) for learner, part in zip(alone, x.chunk(2), strict=True)])
    stepped = torch.cat([learner.adapted.matrix for learner in alone])
    together = Gossiping([on_stream(), on_stream()], w)
    assert torch.equal(together.adapt(x), expected)
    found = torch.cat([learner.adapted.matrix for learner in together.learners if isinstance(learner, Csfa)])
    torch.testing.assert_close(found, w @ stepped)
    assert not torch.equal(*stepped)
    torch.testing.assert_close(found.mean(dim=0), stepped.mean(dim=0))


def test_one_learner_that_gossips_with_nobody_is_itself() -> None:
    x, alone, together = numbers(32, 6), on_stream(), Gossiping([on_stream()], torch.eye(1))
    for batch in x.chunk(4):
        assert torch.equal(together.adapt(batch), alone.adapt(batch))
    assert torch.equal(together.learners[0].adapted.matrix, alone.adapted.matrix)  # type: ignore[union-attr]  # Csfa


def test_the_share_kept_is_that_of_the_latest_batch() -> None:
    csfa = on_stream()
    csfa.adapt(numbers(32, 6))
    other = on_stream(margin=0.0)
    together = Gossiping([csfa, other], torch.eye(2))
    together.adapt(numbers(32, 6))
    assert (csfa.kept, other.kept, together.kept) == (1.0, 0.0, 0.5)


def test_all_learners_learn_and_frozen_ones_do_not_move() -> None:
    x, y = numbers(3, 6), torch.tensor([3, 3, 3])
    together = Gossiping([Frozen(Prototypes(features(), numbers(3, 4)), 0.2) for _ in range(2)], torch.eye(2))
    together.learn(x, y)
    classifier = Prototypes(features(), numbers(3, 4))
    classifier.learn(x, y, alpha=0.2)
    before = {name: p.detach().clone() for name, p in classifier.named_parameters()}
    batch = numbers(16, 6, seed=3)
    expected = torch.cat([classifier(part).argmax(dim=1) for part in batch.chunk(2)])
    assert torch.equal(together.adapt(batch), expected)
    for learner in together.learners:
        assert all(torch.equal(p, before[name]) for name, p in learner.classifier.named_parameters())


def test_our_own_batch_normalisation_adapts_too() -> None:
    from dsgd.models import Mlp

    module = Mlp((16, 4), "relu", "batch").build((6,), 3).double()
    csfa = Csfa(Prototypes(module[:-1], numbers(3, 4)), Rsgs(margin=math.inf), lr=0.1, reset=0.0)  # type: ignore[index]  # it is a sequence
    before = state(csfa)
    csfa.adapt(numbers(32, 6))
    assert {name.split(".")[1] for name in moved(csfa, before)} == {"norm1", "norm2"}

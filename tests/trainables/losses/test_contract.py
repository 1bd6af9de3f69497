"""What every loss must keep, built-in or a user's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trainables.losses import Loss
from trainables.registry import make, names
from trainables.training.replicate import Objective

FEATURES, CLASSES = 6, 5
PLUGINS = "tests.trainables.plugins"
LOSSES = [*names("loss"), f"{PLUGINS}:Prototypes", f"{PLUGINS}:focal", f"{PLUGINS}:Squared"]


def batch(n: int = 7, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(n, FEATURES, generator=generator, dtype=dtype)
    return features, torch.randn(n, CLASSES, generator=generator, dtype=dtype), torch.arange(n) % CLASSES


def built(name: str) -> tuple[Loss, nn.Module]:
    loss: Loss = make("loss", name)
    torch.manual_seed(0)
    return loss, loss.build(FEATURES if loss.uses_features else None, CLASSES)


def given(loss: Loss, features: Tensor) -> Tensor | None:
    return features if loss.uses_features else None


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_a_finite_scalar_with_gradients(name: str) -> None:
    loss, module = built(name)
    features, logits, labels = batch(dtype=torch.float32)
    leaves = [features.requires_grad_(), logits.requires_grad_(), *module.parameters()]
    value = module(given(loss, features), logits, labels)
    assert value.shape == ()
    assert value.isfinite()
    gradients = torch.autograd.grad(value, leaves, allow_unused=True)
    assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients[:2])
    assert all(gradient is not None for gradient in gradients[2:])


@pytest.mark.parametrize("name", LOSSES)
def test_gradcheck(name: str) -> None:
    loss, module = built(name)
    module = module.double().eval()
    features, logits, labels = batch()
    parameters = [parameter.detach().clone().requires_grad_() for parameter in module.parameters()]
    keys = [key for key, _ in module.named_parameters()]

    def value(features: Tensor, logits: Tensor, *parameters: Tensor) -> Tensor:
        state = dict(zip(keys, parameters, strict=True))
        result: Tensor = torch.func.functional_call(module, state, (given(loss, features), logits, labels))
        return result + 0 * (features.sum() + logits.sum())  # whatever it does not read has the gradient 0

    assert torch.autograd.gradcheck(value, (features.requires_grad_(), logits.requires_grad_(), *parameters))


@pytest.mark.parametrize("name", LOSSES)
def test_it_is_the_mean_over_the_batch(name: str) -> None:
    loss, module = built(name)
    module = module.double().eval()
    features, logits, labels = batch()
    whole = module(given(loss, features), logits, labels)
    parts = [module(given(loss, features[i : i + 1]), logits[i : i + 1], labels[i : i + 1]) for i in range(len(labels))]
    torch.testing.assert_close(whole, torch.stack(parts).mean())


@pytest.mark.parametrize("name", LOSSES)
def test_a_modules_state_is_all_that_it_is(name: str) -> None:
    loss, module = built(name)
    features, logits, labels = batch(dtype=torch.float32)
    module(given(loss, features), logits, labels)
    other = loss.build(FEATURES if loss.uses_features else None, CLASSES)
    other.load_state_dict(module.state_dict())
    arguments = (given(loss, features), logits, labels)
    assert torch.equal(module.eval()(*arguments), other.eval()(*arguments))


@pytest.mark.parametrize("name", LOSSES)
def test_better_logits_have_a_smaller_loss(name: str) -> None:
    loss, module = built(name)
    features, _, labels = batch(dtype=torch.float32)
    if hasattr(module, "head"):
        pytest.skip("it does not read the logits")
    right = nn.functional.one_hot(labels, CLASSES).float()
    assert module(given(loss, features), right, labels) < module(given(loss, features), right.roll(1, 1), labels)


@pytest.mark.parametrize("name", names("loss"))
def test_half_precision_outputs_under_autocast_give_a_single_precision_loss(name: str) -> None:
    loss, module = built(name)
    features, logits, labels = (part.bfloat16() if part.is_floating_point() else part for part in batch())
    objective = Objective(nn.Identity(), module, None).eval()
    with torch.autocast("cpu", torch.bfloat16):
        value = objective.value(given(loss, features), logits, labels)
        decisive = objective.decisive(given(loss, features), logits)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, module(given(loss, features.float()), logits.float(), labels), rtol=0, atol=0)
    assert decisive.dtype == (torch.float32 if hasattr(module, "head") else torch.bfloat16)


@pytest.mark.parametrize("name", names("loss"))
def test_attacks_see_logits_of_every_class_that_no_label_has_touched(name: str) -> None:
    loss, module = built(name)
    features, logits, labels = batch(dtype=torch.float32)
    objective = Objective(nn.Identity(), module, None)
    before = objective.eval().decisive(given(loss, features), logits)
    assert before.shape == logits.shape
    module(given(loss, features), logits, labels)
    assert torch.equal(objective.decisive(given(loss, features), logits), before)


@pytest.mark.parametrize("name", names("loss"))
def test_every_loss_has_a_source_and_a_reference_and_is_compared_with_cross_entropy(name: str) -> None:
    loss = make("loss", name)
    assert loss.source
    assert loss.reference.keys() == loss.domains.keys()
    assert all(domain.contains(loss.reference[path]) for path, domain in loss.domains.items())
    assert loss.baselines[0].loss == "cross-entropy"
    for baseline in loss.baselines:
        assert baseline.note
        make("loss", baseline.loss, baseline.parameters)


def test_a_factory_that_makes_no_module_is_refused() -> None:
    loss: Loss = make("loss", f"{PLUGINS}:number")
    with pytest.raises(ValueError, match=r"^loss must be a factory of torch\.nn\.Module, got .* which returned int"):
        loss.build(None, CLASSES)

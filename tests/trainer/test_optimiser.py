"""Our optimiser takes the steps of the plain AdamW, a hundred small matrices in one pass or not."""

import copy

import torch

from trainer.methods.steps import Optimiser


def parameters(seed: int) -> dict[str, torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return {f"p{size}": torch.nn.Parameter(torch.randn(size, 3, generator=generator)) for size in range(1, 6)}


def test_steps_are_those_of_the_plain_adamw() -> None:
    ours = parameters(0)
    plain = {name: torch.nn.Parameter(found.detach().clone()) for name, found in ours.items()}
    optimiser = Optimiser([(1e-2, ours)], warmup_steps=0, total_steps=None, max_norm=1.0, weight_decay=0.1)
    other = torch.optim.AdamW(plain.values(), lr=1e-2, weight_decay=0.1, fused=False, foreach=False)
    for step in range(5):
        for name, gradient in parameters(step + 1).items():
            ours[name].grad, plain[name].grad = gradient.detach().clone(), gradient.detach().clone()
        torch.nn.utils.clip_grad_norm_(plain.values(), 1.0)
        other.step()
        optimiser.step()
    for name, found in ours.items():
        torch.testing.assert_close(found, plain[name], rtol=1e-6, atol=1e-6)


def test_a_state_that_was_taken_up_goes_on_alike() -> None:
    first = parameters(0)
    optimiser = Optimiser([(1e-2, first)], warmup_steps=1, total_steps=4, max_norm=1.0)
    for name, gradient in parameters(1).items():
        first[name].grad = gradient.detach().clone()
    optimiser.step()
    second = parameters(9)
    resumed = Optimiser([(1e-2, second)], warmup_steps=1, total_steps=4, max_norm=1.0)
    resumed.load(copy.deepcopy(optimiser.state()))
    for own, one in ((first, optimiser), (second, resumed)):
        for name, gradient in parameters(2).items():
            own[name].grad = gradient.detach().clone()
        one.step()
    for name, found in first.items():
        assert torch.equal(found, second[name])

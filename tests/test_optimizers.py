import subprocess
import sys

import pytest
import torch

from fastnst.optimizers import LBFGS, Adam

ROSENBROCK = torch.tensor([-1.5, 2.0, 0.5, -1.0])


def rosenbrock(x: torch.Tensor) -> torch.Tensor:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def descend(kind: type[torch.optim.Optimizer], **options: object) -> tuple[torch.Tensor, dict]:
    """Where 20 steps lead, ten of them of an optimizer that goes on from the state of the first; and the last state."""
    x = ROSENBROCK.clone().requires_grad_()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = rosenbrock(x)
        loss.backward()
        return loss

    optimizer = kind([x], **options)
    for _ in range(10):
        optimizer.step(closure)
    state = optimizer.state_dict()
    optimizer = kind([x], **options)
    optimizer.load_state_dict(state)
    for _ in range(10):
        optimizer.step(closure)
    return x.detach(), optimizer.state_dict()


@pytest.mark.parametrize(
    ("ours", "torchs", "options"),
    [
        (Adam, torch.optim.Adam, {"lr": 0.05, "weight_decay": 0.1}),
        (LBFGS, torch.optim.LBFGS, {"max_iter": 2, "line_search_fn": "strong_wolfe"}),
    ],
)
def test_they_do_what_torchs_do_bit_for_bit(ours, torchs, options):
    found, state = descend(ours, **options)
    expected, known = descend(torchs, **options)

    assert torch.equal(found, expected)
    assert float(rosenbrock(found)) < float(rosenbrock(ROSENBROCK)) / 10
    assert state["param_groups"] == known["param_groups"]
    assert state["state"].keys() == known["state"].keys()


def test_torchs_compiler_is_not_loaded():
    script = (
        "import sys, torch\n"
        "from fastnst.optimizers import Adam, LBFGS\n"
        "x = torch.ones(3, requires_grad=True)\n"
        "def closure():\n"
        "    optimizer.zero_grad()\n"
        "    loss = (x ** 2).sum()\n"
        "    loss.backward()\n"
        "    return loss\n"
        "for kind in Adam, LBFGS:\n"
        "    optimizer = kind([x])\n"
        "    optimizer.step(closure)\n"
        "    kind([x]).load_state_dict(optimizer.state_dict())\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")

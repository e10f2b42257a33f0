"""torch's optimizers without its compiler, which they import to keep it off their methods: two seconds, each time."""

from inspect import unwrap

import torch


class Optimizer(torch.optim.Optimizer):
    """What torch's optimizers have in common, taken from below the marks that are for the compiler."""

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    load_state_dict = unwrap(torch.optim.Optimizer.load_state_dict)
    state_dict = unwrap(torch.optim.Optimizer.state_dict)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)


class Adam(Optimizer, torch.optim.Adam):
    """Kingma and Ba 2014."""

    step = torch.no_grad()(unwrap(torch.optim.Adam.step))


class LBFGS(Optimizer, torch.optim.LBFGS):
    """Limited-memory BFGS, with torch's own line search if one is asked for."""

"""Muon for matrices, Adam for the rest."""

import torch


def orthogonal(update, steps=5):
    """The nearest half-orthogonal matrix, by the quintic Newton-Schulz iteration (Jordan et al., Muon, 2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = update.bfloat16()
    wide = x.shape[0] > x.shape[1]
    x = x.T if wide else x
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if wide else x).to(update.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised. The step has the size Adam's would have (root mean square 0.2), so one rate serves both."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(state["momentum"], group["momentum"])
                flat = orthogonal(update.reshape(len(update), -1))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(flat.reshape(p.shape), alpha=-group["lr"] * 0.2 * max(flat.shape) ** 0.5)


class Both:
    """Muon on matrices and convolutions with at least `least` rows and columns, Adam on everything else."""

    def __init__(self, named, lr, frozen=(), slow=(), weight_decay=0.0, least=16):
        named = [(n, p) for n, p in named if n not in frozen]
        matrix = [p for n, p in named if p.ndim >= 2 and n not in slow and min(len(p), p[0].numel()) >= least]
        chosen = {id(p) for p in matrix}
        rest = [p for n, p in named if id(p) not in chosen and n not in slow]
        gentle = [p for n, p in named if n in slow]
        self.parts = ([Muon(matrix, lr, weight_decay=weight_decay)] if matrix else []) + [torch.optim.Adam([{"params": rest}, {"params": gentle, "share": 0.1}], lr, betas=(0.9, 0.98))]
        self.top = lr

    def scale(self, share):
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = self.top * share * group.get("share", 1.0)

    def step(self):
        for part in self.parts:
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self):
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states):
        for part, state in zip(self.parts, states):
            part.load_state_dict(state)

"""k-diffusion's samplers and schedules, loaded without what they do not need, and the dummy model they run on.

k-diffusion's package imports torchvision, scikit-image and more for training; only sampling.py and external.py are
loaded here, from the installed package (see requirements-samplers.txt).
"""

import sys
import types
from importlib.metadata import distribution

import torch

VERSION = "0.1.1.post1"


def load():
    found = distribution("k-diffusion")
    assert found.version == VERSION, found.version
    package = types.ModuleType("k_diffusion")
    package.__path__ = [str(found.locate_file("k_diffusion"))]
    sys.modules["k_diffusion"] = package
    utils = types.ModuleType("k_diffusion.utils")
    utils.append_dims = lambda x, dims: x[(...,) + (None,) * (dims - x.ndim)]
    sys.modules["k_diffusion.utils"] = package.utils = utils
    import k_diffusion.external
    import k_diffusion.sampling
    return k_diffusion.sampling, k_diffusion.external


sampling, external = load()


def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Not linear, mixes neighbours, and made of operations that f32 rounds alike everywhere."""
    t = t.to(torch.float32).reshape(-1, 1, 1, 1)
    neighbour = torch.roll(x, 1, dims=-1)
    return x * (t / (t + 1)) + 0.2 * (neighbour / (1 + neighbour.abs()))


def alphas_cumprod() -> torch.Tensor:
    """Stable Diffusion's, as diffusers computes them."""
    betas = torch.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000, dtype=torch.float32) ** 2
    return torch.cumprod(1 - betas, dim=0)


class Model:
    """A denoiser with k-diffusion's wrapper; `uncond` is what the last call would have been without a prompt."""

    def __init__(self, prediction: str, predict=network, without=lambda x, t: 0.9 * network(x, t)):
        wrapper = {"epsilon": external.DiscreteEpsDDPMDenoiser, "v_prediction": external.DiscreteVDDPMDenoiser}
        self.inner = wrapper[prediction](None, alphas_cumprod(), quantize=False)
        self.inner.get_eps = self.inner.get_v = lambda x, t, **_: predict(x, t)
        self.without = wrapper[prediction](None, alphas_cumprod(), quantize=False)
        self.without.get_eps = self.without.get_v = lambda x, t, **_: without(x, t)
        self.uncond = None

    def __call__(self, x, sigma, **_):
        self.uncond = self.without(x, sigma)
        return self.inner(x, sigma)


class Thinned:
    """The same on every 20th level of training, as the webui's LCM sees it; the model is told the nearest of these."""

    def __init__(self, model: Model, skip: int = 20):
        self.inner = type(model.inner)(None, alphas_cumprod()[skip - 1::skip], quantize=False)
        self.inner.get_eps = self.inner.get_v = model.inner.get_eps
        logs = self.inner.log_sigmas[:, None]
        self.inner.sigma_to_t = lambda sigma, quantize=None: (
            (sigma.log() - logs).abs().argmin(dim=0).view(sigma.shape) * skip + skip - 1)

    def __call__(self, x, sigma, **_):
        return self.inner(x, sigma)

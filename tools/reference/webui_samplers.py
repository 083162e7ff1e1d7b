"""Samplers that the webuis have and no package does, written from their papers and definitions in torch's f32.

Each takes (model, x, sigmas) as k-diffusion's do. What they follow is said at each; none is upstream's own code, so
they prove that two readings of the same definition agree, not that upstream's program gives these numbers.
"""

import math

import numpy as np
import torch

from kdiffusion import sampling


def slope(x, sigma, denoised):
    return (x - denoised) / sigma


def ask(model, x, sigma):
    return model(x, sigma * x.new_ones([x.shape[0]]))


def raise_noise(x, sigma, count, s_churn, s_tmin, s_tmax, s_noise):
    """Karras et al. 2022, algorithm 2, lines 4 to 6."""
    noise = torch.randn_like(x) * s_noise
    gamma = min(s_churn / count, 2 ** 0.5 - 1) if s_tmin <= sigma <= s_tmax else 0.0
    raised = sigma * (1 + gamma)
    if gamma > 0:
        x = x + noise * (raised ** 2 - sigma ** 2) ** 0.5
    return x, raised


def heunpp2(model, x, sigmas, s_churn=0.0, s_tmin=0.0, s_tmax=float("inf"), s_noise=1.0):
    """Heun++, as its authors define it: slopes weighted by the sigmas where they are found over the first one."""
    count = len(sigmas) - 1
    for i in range(count):
        x, start = raise_noise(x, sigmas[i], count, s_churn, s_tmin, s_tmax, s_noise)
        slopes = [slope(x, start, ask(model, x, start))]
        places = [start]
        at = x
        for following in sigmas[i + 1:min(i + 3, count)]:
            at = at + slopes[-1] * (following - places[-1])
            slopes.append(slope(at, following, ask(model, at, following)))
            places.append(following)
        whole = len(slopes) * sigmas[0]
        weights = [place / whole for place in places[1:]]
        mean = slopes[0] * (1 - sum(weights)) + sum(w * d for w, d in zip(weights, slopes[1:]))
        x = x + mean * (sigmas[i + 1] - start)
    return x


def multistep(model, x, sigmas, order, weights):
    slopes = []
    for i in range(len(sigmas) - 1):
        denoised = ask(model, x, sigmas[i])
        slopes = [slope(x, sigmas[i], denoised)] + slopes[:order - 1]
        if sigmas[i + 1] == 0:
            x = denoised
        else:
            x = x + sum(w * d for w, d in zip(weights(i, len(slopes)), slopes))
    return x


def ipndm(model, x, sigmas):
    """Adams and Bashforth's weights of even steps, orders 1 to 4."""
    table = {1: [1], 2: [3 / 2, -1 / 2], 3: [23 / 12, -16 / 12, 5 / 12], 4: [55 / 24, -59 / 24, 37 / 24, -9 / 24]}
    return multistep(model, x, sigmas, 4, lambda i, n: [(sigmas[i + 1] - sigmas[i]) * w for w in table[n]])


def ipndm_v(model, x, sigmas):
    """The weights of zju-pi/diff-sampler for uneven steps; f64, so that rounding is not what is compared."""
    s = sigmas.double().tolist()

    def weights(i, n):
        h, h1 = s[i + 1] - s[i], (s[i] - s[i - 1] if n > 1 else None)
        if n == 1:
            return [h]
        coefficients = [1 + h / h1 / 2, -h / h1 / 2, 0.0, 0.0]
        if n >= 3:
            h2 = s[i - 1] - s[i - 2]
            # The product binds before the difference, as upstream writes it.
            t = (1 - h / (3 * (h + h1)) * (h * (h + h1)) / (h1 * (h1 + h2))) / 2
            coefficients[0] += t
            coefficients[1] -= (1 + h1 / h2) * t
            coefficients[2] += t * h1 / h2
        if n == 4:
            h3 = s[i - 2] - s[i - 3]
            u = (1 - h / (3 * (h + h1))) / 2 + (1 - h / (2 * (h + h1))) * h / (6 * (h + h1 + h2))
            u *= h * (h + h1) * (h + h1 + h2) / (h1 * (h1 + h2) * (h1 + h2 + h3))
            long = h1 * (h1 + h2) / (h2 * (h2 + h3))
            coefficients[0] += u
            coefficients[1] -= (1 + h1 / h2 + long) * u
            coefficients[2] += (h1 / h2 + long * (1 + h2 / h3)) * u
            coefficients[3] -= u * long * h1 / h2
        return [h * c for c in coefficients[:n]]

    return multistep(model, x, sigmas, 4, weights)


def deis(model, x, sigmas, points=10000):
    """DEIS of order 3: d sigma integrated over the time of a linear variance-preserving process with sigma 0.002 at
    its time 0.001 and 80 at 1, slopes interpolated by Lagrange; the sum has upstream's points and upstream's width."""
    low, high, start = math.log(0.002 ** 2 + 1), math.log(80 ** 2 + 1), 1e-3
    d = 2 * (low / start - high) / (start - 1)
    b = high - d / 2
    times = (((b * b + 2 * d * (sigmas.double() ** 2 + 1).log()).sqrt() - b) / d).tolist()

    def weights(i, n):
        if n == 1:
            return [float(sigmas[i + 1] - sigmas[i])]
        tau = torch.linspace(times[i], times[i + 1], points, dtype=torch.float64)
        exponent = d * tau ** 2 / 2 + b * tau
        speed = (d * tau + b) * exponent.exp() / (2 * (exponent.exp() - 1).sqrt())
        known = [times[i - k] for k in range(n)]
        result = []
        for j in range(n):
            polynomial = torch.ones_like(tau)
            for k in range(n):
                if k != j:
                    polynomial *= (tau - known[k]) / (known[j] - known[k])
            result.append(float((speed * polynomial).sum() * (times[i + 1] - times[i]) / points))
        return result

    return multistep(model, x, sigmas, 3, weights)


def res_multistep(model, x, sigmas, eta=0.0, s_noise=1.0):
    """RES of second order (Zhang et al. 2023), multistep: exponential integrator in -ln sigma."""
    last = None
    for i in range(len(sigmas) - 1):
        denoised = ask(model, x, sigmas[i])
        down, up = sampling.get_ancestral_step(sigmas[i], sigmas[i + 1], eta=eta)
        if down == 0 or last is None:
            x = x + slope(x, sigmas[i], denoised) * (down - sigmas[i])
        else:
            old_denoised, old_sigma, old_down = last
            h = sigmas[i].log() - down.log()
            c2 = (old_down.log() - old_sigma.log()) / h
            phi1 = torch.expm1(-h) / -h
            phi2 = (phi1 - 1) / -h
            b2 = phi2 / c2
            x = torch.exp(-h) * x + h * ((phi1 - b2) * denoised + b2 * old_denoised)
        if sigmas[i + 1] > 0:
            x = x + torch.randn_like(x) * s_noise * up
        last = (denoised, sigmas[i], down)
    return x


def gradient_estimation(model, x, sigmas, gamma=2.0):
    """Permenter and Yuan 2024: Euler's step along d + (gamma - 1) (d - d_before), from the second on."""
    before = None
    for i in range(len(sigmas) - 1):
        denoised = ask(model, x, sigmas[i])
        d = slope(x, sigmas[i], denoised)
        if sigmas[i + 1] == 0:
            x = denoised
        else:
            along = d if before is None else d + (gamma - 1) * (d - before)
            x = x + along * (sigmas[i + 1] - sigmas[i])
        before = d
    return x


def er_sde(model, x, sigmas, s_noise=1.0, points=200):
    """ER-SDE-Solver-3 (Cui et al. 2023) with phi(sigma) = sigma (exp(sigma^0.3) + 10) and its sums of 200 points."""
    def phi(sigma):
        return sigma * ((sigma ** 0.3).exp() + 10)

    denoised_before, rate_before = None, None
    for i in range(len(sigmas) - 1):
        s, t = sigmas[i], sigmas[i + 1]
        denoised = ask(model, x, s)
        if t == 0:
            x = denoised
            continue
        r = phi(t) / phi(s)
        new = r * x + (1 - r) * denoised
        if denoised_before is not None:
            grid = t + (s - t) / points * torch.arange(points)
            rate = (denoised - denoised_before) / (s - sigmas[i - 1])
            new = new + (t - s + (1 / phi(grid)).sum() * (s - t) / points * phi(t)) * rate
            if rate_before is not None:
                bend = 2 * (rate - rate_before) / (s - sigmas[i - 2])
                second = ((grid - s) / phi(grid)).sum() * (s - t) / points * phi(t)
                new = new + ((t - s) ** 2 / 2 + second) * bend
            rate_before = rate
        x = new + torch.randn_like(x) * s_noise * (t ** 2 - s ** 2 * r ** 2).clamp(min=0).sqrt()
        denoised_before = denoised
    return x


def euler_cfg_pp(model, x, sigmas, eta=0.0, s_noise=1.0):
    """CFG++ (Chung et al. 2024): the guided estimate and the unconditional noise, on sigmas."""
    for i in range(len(sigmas) - 1):
        denoised = ask(model, x, sigmas[i])
        down, up = sampling.get_ancestral_step(sigmas[i], sigmas[i + 1], eta=eta)
        x = denoised + down * slope(x, sigmas[i], model.uncond)
        if sigmas[i + 1] > 0 and eta > 0:
            x = x + torch.randn_like(x) * s_noise * up
    return x


def restart(model, x, sigmas, s_noise=1.0):
    """Restart (Xu et al. 2023) over Heun's steps, from sigma 2 to 0.1: once from 20 steps on, twice from 36."""
    steps = len(sigmas) - 1
    again, times = (0, 0) if steps < 20 else (9, 1) if steps < 36 else (steps // 4, 2)
    if times:
        sigmas = sampling.get_sigmas_karras(steps - again * times, sigmas[-2].item(), sigmas[0].item())
    low, high = int((sigmas - 0.1).abs().argmin()), int((sigmas - 2).abs().argmin())
    way = []
    for i in range(len(sigmas) - 1):
        way.append((sigmas[i], sigmas[i + 1]))
        if times and i + 1 == low and high < low:
            part = sampling.get_sigmas_karras(again + 1, sigmas[low].item(), sigmas[high].item())[:-1]
            way += list(zip(part[:-1], part[1:])) * times
    last = None
    for s, t in way:
        if last is not None and last < s:
            x = x + torch.randn_like(x) * s_noise * (s ** 2 - last ** 2) ** 0.5
        d = slope(x, s, ask(model, x, s))
        end = x + d * (t - s)
        x = end if t == 0 else x + (d + slope(end, t, ask(model, end, t))) / 2 * (t - s)
        last = t
    return x


def lcm(model, x, sigmas, boundary=False):
    """ComfyUI's, or with the boundary condition of Luo et al. 2023, equation 7, at ten times the timestep, the webui's."""
    for i in range(len(sigmas) - 1):
        denoised = ask(model, x, sigmas[i])
        if boundary:
            t = 10.0 * model.inner.sigma_to_t(sigmas[i].reshape(1)).item()
            denoised = t / (t * t + 0.25) ** 0.5 * denoised + 0.25 / (t * t + 0.25) * x
        x = denoised
        if sigmas[i + 1] > 0:
            x = x + sigmas[i + 1] * torch.randn_like(x)
    return x


def ddpm(model, x, sigmas):
    """Ho et al. 2020, algorithm 2, on latents that keep their variance, as ComfyUI writes it."""
    for i in range(len(sigmas) - 1):
        s, t = sigmas[i], sigmas[i + 1]
        noise = slope(x, s, ask(model, x, s))
        share, after = 1 / (s * s + 1), 1 / (t * t + 1)
        alpha = share / after
        kept = (x * share.sqrt() - (1 - alpha) * noise / (1 - share).sqrt()) / alpha.sqrt()
        if t > 0:
            kept = kept + ((1 - alpha) * (1 - after) / (1 - share)).sqrt() * torch.randn_like(x)
        x = kept / after.sqrt()
    return x


def adams(known, start, end, tau, nodes=24):
    """Weights of estimates at the half log signal-to-noise ratios `known` over a step (Xue et al. 2023, equation 14): the
    integrals of their Lagrange polynomials times an exponential, by Gauss and Legendre's quadrature."""
    places, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(nodes))
    places = (end - start) / 2 * places + (end + start) / 2
    rate = 1 + tau ** 2
    kernel = rate * torch.exp(rate * (places - end)) * weights * (end - start) / 2
    found = []
    for j, own in enumerate(known):
        polynomial = torch.ones_like(places)
        for k, other in enumerate(known):
            if k != j:
                polynomial = polynomial * (places - other) / (own - other)
        found.append(float((kernel * polynomial).sum()))
    return found


def sa_solver(model, x, sigmas, eta=1.0, s_noise=1.0, again=False):
    """SA-Solver (Xue et al. 2023, algorithm 1) with ComfyUI's orders, 3 and 4, and noise for steps that end between the
    sigmas of timesteps 199.8 and 799.2; `again` asks the model after each correction too."""
    low, high = (model.inner.t_to_sigma(torch.tensor(share * 999.0)).item() for share in (0.2, 0.8))
    s = sigmas.double()
    half_logs = [float(-v.log()) if v > 0 else math.inf for v in s]
    count, estimates, drawn, tau = len(s) - 1, [], None, 0.0
    for i in range(count):
        estimates = [*estimates, ask(model, x, sigmas[i])][-4:]
        ends = s[i + 1] == 0
        if i > 0 and (again or not ends):
            order = min(4, len(estimates), count - i)
            known = half_logs[i - order + 1:i + 1]
            weights = adams(known, half_logs[i - 1], half_logs[i], tau)
            h = half_logs[i] - half_logs[i - 1]
            x = float(s[i] / s[i - 1]) * math.exp(-tau ** 2 * h) * start
            x = x + sum(w * d for w, d in zip(weights, estimates[-order:]))
            if drawn is not None:
                x = x + drawn
            if again:
                estimates[-1] = ask(model, x, sigmas[i])
        if ends:
            return estimates[-1]
        start = x
        tau = eta if low <= sigmas[i + 1].item() <= high else 0.0
        order = max(1, min(3, len(estimates), count - 1 - i))
        weights = adams(half_logs[i - order + 1:i + 1], half_logs[i], half_logs[i + 1], tau)
        h = half_logs[i + 1] - half_logs[i]
        x = float(s[i + 1] / s[i]) * math.exp(-tau ** 2 * h) * start
        x = x + sum(w * d for w, d in zip(weights, estimates[-order:]))
        drawn = None
        if tau > 0 and s_noise > 0:
            drawn = torch.randn_like(x) * float(s[i + 1]) * math.sqrt(-math.expm1(-2 * tau ** 2 * h)) * s_noise
            x = x + drawn
    return x


def uni_pc(model, x, sigmas, variant="bh1", order=3):
    """UniPC (Zhao et al. 2023, algorithms 5 to 8) on latents that keep their variance, from each sigma to the next and to
    0.001 in place of 0, as ComfyUI runs it."""
    s = sigmas.double().clone()
    s[-1] = 0.001 if s[-1] == 0 else s[-1]
    share = 1 / (s * s + 1).sqrt()
    half_logs = -s.log()
    count = len(s) - 1
    order = min(order, count - 1)
    x = x.double() * share[0]

    def clean(x, index):
        return ask(model, (x / share[index]).float(), sigmas[index]).double()

    known = [clean(x, 0)]
    for index in range(1, count + 1):
        own = index if index < order else min(order, count + 1 - index)
        h = half_logs[index] - half_logs[index - 1]
        scale = torch.expm1(-h) if variant == "bh2" else -h
        ratios = [(half_logs[index - 1 - back] - half_logs[index - 1]) / h for back in range(1, own)]
        differences = [(known[back] - known[0]) / ratio for back, ratio in enumerate(ratios, 1)]
        rights, phi, factorial = [], torch.expm1(-h) / -h - 1, 1
        for k in range(1, own + 1):
            rights.append(phi * factorial / scale)
            factorial *= k + 1
            phi = phi / -h - 1 / factorial
        powers = torch.stack([torch.stack([*ratios, torch.ones_like(h)]) ** k for k in range(own)])
        rights = torch.stack(rights)
        base = s[index] * share[index] / (s[index - 1] * share[index - 1]) * x - share[index] * torch.expm1(-h) * known[0]
        weights = [] if own == 1 else [0.5] if own == 2 else torch.linalg.solve(powers[:-1, :-1], rights[:-1])
        x = base - share[index] * scale * sum(w * d for w, d in zip(weights, differences))
        if index == count:
            return (x / share[index]).float()
        newest = clean(x, index)
        weights = [0.5] if own == 1 else torch.linalg.solve(powers, rights)
        moved = sum(w * d for w, d in zip(weights, [*differences, newest - known[0]]))
        x = base - share[index] * scale * moved
        known = [newest, *known[:2]]
    raise AssertionError

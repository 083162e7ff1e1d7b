//! Quantiles of the symmetric beta distribution.

/// Steps of a bisection after which an f64 between 0 and 1 has no bit left to find.
const BISECTIONS: usize = 1100;

/// The `x` below which a beta distribution with both parameters `shape` (above 0) has the share
/// `probability`, 0 to 1, of its mass: `scipy.stats.beta.ppf(probability, shape, shape)`.
pub(super) fn quantile(probability: f64, shape: f64) -> f64 {
    if probability <= 0.0 {
        return 0.0;
    }
    if probability > 0.5 {
        return 1.0 - quantile(1.0 - probability, shape);
    }
    if probability >= 0.5 {
        // By symmetry, to the last bit, as a whole timestep may hang on it.
        return 0.5;
    }
    let (mut low, mut high) = (0.0, 0.5);
    for _ in 0..BISECTIONS {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if mass_below(middle, shape) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// The regularised incomplete beta function `I_x(shape, shape)` for `x` up to 1/2, by its continued fraction
/// (Abramowitz and Stegun 26.5.8), evaluated as Lentz did; there it converges in tens of terms.
fn mass_below(x: f64, shape: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let front = (shape * (x * (1.0 - x)).ln() - log_beta(shape)).exp() / shape;
    let guard = |value: f64| if value.abs() < TINY { TINY } else { value };
    let (mut c, mut d) = (1.0, 1.0 / guard(1.0 - 2.0 * shape * x / (shape + 1.0)));
    let mut fraction = d;
    for m in 1..300 {
        let m = f64::from(m);
        let even = m * (shape - m) * x / ((shape + 2.0 * m - 1.0) * (shape + 2.0 * m));
        let odd =
            -(shape + m) * (2.0 * shape + m) * x / ((shape + 2.0 * m) * (shape + 2.0 * m + 1.0));
        let mut change = 1.0;
        for term in [even, odd] {
            d = 1.0 / guard(1.0 + term * d);
            c = guard(1.0 + term / c);
            change = c * d;
            fraction *= change;
        }
        if (change - 1.0_f64).abs() < 1e-16 {
            break;
        }
    }
    front * fraction
}

/// `ln B(shape, shape)`.
fn log_beta(shape: f64) -> f64 {
    2.0 * log_gamma(shape) - log_gamma(2.0 * shape)
}

/// `ln Γ(x)` for `x` above 0: Stirling's series (Abramowitz and Stegun 6.1.41) at `x + 10`, then the recurrence.
fn log_gamma(x: f64) -> f64 {
    const SHIFT: u32 = 10;
    let product: f64 = (0..SHIFT).map(|index| x + f64::from(index)).product();
    let z = x + f64::from(SHIFT);
    let z2 = z * z;
    let series = (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - 1.0 / (1680.0 * z2)) / z2) / z2) / z;
    (z - 0.5) * z.ln() - z + 0.5 * std::f64::consts::TAU.ln() + series - product.ln()
}

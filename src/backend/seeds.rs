//! The seeds of a batch, and what else decides the noise.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use super::sampling::{SamplingConfig, check_real, check_size};
use crate::error::{Error, Result};
use crate::rng::{PictureSeeds, RngKind, Variation};

/// What a caller says about noise beside the seed, in the webui's terms.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SeedOptions {
    /// Whose random numbers.
    pub rng: RngKind,
    /// Seed of the noise that is mixed into the first picture's start; picture `i` takes `variation_seed + i`.
    /// `None` draws one and reports it.
    pub variation_seed: Option<u64>,
    /// Share of that noise, 0 (none) to 1. Above 0 all pictures of a batch have the same seed.
    pub variation_strength: f64,
    /// Width and height in pixels of the picture whose noise stands in the middle of the start.
    pub resize_from: Option<(usize, usize)>,
    /// The webui's eta noise seed delta: added to the seed for what samplers draw on their way.
    pub eta_delta: i64,
    /// Whose random numbers samplers draw on their way, from a generator of its own; `None` goes on with that of the
    /// start, as the webui and diffusers do.
    pub fresh_rng: Option<RngKind>,
}

impl SeedOptions {
    /// Checks the options for a batch of `batch` pictures from `seed`.
    ///
    /// # Errors
    /// Naming the field, what was found and what is allowed.
    pub(super) fn check(&self, seed: Option<u64>, batch: usize) -> Result<()> {
        let strength = self.variation_strength;
        check_real("variation_strength", strength, 0.0, 1.0)?;
        if let Some((width, height)) = self.resize_from {
            check_size("seed_resize_from's width", width)?;
            check_size("seed_resize_from's height", height)?;
        }
        let last = batch as u64 - 1;
        let (of_seed, of_variation) = if strength > 0.0 { (0, last) } else { (last, 0) };
        self.check_seed("seed", seed, of_seed)?;
        self.check_seed("variation_seed", self.variation_seed, of_variation)?;
        self.check_delta(seed, of_seed)
    }

    /// The largest seed that every generator in use takes.
    fn max_seed(&self) -> u64 {
        let fresh = self.fresh_rng.unwrap_or(self.rng);
        self.rng.max_seed().min(fresh.max_seed())
    }

    /// Torch's generators wrap; NumPy's refuses seeds it has no room for.
    fn check_seed(&self, name: &str, seed: Option<u64>, more: u64) -> Result<()> {
        let max = self.max_seed();
        match seed {
            Some(seed) if max < u64::MAX && seed > max - more => Err(Error::invalid(format!(
                "{name} is {seed}, expected at most {} with the {} generator",
                max - more,
                self.rng
            ))),
            _ => Ok(()),
        }
    }

    fn check_delta(&self, seed: Option<u64>, more: u64) -> Result<()> {
        let max = self.max_seed();
        if max == u64::MAX || self.eta_delta == 0 {
            return Ok(());
        }
        let Some(seed) = seed else {
            return Err(Error::invalid(format!(
                "eta_delta is {} and no seed is given, whose sum the {} generator may have no room for",
                self.eta_delta, self.rng
            ))
            .with_hint("give a seed"));
        };
        let fits = |seed: u64| {
            let moved = seed.checked_add_signed(self.eta_delta);
            moved.is_some_and(|seed| seed <= max)
        };
        if fits(seed) && fits(seed + more) {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "seed {seed} and eta_delta {} give a seed outside 0 to {max}, which the {} generator does not take",
            self.eta_delta, self.rng
        )))
    }
}

/// Reads a size such as `512x768`.
///
/// # Errors
/// When it is none.
pub fn parse_size(text: &str) -> Result<(usize, usize)> {
    let size = text
        .split_once('x')
        .and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    size.ok_or_else(|| {
        Error::invalid(format!(
            "the size is {text:?}, expected width and height in pixels such as 512x768"
        ))
    })
}

/// The seeds of a batch, those not given drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seeds {
    first: u64,
    variation: Option<Variation>,
    options: SeedOptions,
}

impl Seeds {
    pub(super) fn resolve(config: &SamplingConfig) -> Self {
        let options = config.seeds;
        let strength = options.variation_strength;
        Self {
            first: given_or_drawn(config.seed, config.batch),
            variation: (strength > 0.0).then(|| Variation {
                seed: given_or_drawn(options.variation_seed, config.batch),
                strength,
            }),
            options,
        }
    }

    /// Those of picture `index`, as the webui counts: a batch of variations shares the seed. `factor` is what the
    /// VAE reduces by.
    pub(super) fn of_picture(&self, index: usize, factor: usize) -> PictureSeeds {
        let counted = |seed: u64| seed.wrapping_add(index as u64);
        PictureSeeds {
            rng: self.options.rng,
            seed: match self.variation {
                None => counted(self.first),
                Some(_) => self.first,
            },
            variation: self.variation.map(|variation| Variation {
                seed: counted(variation.seed),
                ..variation
            }),
            resize_from: self
                .options
                .resize_from
                .map(|(width, height)| [height / factor, width / factor]),
            eta_delta: self.options.eta_delta,
            fresh_rng: self.options.fresh_rng,
        }
    }
}

/// The seed of a call: the one given, or one drawn.
///
/// A drawn seed, and those of the whole batch that counts up from it, have 32 bits, which every program that reads
/// the picture's metadata can hold.
fn given_or_drawn(seed: Option<u64>, batch: usize) -> u64 {
    // A fresh `RandomState` is keyed by the operating system's random numbers.
    seed.unwrap_or_else(|| {
        let drawn = RandomState::new().build_hasher().finish() & u64::from(u32::MAX);
        drawn.min(u64::from(u32::MAX) - batch as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds(config: &SamplingConfig) -> Vec<PictureSeeds> {
        let seeds = Seeds::resolve(config);
        (0..config.batch)
            .map(|index| seeds.of_picture(index, 8))
            .collect()
    }

    fn config(seed: Option<u64>, options: SeedOptions) -> SamplingConfig {
        SamplingConfig {
            seed,
            batch: 3,
            seeds: options,
            ..SamplingConfig::default()
        }
    }

    #[test]
    fn drawn_seeds_differ_and_fit_32_bits() {
        let seeds: Vec<u64> = (0..8).map(|_| given_or_drawn(None, 64)).collect();
        assert!(seeds.iter().all(|&seed| u32::try_from(seed + 63).is_ok()));
        assert!(seeds.iter().any(|&seed| seed != seeds[0]));
    }

    #[test]
    fn pictures_count_up_and_wrap() {
        let found = seeds(&config(Some(u64::MAX), SeedOptions::default()));
        assert_eq!(
            found.iter().map(|s| s.seed).collect::<Vec<_>>(),
            [u64::MAX, 0, 1]
        );
        assert!(found.iter().all(|seeds| seeds.variation.is_none()));
    }

    #[test]
    fn variations_share_the_seed_and_count_their_own() {
        let options = SeedOptions {
            variation_seed: Some(7),
            variation_strength: 0.5,
            ..SeedOptions::default()
        };
        for (index, found) in seeds(&config(Some(42), options)).iter().enumerate() {
            assert_eq!(found.seed, 42);
            assert_eq!(found.variation.unwrap().seed, 7 + index as u64);
        }
    }

    #[test]
    fn numpy_refuses_seeds_it_has_no_room_for() {
        let max = u64::from(u32::MAX);
        let numpy = SeedOptions {
            rng: RngKind::Numpy,
            ..SeedOptions::default()
        };
        let moved = |eta_delta| SeedOptions { eta_delta, ..numpy };
        let check = |seed, options: SeedOptions| options.check(seed, 3).map_err(|e| e.to_string());
        assert!(check(Some(max - 2), numpy).is_ok());
        assert!(
            check(Some(max - 1), numpy)
                .unwrap_err()
                .contains("4294967293")
        );
        assert!(check(Some(max - 1), SeedOptions::default()).is_ok());
        assert!(check(Some(40), moved(31337)).is_ok());
        assert!(check(Some(40), moved(-41)).is_err());
        assert!(check(Some(max - 3), moved(2)).is_err());
        assert!(check(None, moved(2)).unwrap_err().contains("no seed"));
    }
}

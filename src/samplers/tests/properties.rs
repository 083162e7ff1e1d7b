//! What must hold for every sampler in the table.

use serde_json::json;

use super::{neighbour_network, run, scheduler, stays_finite};
use crate::HostTensor;
use crate::error::{Error, ErrorKind};
use crate::rng::{RngKind, SeededNoise};
use crate::samplers::tests::Dummy;
use crate::samplers::{Coordinates, Denoiser, Guided, NoiseSource, SAMPLERS, SamplerKind};

/// Stable Diffusion 1.5's, with what the samplers differ in set alike.
fn config() -> serde_json::Value {
    json!({
        "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "steps_offset": 1, "clip_sample": false, "skip_prk_steps": true, "set_alpha_to_one": true,
    })
}

#[test]
fn a_batch_is_its_pictures_byte_for_byte() {
    // The step size of the adaptive one depends on all it is given; pictures are made one by one.
    for row in SAMPLERS
        .iter()
        .filter(|row| row.kind != SamplerKind::DpmAdaptive)
    {
        let scheduler = scheduler(&config(), row.name, 6).unwrap();
        let seeds = [7, 8, 9];
        let picture = |seeds: &[u64]| {
            let mut noise = SeededNoise::new(RngKind::TorchCpu, seeds.iter().copied());
            let start = noise.noise(&[seeds.len(), 4, 4, 4]);
            run(
                &scheduler,
                scheduler.plan().start(start),
                &mut noise,
                neighbour_network,
            )
        };
        let batch = picture(&seeds);
        for (index, seed) in seeds.into_iter().enumerate() {
            let alone = picture(&[seed]);
            assert_eq!(
                bits(&batch.item(index).unwrap()),
                bits(&alone),
                "{} of {}",
                index,
                row.name
            );
        }
    }
}

fn bits(tensor: &HostTensor) -> Vec<u32> {
    tensor.data().iter().map(|value| value.to_bits()).collect()
}

#[test]
fn every_run_falls_and_ends_at_the_clean_latents() {
    for row in SAMPLERS {
        for steps in [4, 10, 33] {
            let scheduler = scheduler(&config(), row.name, steps).unwrap();
            let plan = scheduler.plan();
            let end = plan.last().sigma;
            // These end at the smallest noise of training, as upstream.
            let expected = match row.kind {
                SamplerKind::DpmFast
                | SamplerKind::DpmAdaptive
                | SamplerKind::DeisMultistep
                | SamplerKind::SaSolver
                | SamplerKind::UniPc
                | SamplerKind::Tcd => f64::from(scheduler.schedule().sigmas()[0]),
                // As ComfyUI has it.
                SamplerKind::UniPcComfy | SamplerKind::UniPcBh2Comfy => 0.001,
                _ => 0.0,
            };
            assert!((end - expected).abs() < 1e-7, "{} ends at {end}", row.name);
            for step in plan.steps() {
                assert!(step.to.sigma < step.from.sigma, "{}: {step:?}", row.name);
            }
            assert_eq!(row.coordinates, plan.coordinates(), "{}", row.name);
        }
    }
}

/// A model that knows the picture.
struct Perfect<'a>(&'a HostTensor);

impl Denoiser for Perfect<'_> {
    fn denoise(&mut self, _: &HostTensor, _: f64) -> crate::Result<HostTensor> {
        Ok(self.0.clone())
    }

    fn denoise_at(&mut self, _: &HostTensor, _: usize) -> crate::Result<HostTensor> {
        Ok(self.0.clone())
    }

    fn denoise_guided(&mut self, _: &HostTensor, _: f64) -> crate::Result<Guided> {
        Ok(Guided {
            denoised: self.0.clone(),
            unconditional: self.0.clone(),
        })
    }

    fn denoise_guided_at(&mut self, x: &HostTensor, _: usize) -> crate::Result<Guided> {
        self.denoise_guided(x, 0.0)
    }
}

#[test]
fn a_perfect_denoiser_gives_the_picture() {
    let mut noise = SeededNoise::new(RngKind::TorchCpu, [1]);
    let picture = noise.noise(&[1, 4, 4, 4]);
    for row in SAMPLERS {
        let scheduler = scheduler(&config(), row.name, 24).unwrap();
        let start = scheduler.plan().start(noise.noise(&[1, 4, 4, 4]));
        let found = scheduler
            .sample(start, &mut Perfect(&picture), &mut noise, &mut |_, _, _| {
                Ok(())
            })
            .unwrap();
        // Five standard deviations of the noise that is left where the run ends, and what rounding leaves.
        let tolerance = 2e-3 + 5.0 * scheduler.plan().last().sigma as f32;
        for (found, expected) in found.data().iter().zip(picture.data()) {
            assert!(
                (found - expected).abs() < tolerance,
                "{}: {found}, {expected}",
                row.name
            );
        }
    }
}

#[test]
fn the_observer_sees_every_step_and_can_stop_the_run() {
    for row in SAMPLERS {
        let scheduler = scheduler(&config(), row.name, 5).unwrap();
        let mut noise = SeededNoise::new(RngKind::TorchCpu, [3]);
        let start = scheduler.plan().start(noise.noise(&[1, 4, 4, 4]));
        let mut denoiser = Dummy {
            schedule: scheduler.schedule(),
            plan: scheduler.plan(),
            network: neighbour_network,
        };
        let mut seen = Vec::new();
        let error = scheduler
            .sample(
                start,
                &mut denoiser,
                &mut noise,
                &mut |step, x, denoised| {
                    assert_eq!(x.shape(), denoised.unwrap().shape());
                    assert_eq!(step.total, scheduler.plan().steps().len());
                    seen.push(step.index);
                    if step.index == 2 {
                        return Err(Error::new(ErrorKind::Cancelled, "enough"));
                    }
                    Ok(())
                },
            )
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(seen, [0, 1, 2], "{}", row.name);
    }
}

#[test]
fn only_samplers_in_sigmas_take_a_schedule() {
    for row in SAMPLERS {
        let result = scheduler(&config(), &format!("{} karras", row.name), 8);
        match row.coordinates {
            Coordinates::VarianceExploding
                if !matches!(row.kind, SamplerKind::DpmFast | SamplerKind::DpmAdaptive) =>
            {
                assert_eq!(result.unwrap().kind(), row.kind);
            }
            _ => {
                assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidConfig);
            }
        }
    }
}

#[test]
fn those_on_timesteps_that_the_webui_has_too_take_its_timesteps() {
    for row in SAMPLERS {
        if row.coordinates == Coordinates::VarianceExploding {
            continue;
        }
        let taken = ["ddim", "pndm", "ddim_cfg_pp"].contains(&row.name);
        for steps in 1..=60 {
            let config = json!({"num_train_timesteps": 60});
            let name = format!("{} ddim_uniform", row.name);
            match scheduler(&config, &name, steps) {
                Ok(scheduler) => {
                    assert!(taken && steps > 1, "{name}");
                    assert!((scheduler.plan().last().timestep - 1.0).abs() < 1e-12);
                    stays_finite(&scheduler, &format!("{name} {steps}"));
                }
                Err(error) => {
                    assert!(!taken || steps == 1, "{error}");
                    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
                }
            }
        }
    }
}

#[test]
fn every_number_of_steps_runs_or_says_why_not() {
    let config = json!({"num_train_timesteps": 60, "original_inference_steps": 20});
    for spacing in ["leading", "linspace", "trailing"] {
        for row in SAMPLERS {
            for steps in 0..=61 {
                let mut config = config.clone();
                config["timestep_spacing"] = json!(spacing);
                match scheduler(&config, row.name, steps) {
                    Ok(scheduler) => {
                        stays_finite(&scheduler, &format!("{} {spacing} {steps}", row.name));
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
                        assert!(error.message().contains("step"), "{error}");
                        assert!(
                            steps == 0 || steps > 3 || row.name == "pndm",
                            "{} {steps}: {error}",
                            row.name
                        );
                    }
                }
            }
        }
    }
}

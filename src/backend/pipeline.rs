//! One call from settings to pictures: text, schedule, denoising, decoding.

use std::sync::Arc;
use std::time::{Duration, Instant};

use image::DynamicImage;

use super::bench::Stage;
use super::conditioning::{EncodedTexts, Texts};
use super::conditions::Conditions;
use super::inference::GuidedDenoiser;
use super::memory;
use super::model::SDModel;
use super::parameters;
use super::sampling::{MAX_SIZE_PX, SamplingConfig};
use super::scheduler::{Scheduler, SchedulerRequest};
use super::seeds::Seeds;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{CancelToken, Event, Observer, StepEvent};
use crate::guidance::{Blocks, GuidanceMethod, GuidancePlan, Guide, Needs, RunLength};
use crate::host::HostTensor;
use crate::image_io::tensor_to_images;
use crate::metadata::Parameters;
use crate::nn::Device;
use crate::prompt::Chooser;
use crate::rng::PictureSeeds;
use crate::samplers::schedule::StepTable;
use crate::samplers::{SamplerKind, StepInfo};

/// A finished picture with everything needed to make it again.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratedImage {
    /// The picture, 8-bit RGB.
    pub image: DynamicImage,
    /// The seed that this picture of the batch started from.
    pub seed: u64,
    /// The final latents, (1, C, H / factor, W / factor), as the UNet leaves them.
    pub latents: HostTensor,
    /// The effective settings as the webui's `parameters` text holds them.
    pub parameters: Parameters,
    /// Predictions that the UNet made: two for each evaluation that is guided, one for each that is not, and more for
    /// prompts of several parts and perturbed attention.
    pub unet_passes: usize,
    /// Where the time went.
    pub timings: Timings,
}

/// Where the time of one picture went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// Encoding the prompts, once for all pictures in a row with the same ones.
    pub text: Duration,
    /// All denoising steps.
    pub denoise: Duration,
    /// Latents to pixels.
    pub decode: Duration,
}

/// Whom a running call tells, and who may stop it.
pub(super) struct Reporter<'a> {
    observer: &'a mut dyn Observer,
    cancel: &'a CancelToken,
}

impl Reporter<'_> {
    pub(super) fn tell(&mut self, event: &Event) {
        self.observer.on_event(event);
    }
}

impl SDModel {
    /// Makes the pictures of `config`, one after the other, on the calling thread and its rayon pool.
    ///
    /// Programs with an async runtime want [`CandleSDBackend`](super::CandleSDBackend), which keeps the model on a
    /// thread of its own.
    ///
    /// # Errors
    /// Invalid settings, failures of the model, and [`ErrorKind::Cancelled`].
    pub fn generate(
        &self,
        config: &SamplingConfig,
        observer: &mut dyn Observer,
        cancel: &CancelToken,
    ) -> Result<Vec<GeneratedImage>> {
        config.validate()?;
        let reporter = &mut Reporter { observer, cancel };
        self.validate_size(config)?;
        if let Some(pag) = &config.guidance.pag {
            pag.blocks.check(self.unet.config())?;
        }
        if config.guidance.sag.is_some() {
            Blocks::MID.check(self.unet.config())?;
        }
        if let Some(freeu) = &config.guidance.freeu {
            freeu.check(self.unet.config())?;
        }
        // Pictures of a batch are made one after the other; a guided pass has two items, and composed prompts more.
        self.require_memory((config.width, config.height), 2)?;
        let scheduler = Scheduler::new(
            &self.scheduler,
            &SchedulerRequest {
                sampler: config.sampler.as_deref(),
                schedule: config.schedule.as_deref(),
                steps: config.steps,
                noise: config.noise,
                levels: config.levels.as_ref(),
                options: config.level_options,
                step_table: self.step_table(),
            },
        )?;
        let mut chooser = Chooser::new(
            &config.prompt,
            config.negative_prompt.as_deref(),
            &config.text,
        )?;
        let seeds = Seeds::resolve(config);
        let mut pictures = Vec::with_capacity(config.batch);
        let mut last: Option<Call<'_>> = None;
        for index in 0..config.batch {
            let own_seeds = seeds.of_picture(index, self.vae.config().scale_factor());
            let (prompt, negative_prompt) = chooser.picture(index, own_seeds.seed)?;
            let call = match last.take() {
                Some(call) if call.reads(&prompt, negative_prompt.as_deref()) => call,
                _ => {
                    let own = SamplingConfig {
                        prompt,
                        negative_prompt,
                        ..config.clone()
                    };
                    self.call(own, config, &scheduler, reporter)?
                }
            };
            let picture = call.picture(self, (index, own_seeds), reporter)?;
            reporter.tell(&Event::Finished(Arc::new(picture.clone())));
            pictures.push(picture);
            last = Some(call);
        }
        Ok(pictures)
    }

    /// Encodes the prompts of `config`, which are those of `template` with their choices made.
    fn call<'a>(
        &self,
        config: SamplingConfig,
        template: &'a SamplingConfig,
        scheduler: &'a Scheduler,
        reporter: &mut Reporter<'_>,
    ) -> Result<Call<'a>> {
        let start = Instant::now();
        self.engine.enter(Stage::Text.name());
        let steps = match config.levels {
            None => config.steps,
            Some(_) => scheduler.plan().steps().len(),
        };
        let length = RunLength {
            steps,
            evaluations: scheduler.kind().spec().evaluations,
        };
        let evaluations = length.steps * length.evaluations;
        let texts = Texts::read(&config, evaluations, &mut |warning| {
            reporter.tell(&Event::Warning(warning));
        })?;
        let needs = self.needs(&config, &texts, scheduler.kind())?;
        let scale = (config.guidance_scale, config.guidance_rescale);
        let guidance = GuidancePlan::new(scale, &config.guidance, length, needs)?;
        if config.guidance.method != GuidanceMethod::Cfg && !guidance.may_guide() {
            reporter.tell(&Event::Warning(format!(
                "{} has no effect, since nothing is guided by a scale of 1 or less",
                config.guidance.method.name()
            )));
        }
        let texts = self.encode_texts(&texts, &config, &guidance, reporter)?;
        Ok(Call {
            config,
            template,
            scheduler,
            guidance,
            texts,
            text: start.elapsed(),
        })
    }

    /// Refuses sizes that the VAE's reduction does not divide. The UNet takes any:
    /// where its own halvings meet an odd number, the way up gives the size of the skip it joins.
    pub(super) fn validate_size(&self, config: &SamplingConfig) -> Result<()> {
        let factor = self.vae.config().scale_factor();
        let mut sizes = vec![("width", config.width), ("height", config.height)];
        if let Some((width, height)) = config.seeds.resize_from {
            sizes.extend([
                ("seed_resize_from's width", width),
                ("seed_resize_from's height", height),
            ]);
        }
        for (name, found) in sizes {
            if !found.is_multiple_of(factor) {
                let below = found / factor * factor;
                let nearest: Vec<_> = [below, below + factor]
                    .into_iter()
                    .filter(|size| (1..=MAX_SIZE_PX).contains(size))
                    .map(|size| size.to_string())
                    .collect();
                return Err(Error::invalid(format!(
                    "{name} is {found}, expected a multiple of {factor}, by which this model's vae reduces pictures"
                ))
                .with_hint(format!("use {}", nearest.join(" or "))));
            }
        }
        Ok(())
    }

    /// Refuses a size whose activations would not fit into the processor's memory, with `items` to a pass of the UNet.
    pub(super) fn require_memory(&self, size: (usize, usize), items: usize) -> Result<()> {
        if self.engine.device() != Device::Cpu {
            return Ok(());
        }
        let needed = memory::activation_bytes(self.unet.config(), self.vae.config(), size, items);
        let available = memory::available().map(|bytes| bytes + self.engine.idle_bytes());
        memory::require(needed, available, size)
    }

    /// The published tables differ between the UNets that are told sizes, as SDXL's, and those that are not.
    fn step_table(&self) -> StepTable {
        if self.unet.config().addition.is_some() {
            StepTable::Sdxl
        } else {
            StepTable::Sd15
        }
    }

    /// Why the unconditional prediction is made.
    fn needs(&self, config: &SamplingConfig, texts: &Texts, sampler: SamplerKind) -> Result<Needs> {
        if self.takes_guidance_embedding() {
            return refuse_for_distilled(config, texts, sampler);
        }
        Ok(if sampler.spec().unconditional {
            Needs::Always
        } else if texts.is_composed() {
            Needs::Weights
        } else {
            Needs::Scale
        })
    }
}

/// A model that is told the guidance scale makes one prediction and has nothing to compare it with.
fn refuse_for_distilled(
    config: &SamplingConfig,
    texts: &Texts,
    sampler: SamplerKind,
) -> Result<Needs> {
    let (asked, hint) = if sampler.spec().unconditional {
        (
            format!("{sampler} needs an unconditional estimate"),
            "choose a sampler without CFG++, such as lcm",
        )
    } else if texts.is_composed() {
        (
            "the prompt composes parts by weight against an unconditional estimate".to_owned(),
            "take `AND` and the weight at the end out of the prompt",
        )
    } else if !config.guidance.is_plain() {
        (
            "the settings of guidance ask for an unconditional estimate".to_owned(),
            "leave them out; the scale is all that such a model takes",
        )
    } else {
        return Ok(Needs::Nothing);
    };
    Err(Error::unsupported(format!(
        "{asked}, which this model, distilled to one pass a step, does not make"
    ))
    .with_hint(hint))
}

/// What all pictures of the same prompts share.
struct Call<'a> {
    /// With the choices in the prompts made.
    config: SamplingConfig,
    /// As the caller gave it.
    template: &'a SamplingConfig,
    scheduler: &'a Scheduler,
    guidance: GuidancePlan,
    texts: EncodedTexts,
    text: Duration,
}

impl Call<'_> {
    fn reads(&self, prompt: &str, negative: Option<&str>) -> bool {
        self.config.prompt == prompt && self.config.negative_prompt.as_deref() == negative
    }

    /// Makes picture `index` of the batch.
    fn picture(
        &self,
        model: &SDModel,
        (index, seeds): (usize, PictureSeeds),
        reporter: &mut Reporter<'_>,
    ) -> Result<GeneratedImage> {
        let start = Instant::now();
        model.engine.enter(Stage::Unet.name());
        let (latents, unet_passes) = self.denoise(model, (index, seeds), reporter)?;
        let denoise = start.elapsed();
        reporter.cancel.check()?;
        reporter.tell(&Event::Decoding {
            image: index,
            total: self.config.batch,
        });
        let start = Instant::now();
        model.engine.enter(Stage::Vae.name());
        let picture = model.vae.decode(&latents)?;
        let image = tensor_to_images(&picture)?
            .pop()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "the vae gave no picture"))?;
        let timings = Timings {
            text: self.text,
            denoise,
            decode: start.elapsed(),
        };
        let parameters =
            parameters::of(model, &self.config, self.template, (self.scheduler, seeds));
        Ok(GeneratedImage {
            image,
            seed: seeds.seed,
            latents,
            parameters,
            unet_passes,
            timings,
        })
    }

    /// Final latents of picture `index`, (1, C, H/f, W/f), in the UNet's scale, and how many predictions they took.
    fn denoise(
        &self,
        model: &SDModel,
        (index, seeds): (usize, PictureSeeds),
        reporter: &mut Reporter<'_>,
    ) -> Result<(HostTensor, usize)> {
        let factor = model.vae.config().scale_factor();
        let shape = [
            1,
            model.unet.config().in_channels,
            self.config.height / factor,
            self.config.width / factor,
        ];
        let (start, mut noise) = seeds.start(shape)?;
        let x = self.scheduler.plan().start(start);
        reporter.tell(&Event::Denoising {
            image: index,
            images: self.config.batch,
            steps: self.scheduler.plan().steps().len(),
        });
        let cancel = reporter.cancel;
        let mut denoiser = GuidedDenoiser {
            engine: &model.engine,
            unet: &model.unet,
            scheduler: self.scheduler,
            conditions: Conditions::new(model, &self.config, &self.texts),
            guide: Guide::new(&self.guidance),
            pag: self.config.guidance.pag,
            sag: self.config.guidance.sag.filter(|sag| sag.scale != 0.0),
            freeu: self.config.guidance.freeu,
            cancel,
            evaluations: 0,
            passes: 0,
        };
        let clock = StepClock {
            start: Instant::now(),
            image: index,
            images: self.config.batch,
        };
        let mut on_step = |info: &StepInfo, x: &HostTensor, _denoised: Option<&HostTensor>| {
            require_finite(x, info)?;
            reporter.tell(&Event::Step(clock.event(info)));
            cancel.check()
        };
        let latents = self
            .scheduler
            .sample(x, &mut denoiser, &mut noise, &mut on_step)?;
        Ok((latents, denoiser.passes))
    }
}

/// Turns a sampler's report into the event that observers see.
struct StepClock {
    start: Instant,
    image: usize,
    images: usize,
}

impl StepClock {
    fn event(&self, info: &StepInfo) -> StepEvent {
        let elapsed = self.start.elapsed();
        let done = info.index + 1;
        StepEvent {
            image: self.image,
            images: self.images,
            step: done,
            total: info.total,
            timestep: info.timestep,
            sigma: info.sigma,
            elapsed,
            remaining: elapsed.mul_f64((info.total.saturating_sub(done)) as f64 / done as f64),
        }
    }
}

fn require_finite(x: &HostTensor, info: &StepInfo) -> Result<()> {
    let Some(index) = x.first_non_finite() else {
        return Ok(());
    };
    Err(Error::new(
        ErrorKind::NonFinite,
        format!(
            "latents after step {} of {} hold {} at element {index}, expected finite numbers",
            info.index + 1,
            info.total,
            x.data()[index]
        ),
    ))
}

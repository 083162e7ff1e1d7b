//! `tintype generate`: check what can be checked, load, make pictures, save each as it comes.

use std::num::NonZero;
use std::time::Instant;

use anyhow::Context;
use tintype::samplers::NoiseOptions;
use tintype::samplers::schedule::CustomLevels;
use tintype::{
    CancelToken, CandleSDBackend, Error, ErrorKind, Event, LoadOptions, ModelSource, Observer,
    Result, SDModel, SamplingConfig, SeedOptions,
};
use tokio::sync::mpsc;

use crate::args::{GenerateArgs, PictureArgs};
use crate::gallery::Gallery;
use crate::logging::Talk;
use crate::naming::Naming;
use crate::output::{self, Form};
use crate::profile::{Detail, Profile};
use crate::progress::Progress;
use crate::report::{Clock, Machine, Report};
use crate::{cancel, chosen};

/// More threads than any machine has; a slip of the finger beyond it would exhaust the system.
const MAX_THREADS: usize = 1024;

/// Runs the command.
pub(crate) fn run(args: &GenerateArgs, talk: Talk) -> anyhow::Result<()> {
    let start = Instant::now();
    // Whatever is wrong with the request is said before minutes of loading.
    let typed = args
        .text
        .read(&args.prompt, args.picture.negative.as_deref())?;
    let over = |base| {
        let mut config = args.picture.over(base);
        config.guidance = args.guidance.over(config.guidance);
        config.level_options = args.levels.over(config.level_options);
        typed.over(config, args.picture.batch)
    };
    let request = over(SamplingConfig::default())?;
    request.validate()?;
    let options = args.load.options()?;
    if args.profile {
        require_profiler(&options)?;
    }
    let naming = Naming::new(
        args.files.out.as_deref(),
        request.batch,
        request.seeds.variation_strength > 0.0,
    )?;
    naming.check_writable(request.batch, request.seed)?;
    let fewer = use_threads(args.threads)?;
    let source = chosen::source(args.model.as_deref())?;

    let cancel = cancel::on_interrupt()?;
    let progress = Progress::new(talk);
    if let Some(fewer) = fewer {
        progress.warn(&fewer);
    }
    let model = load(&source, &options, &progress, &cancel)?;
    let summary = model.card().map(|card| card.summary.as_str());
    if let Some(notice) = chosen::notice(&source, summary) {
        progress.tell(notice);
    }
    let engine = model.engine().clone();
    let profiler = engine.profiler().filter(|_| args.profile).cloned();
    if let Some(profiler) = &profiler {
        profiler.start();
    }
    let loaded = start.elapsed();
    let config = over(model.default_config())?;
    let machine = Machine::new(&source, &options, &model);

    let mut gallery = Gallery::new(naming, progress.clone(), args.form.form());
    let outcome = denoise(model, config.clone(), &progress, &cancel, &mut gallery);
    progress.clear();
    let clock = Clock {
        load: loaded,
        total: start.elapsed(),
    };
    let profile = profiler.map(|profiler| Profile::new(&engine, &profiler.take()));
    let report = Report::new(
        &config,
        &machine,
        gallery.pictures(),
        progress.warnings(),
        clock,
    );
    if !gallery.pictures().is_empty() {
        progress.say(report.summary());
        if let Some(profile) = &profile {
            progress.tell(profile.table(Detail::Kernels));
        }
        if args.form.form() == Form::Json {
            output::write_json(&report.with_profile(profile))?;
        }
    }
    outcome
}

/// Refuses a profile that the engine cannot make.
fn require_profiler(options: &LoadOptions) -> Result<()> {
    if options.open_engine()?.profiler().is_some() {
        return Ok(());
    }
    Err(
        Error::unsupported("profile with engine candle: its layers are not timed one by one")
            .with_hint("leave --profile out, or use --engine cpu"),
    )
}

pub(crate) fn load(
    source: &ModelSource,
    options: &LoadOptions,
    progress: &Progress,
    cancel: &CancelToken,
) -> Result<SDModel> {
    let mut screen = progress.clone();
    let mut observer = |event: &Event| {
        screen.on_event(event);
        if let Event::Download { .. } = event {
            // A transfer ends only with its file; what is fetched so far is kept by the cache.
            cancel::leave_if_cancelled(cancel);
        }
    };
    let model = SDModel::load_with(source, options, &mut observer, cancel);
    progress.clear();
    model
}

fn denoise(
    model: SDModel,
    config: SamplingConfig,
    progress: &Progress,
    cancel: &CancelToken,
    gallery: &mut Gallery,
) -> anyhow::Result<()> {
    let backend = CandleSDBackend::new(model)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .context("cannot start the runtime")?;
    let (finished, mut pictures) = mpsc::unbounded_channel();
    let mut screen = progress.clone();
    let observer = move |event: &Event| {
        screen.on_event(event);
        if let Event::Finished(picture) = event {
            // Refused only when saving failed, which has stopped the run already.
            drop(finished.send(picture.clone()));
        }
    };
    let save = async {
        while let Some(picture) = pictures.recv().await {
            if let Err(error) = gallery.save(&picture) {
                cancel.cancel();
                return Err(error);
            }
        }
        Ok(())
    };
    let (made, saved) = runtime
        .block_on(async { tokio::join!(backend.generate(config, observer, cancel.clone()), save) });
    saved?;
    made?;
    Ok(())
}

/// Starts the threads that compute. Where the machine has fewer than asked for, it is those, and the result says so.
pub(crate) fn use_threads(threads: Option<usize>) -> Result<Option<String>> {
    let Some(threads) = threads else {
        return Ok(None);
    };
    if !(1..=MAX_THREADS).contains(&threads) {
        return Err(Error::invalid(format!(
            "threads is {threads}, expected 1 to {MAX_THREADS}"
        )));
    }
    let there = std::thread::available_parallelism().map_or(threads, NonZero::get);
    let taken = threads.min(there);
    rayon::ThreadPoolBuilder::new()
        .num_threads(taken)
        .build_global()
        .map_err(|source| {
            Error::new(
                ErrorKind::Io,
                format!("cannot start {taken} threads: {source}"),
            )
            .with_source(source)
        })?;
    Ok((taken < threads).then(|| {
        format!("threads is {threads}, and this machine runs {there} at a time: took {there}")
    }))
}

impl PictureArgs {
    fn levels(&self) -> Option<CustomLevels> {
        let sigmas = self.sigmas.clone().map(CustomLevels::Sigmas);
        sigmas.or_else(|| self.timesteps.clone().map(CustomLevels::Timesteps))
    }

    fn noise(&self, base: NoiseOptions) -> NoiseOptions {
        NoiseOptions {
            eta: self.eta.or(base.eta),
            s_churn: self.s_churn.or(base.s_churn),
            s_tmin: self.s_tmin.or(base.s_tmin),
            s_tmax: self.s_tmax.or(base.s_tmax),
            s_noise: self.s_noise.or(base.s_noise),
        }
    }

    fn seeds(&self, base: SeedOptions) -> SeedOptions {
        let strength = self.variation_strength;
        SeedOptions {
            rng: self.rng.unwrap_or(base.rng),
            variation_seed: self.variation_seed.or(base.variation_seed),
            variation_strength: strength.unwrap_or(base.variation_strength),
            resize_from: self.seed_resize_from.or(base.resize_from),
            eta_delta: self.ensd.unwrap_or(base.eta_delta),
            fresh_rng: self.fresh_rng.or(base.fresh_rng),
        }
    }

    /// `base` with what the user gave in its place.
    fn over(&self, base: SamplingConfig) -> SamplingConfig {
        SamplingConfig {
            negative_prompt: base.negative_prompt,
            steps: self.steps.unwrap_or(base.steps),
            guidance_scale: self.guidance.unwrap_or(base.guidance_scale),
            guidance_rescale: self.guidance_rescale.unwrap_or(base.guidance_rescale),
            guidance: base.guidance,
            seed: self.seed.or(base.seed),
            seeds: self.seeds(base.seeds),
            sampler: self.sampler.clone().or(base.sampler),
            schedule: self.schedule.clone().or(base.schedule),
            levels: self.levels().or(base.levels),
            level_options: base.level_options,
            noise: self.noise(base.noise),
            width: self.width.unwrap_or(base.width),
            height: self.height.unwrap_or(base.height),
            batch: self.batch.unwrap_or(base.batch),
            clip_skip: self.clip_skip.or(base.clip_skip),
            clip_skip_negative: self.clip_skip_negative || base.clip_skip_negative,
            prompt: base.prompt,
            text: base.text,
        }
    }
}

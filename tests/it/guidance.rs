//! Guidance over whole runs: how many predictions it takes, and that its settings are recorded.

use serde_json::Value;
use tintype::backend::Recorded;
use tintype::guidance::{Sag, Skips};
use tintype::{CancelToken, EngineKind, ErrorKind, Event, GuidanceOptions, SamplingConfig};

use crate::support::{generate, load, quick};

fn with(edit: impl Fn(&mut GuidanceOptions)) -> SamplingConfig {
    let mut config = SamplingConfig {
        steps: 4,
        sampler: Some("euler".into()),
        ..quick()
    };
    edit(&mut config.guidance);
    config
}

#[test]
fn a_step_without_guidance_takes_one_prediction() {
    let (_folder, model) = load("sd15", EngineKind::Auto);
    let sampler = |name: &str, edit: fn(&mut GuidanceOptions)| SamplingConfig {
        sampler: Some(name.into()),
        ..with(edit)
    };
    let cases = [
        (with(|_| {}), 8),
        (
            SamplingConfig {
                guidance_scale: 1.0,
                ..with(|_| {})
            },
            4,
        ),
        (with(|o| o.interval = Some("0.25..0.5".parse().unwrap())), 5),
        (
            with(|o| o.interval = Some("sigma:1..1000".parse().unwrap())),
            6,
        ),
        (with(|o| o.interval = Some("0.5..0.5".parse().unwrap())), 4),
        (with(|o| o.schedule = Some("7,1,1,3".parse().unwrap())), 6),
        (with(|o| o.schedule = Some("7..0".parse().unwrap())), 7),
        (with(|o| o.skip_early = 0.25), 6),
        (with(|o| o.min_sigma = 1000.0), 6),
        (
            with(|o| {
                o.min_sigma = 1000.0;
                o.min_sigma_skips = Skips::All;
            }),
            4,
        ),
        (
            with(|o| o.method = "cfg-zero:zero-steps=2".parse().unwrap()),
            4,
        ),
        (with(|o| o.method = "apg".parse().unwrap()), 8),
        // Variance preserving, and two evaluations a step but for the last.
        (sampler("ddim", |o| o.skip_early = 0.5), 5),
        (sampler("heun", |o| o.skip_early = 0.5), 9),
        // It asks for the unconditional estimate at every step.
        (sampler("euler_cfg_pp", |o| o.skip_early = 0.5), 8),
        // Two parts and the unconditional one; alone the first part stands for that.
        (
            SamplingConfig {
                prompt: "a cat AND a dog :0.5".into(),
                ..with(|o| o.skip_early = 0.25)
            },
            10,
        ),
    ];
    for (config, expected) in cases {
        let pictures = generate(&model, &config);
        assert_eq!(pictures[0].unet_passes, expected, "{config:?}");
    }
}

#[test]
fn a_run_that_is_never_guided_is_one_without_guidance() {
    let (_folder, model) = load("sd15", EngineKind::Auto);
    let plain = SamplingConfig {
        guidance_scale: 1.0,
        ..with(|_| {})
    };
    let never = with(|o| o.skip_early = 1.0);
    let constant = with(|o| o.schedule = Some("7.5..7.5".parse().unwrap()));
    let latents = |config: &SamplingConfig| generate(&model, config).remove(0).latents;
    assert_eq!(latents(&plain), latents(&never));
    assert_eq!(latents(&constant), latents(&with(|_| {})));
    assert_ne!(latents(&plain), latents(&constant));
}

#[test]
fn every_setting_is_recorded_and_read_back() {
    let (_folder, model) = load("sd15", EngineKind::Auto);
    let config = with(|o| {
        o.schedule = Some("7.5..2:cosine".parse().unwrap());
        o.interval = Some("sigma:0.28..50".parse().unwrap());
        o.min_sigma = 0.75;
        o.min_sigma_skips = Skips::All;
        o.skip_early = 0.05;
        o.method = "dynthres:mimic=3,percentile=99".parse().unwrap();
        o.pag = Some(
            "scale=1.5,adaptive=0.001,blocks=down.1+mid+up"
                .parse()
                .unwrap(),
        );
        o.sag = Some("scale=0.5,sigma=2,threshold=1,rule=forge".parse().unwrap());
        o.freeu = Some("b1=1.1,b2=1.2,s1=0.6,s2=0.4,version=2".parse().unwrap());
    });
    let picture = generate(&model, &config).remove(0);
    let text = picture.parameters.to_text();
    let read = tintype::metadata::Parameters::parse(&text);
    let recorded = Recorded::read(&read, SamplingConfig::default()).unwrap();
    assert_eq!(recorded.not_honoured, [], "{text}");
    assert_eq!(recorded.config.guidance, config.guidance, "{text}");
    let again = generate(&model, &recorded.config).remove(0);
    assert_eq!(again.latents, picture.latents);
    assert_ne!(again.latents, generate(&model, &with(|_| {}))[0].latents);
}

#[test]
fn what_has_no_effect_is_said() {
    let (_folder, model) = load("sd15", EngineKind::Auto);
    let config = SamplingConfig {
        guidance_scale: 1.0,
        ..with(|o| o.method = "apg".parse().unwrap())
    };
    let mut warnings = Vec::new();
    let mut observer = |event: &Event| {
        if let Event::Warning(text) = event {
            warnings.push(text.clone());
        }
    };
    model
        .generate(&config, &mut observer, &CancelToken::new())
        .unwrap();
    assert!(
        warnings
            .iter()
            .any(|text| text.contains("apg has no effect")),
        "{warnings:?}"
    );
}

#[test]
fn what_cannot_be_done_is_refused() {
    let (_folder, model) = load("sd15", EngineKind::Auto);
    let refused = |config: &SamplingConfig| {
        model
            .generate(config, &mut |_: &Event| {}, &CancelToken::new())
            .unwrap_err()
    };
    let short = refused(&with(|o| o.schedule = Some("7,6".parse().unwrap())));
    assert!(short.message().contains("2 scales, expected 4"), "{short}");
    let twice = refused(&SamplingConfig {
        guidance_rescale: 0.5,
        ..with(|o| o.method = "dynthres".parse().unwrap())
    });
    assert!(
        twice.message().contains("guidance_rescale is 0.5"),
        "{twice}"
    );
    for error in [short, twice] {
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    }
}

/// A recorded run of diffusers.
#[derive(serde::Deserialize)]
struct Run {
    name: String,
    freeu: Option<String>,
    pag: Option<String>,
    /// A weight alone, 0 for none, or settings.
    sag: Value,
    sampler: String,
    guidance: f64,
    guidance_rescale: f64,
    width: usize,
    height: usize,
    latents: Vec<f32>,
}

/// Final latents may differ by this much, as in whole runs without changes.
const LATENT_TOLERANCE: f32 = 1e-4;

/// More guidance on top of a scale of 7.5 takes them up to 16: by this share of the largest where that is more.
const LATENT_SHARE: f32 = 2e-5;

#[test]
fn what_changes_the_unet_makes_diffusers_latents() {
    let mut runs = Vec::new();
    for file in [
        include_str!("../data/guidance/runs.json"),
        include_str!("../data/guidance/forge_runs.json"),
    ] {
        let found: Vec<Run> = serde_json::from_str(file).unwrap();
        runs.extend(found);
    }
    let mut faults = Vec::new();
    for engine in [EngineKind::Cpu, EngineKind::Candle] {
        let (_folder, model) = load("sd15", engine);
        for run in &runs {
            let config = SamplingConfig {
                steps: 3,
                guidance_scale: run.guidance,
                guidance_rescale: run.guidance_rescale,
                width: run.width,
                height: run.height,
                sampler: Some(run.sampler.clone()),
                ..with(|o| {
                    o.sag = match &run.sag {
                        Value::String(text) => Some(text.parse().unwrap()),
                        weight => Some(weight.to_string().parse::<Sag>().unwrap())
                            .filter(|sag| sag.scale > 0.0),
                    };
                    o.freeu = run.freeu.as_deref().map(|text| text.parse().unwrap());
                    o.pag = run.pag.as_deref().map(|text| text.parse().unwrap());
                })
            };
            let picture = generate(&model, &config).remove(0);
            assert_eq!(picture.latents.data().len(), run.latents.len());
            let largest = run
                .latents
                .iter()
                .fold(1.0_f32, |most, x| most.max(x.abs()));
            let pairs = picture.latents.data().iter().zip(&run.latents);
            let worst = pairs.fold(0.0_f32, |worst, (own, other)| {
                worst.max((own - other).abs())
            });
            println!("{} on {engine}: {worst} of {largest}", run.name);
            if worst > LATENT_TOLERANCE.max(LATENT_SHARE * largest) {
                faults.push(format!("{} on {engine}: {worst} of {largest}", run.name));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn changes_of_attention_take_another_prediction_where_they_have_weight() {
    let (_folder, model) = load("sd15", EngineKind::Auto);
    let pag = |text: &str| with(|o| o.pag = Some(text.parse().unwrap()));
    let alone = SamplingConfig {
        guidance_scale: 1.0,
        ..pag("3")
    };
    let freeu = with(|o| o.freeu = Some("on".parse().unwrap()));
    let sag = with(|o| o.sag = Some(Sag::DEFAULT));
    let forge = with(|o| o.sag = Some(Sag::FORGE));
    let off = with(|o| o.sag = Some("0".parse().unwrap()));
    let composed = |prompt: &str| SamplingConfig {
        prompt: prompt.into(),
        ..with(|o| {
            o.sag = Some(Sag::DEFAULT);
            o.skip_early = 0.25;
        })
    };
    let cases = [
        (sag, 12),
        (forge, 12),
        (off, 8),
        // Guided steps take the unconditional prediction again, others the prompt's own.
        (composed("a cat"), 10),
        (composed("a cat AND a dog"), 16),
        (pag("3"), 12),
        (alone, 8),
        (pag("0"), 8),
        // Gone below timestep 400, the last two of the four.
        (pag("scale=3,adaptive=0.005"), 10),
        (freeu, 8),
    ];
    for (config, expected) in cases {
        let pictures = generate(&model, &config);
        assert_eq!(pictures[0].unet_passes, expected, "{config:?}");
    }
}

#[test]
fn blocks_without_self_attention_are_refused() {
    let (_folder, model) = load("bk-sdm-tiny", EngineKind::Auto);
    let pag = |text: &str| with(|o| o.pag = Some(text.parse().unwrap()));
    let error = model
        .generate(&pag("3"), &mut |_: &Event| {}, &CancelToken::new())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.message().contains(
            "the blocks asked for are mid, and this model's unet has self-attention in down.0"
        ),
        "{error}"
    );
    assert_eq!(
        generate(&model, &pag("scale=3,blocks=up"))[0].unet_passes,
        12
    );
    let sag = with(|o| o.sag = Some(Sag::DEFAULT));
    let error = model
        .generate(&sag, &mut |_: &Event| {}, &CancelToken::new())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn the_second_freeu_is_refused_where_it_has_no_place() {
    let (_folder, model) = load("sdxl", EngineKind::Auto);
    let freeu = with(|o| o.freeu = Some("version=2".parse().unwrap()));
    let error = model
        .generate(&freeu, &mut |_: &Event| {}, &CancelToken::new())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("96 and 48 channels"), "{error}");
}

#[test]
fn distilled_models_take_what_needs_no_unconditional_prediction() {
    let (_folder, model) = load("lcm", EngineKind::Auto);
    let quick = |edit: fn(&mut GuidanceOptions)| SamplingConfig {
        sampler: None,
        ..with(edit)
    };
    let error = model
        .generate(
            &quick(|o| o.skip_early = 0.5),
            &mut |_: &Event| {},
            &CancelToken::new(),
        )
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.message().contains("distilled to one pass a step"),
        "{error}"
    );
    let freeu = quick(|o| o.freeu = Some("on".parse().unwrap()));
    assert_eq!(generate(&model, &freeu)[0].unet_passes, 4);
}

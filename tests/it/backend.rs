//! The backend's promises: async, progress, cancel, batches, seeds, metadata.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tintype::{CancelToken, CandleSDBackend, EngineKind, ErrorKind, Event, SamplingConfig};

use crate::support::{generate, load, quick};

fn backend(family: &str) -> (tempfile::TempDir, CandleSDBackend) {
    let (folder, model) = load(family, EngineKind::Auto);
    (folder, CandleSDBackend::new(model).unwrap())
}

#[tokio::test]
async fn text_to_image_basic() {
    let (_folder, backend) = backend("sd15");
    let config = SamplingConfig {
        prompt: "a photo of a cat".into(),
        steps: 20,
        guidance_scale: 7.5,
        seed: Some(42),
        width: 512,
        height: 512,
        ..SamplingConfig::default()
    };
    let picture = backend.text_to_image(config).await.unwrap();
    assert_eq!((picture.width(), picture.height()), (512, 512));
}

#[tokio::test]
async fn events_come_in_order_and_the_steps_are_all_there() {
    let (_folder, backend) = backend("sd15");
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&events);
    let observer = move |event: &Event| sink.lock().unwrap().push(event.clone());
    let config = SamplingConfig {
        batch: 2,
        sampler: Some("euler".into()),
        ..quick()
    };
    let pictures = backend
        .generate(config, observer, CancelToken::new())
        .await
        .unwrap();

    let events = events.lock().unwrap();
    let names: Vec<String> = events
        .iter()
        .map(|event| match event {
            Event::EncodingText { texts } => format!("text {texts}"),
            Event::Denoising {
                image,
                images,
                steps,
            } => format!("denoise {image}/{images} in {steps}"),
            Event::Step(step) => format!("step {}.{}/{}", step.image, step.step, step.total),
            Event::Decoding { image, total } => format!("decode {image}/{total}"),
            Event::Finished(picture) => format!("finished {}", picture.seed),
            other => format!("{other:?}"),
        })
        .collect();
    let expected = [
        "text 2",
        "denoise 0/2 in 3",
        "step 0.1/3",
        "step 0.2/3",
        "step 0.3/3",
        "decode 0/2",
        "finished 42",
        "denoise 1/2 in 3",
        "step 1.1/3",
        "step 1.2/3",
        "step 1.3/3",
        "decode 1/2",
        "finished 43",
    ];
    assert_eq!(names, expected);
    let sigmas: Vec<f64> = events
        .iter()
        .filter_map(|event| {
            if let Event::Step(step) = event {
                Some(step.sigma)
            } else {
                None
            }
        })
        .collect();
    assert!(
        sigmas[..3].is_sorted_by(|a, b| a > b),
        "noise falls: {sigmas:?}"
    );
    let finished: Vec<_> = events
        .iter()
        .filter_map(|event| {
            if let Event::Finished(p) = event {
                Some(&**p)
            } else {
                None
            }
        })
        .collect();
    assert_eq!(finished, pictures.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn cancel_stops_within_one_step_and_keeps_what_was_finished() {
    let (_folder, backend) = backend("sd15");
    let cancel = CancelToken::new();
    let seen = Arc::new(Mutex::new((0, 0)));
    let (token, counts) = (cancel.clone(), Arc::clone(&seen));
    let observer = move |event: &Event| match event {
        Event::Finished(_) => counts.lock().unwrap().0 += 1,
        Event::Step(step) if step.image == 1 => {
            counts.lock().unwrap().1 += 1;
            token.cancel();
        }
        _ => {}
    };
    let config = SamplingConfig {
        batch: 3,
        steps: 10,
        ..quick()
    };
    let error = backend
        .generate(config, observer, cancel)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(
        *seen.lock().unwrap(),
        (1, 1),
        "(finished pictures, steps after the cancel)"
    );

    let next = backend
        .generate(quick(), |_: &Event| {}, CancelToken::new())
        .await;
    assert!(next.is_ok(), "the backend serves on after a cancel");
}

#[tokio::test]
async fn dropping_the_future_frees_the_model() {
    let (_folder, backend) = backend("sd15");
    let steps = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&steps);
    let observer = move |event: &Event| {
        if matches!(event, Event::Step(_)) {
            *counter.lock().unwrap() += 1;
        }
    };
    let long = SamplingConfig {
        steps: 1000,
        sampler: Some("euler".into()),
        ..quick()
    };
    let run = backend.generate(long, observer, CancelToken::new());
    assert!(
        tokio::time::timeout(Duration::from_millis(300), run)
            .await
            .is_err(),
        "1000 steps take longer"
    );
    backend.text_to_image(quick()).await.unwrap();
    assert!(
        *steps.lock().unwrap() < 1000,
        "the abandoned run went to its end"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn computing_never_blocks_the_runtime() {
    let (_folder, backend) = backend("sd15");
    let mut ticks = 0;
    let run = backend.text_to_image(SamplingConfig {
        steps: 30,
        ..quick()
    });
    tokio::pin!(run);
    loop {
        tokio::select! {
            picture = &mut run => {
                picture.unwrap();
                break;
            }
            () = tokio::time::sleep(Duration::from_millis(1)) => ticks += 1,
        }
    }
    assert!(ticks > 3, "the timer ran only {ticks} times during the run");
}

#[tokio::test]
async fn calls_queue_and_are_all_answered() {
    let (_folder, backend) = backend("sd15");
    let run = |seed| {
        let backend = backend.clone();
        tokio::spawn(async move {
            backend
                .text_to_image(SamplingConfig {
                    seed: Some(seed),
                    ..quick()
                })
                .await
        })
    };
    let runs: Vec<_> = (0..4).map(run).collect();
    let mut pictures = Vec::new();
    for run in runs {
        pictures.push(run.await.unwrap().unwrap());
    }
    assert!(
        pictures.windows(2).all(|pair| pair[0] != pair[1]),
        "each call has its own seed"
    );
}

#[test]
fn a_batch_equals_single_runs_byte_for_byte() {
    let (_folder, model) = load("sdxl", EngineKind::Auto);
    let config = SamplingConfig {
        sampler: Some("euler_a".into()),
        batch: 3,
        ..quick()
    };
    for (index, picture) in generate(&model, &config).into_iter().enumerate() {
        let seed = 42 + index as u64;
        assert_eq!(picture.seed, seed);
        let single = generate(
            &model,
            &SamplingConfig {
                batch: 1,
                seed: Some(seed),
                ..config.clone()
            },
        )
        .remove(0);
        assert_eq!(
            (single.image, single.latents),
            (picture.image, picture.latents)
        );
    }
}

#[test]
fn a_drawn_seed_is_reported_and_repeats_the_picture() {
    let (_folder, model) = load("sd15", EngineKind::Auto);
    let drawn = generate(
        &model,
        &SamplingConfig {
            seed: None,
            ..quick()
        },
    )
    .remove(0);
    let again = generate(
        &model,
        &SamplingConfig {
            seed: Some(drawn.seed),
            ..quick()
        },
    )
    .remove(0);
    assert_eq!(drawn.image, again.image);
    assert!(
        drawn
            .parameters
            .settings
            .contains(&("Seed".to_owned(), drawn.seed.to_string()))
    );
}

#[test]
fn the_metadata_holds_the_effective_settings() {
    let (_folder, model) = load("sd15", EngineKind::Auto);
    let config = SamplingConfig {
        negative_prompt: Some("blurry".into()),
        sampler: Some("DPM++ 2M Karras".into()),
        clip_skip: Some(2),
        ..quick()
    };
    let picture = generate(&model, &config).remove(0);
    let text = picture.parameters.to_text();
    for part in [
        "a photo of a cat\nNegative prompt: blurry\nSteps: 3, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, \
         Seed: 42, Size: 64x64",
        "Clip skip: 2",
        "RNG: CPU",
        "Version: tintype v",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn clip_skip_holds_for_the_negative_prompt_where_asked() {
    let (_folder, model) = load("sd15", EngineKind::Auto);
    let latents = |negative: Option<&str>, both: bool, guidance_scale: f64| {
        let config = SamplingConfig {
            prompt: negative.unwrap_or_default().into(),
            negative_prompt: negative.map(str::to_owned),
            sampler: Some("euler".into()),
            clip_skip: Some(2),
            clip_skip_negative: both,
            guidance_scale,
            ..quick()
        };
        generate(&model, &config).remove(0).latents
    };
    // Against the same text, guidance is nothing.
    for text in [Some("a cat"), None] {
        let alone = latents(text, true, 1.0);
        let pairs = |found: &tintype::HostTensor| {
            let pairs = found.data().iter().zip(alone.data());
            pairs.fold(0.0_f32, |worst, (a, b)| worst.max((a - b).abs()))
        };
        assert!(pairs(&latents(text, true, 7.5)) < 1e-4, "{text:?}");
        assert!(pairs(&latents(text, false, 7.5)) > 1e-3, "{text:?}");
    }
}

#[test]
fn default_settings_are_the_checkpoints() {
    let (_folder, model) = load("sd-turbo", EngineKind::Auto);
    let config = model.default_config();
    assert!(
        config.steps <= 4 && config.guidance_scale <= 1.0,
        "{config:?}"
    );
    assert!(config.validate().is_ok());
}

use super::model::{hash_warning, name_warning};
use super::*;
use crate::ErrorKind;
use crate::guidance::{Sag, Skips};
use crate::prompt::{Emphasis, PromptSyntax};
use crate::samplers::schedule::CustomLevels;

fn base() -> SamplingConfig {
    SamplingConfig {
        steps: 7,
        guidance_scale: 3.5,
        ..SamplingConfig::default()
    }
}

#[track_caller]
pub(super) fn recorded(text: &str) -> Recorded {
    Recorded::read(&Parameters::parse(text), base()).unwrap()
}

#[track_caller]
fn error(settings: &str) -> crate::Error {
    let text = format!("a cat\nSeed: 1, User: me, {settings}");
    Recorded::read(&Parameters::parse(&text), base()).unwrap_err()
}

pub(super) fn names(recorded: &Recorded) -> Vec<&str> {
    let names = recorded.not_honoured.iter();
    names.map(|setting| setting.key.as_str()).collect()
}

/// Every key of a text is in one of the two lists, and in one only.
#[track_caller]
pub(super) fn assert_none_dropped(text: &str, recorded: &Recorded) {
    for (key, _) in &Parameters::parse(text).settings {
        let honoured = recorded.honoured.contains(key);
        let refused = names(recorded).contains(&key.as_str());
        assert!(honoured != refused, "{key}: {recorded:?}");
    }
}

#[test]
fn a_webui_text_sets_every_field() {
    let text = "a (cat:1.2),\non a mat\nNegative prompt: dog: big, text: \"no\"\n\
        Steps: 30, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 18446744073709551615, \
        Size: 512x768, Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, Clip skip: 2, RNG: CPU, \
        Emphasis: No norm, Version: v1.10.1";
    let found = recorded(text);
    let config = &found.config;
    assert_eq!(config.prompt, "a (cat:1.2),\non a mat");
    assert_eq!(
        config.negative_prompt.as_deref(),
        Some("dog: big, text: \"no\"")
    );
    assert_eq!((config.steps, config.seed), (30, Some(u64::MAX)));
    assert_eq!(config.sampler.as_deref(), Some("DPM++ 2M"));
    assert_eq!(config.schedule.as_deref(), Some("Karras"));
    assert!((config.guidance_scale - 6.5).abs() < 1e-12);
    assert_eq!((config.width, config.height), (512, 768));
    assert_eq!(config.clip_skip, Some(2));
    // The webui's holds for both prompts.
    assert!(config.clip_skip_negative);
    assert_eq!(config.text.emphasis, Emphasis::NoNorm);
    config.validate().unwrap();
    assert_eq!(names(&found), [""; 0]);
    assert_eq!(found.absent, [""; 0]);
    assert_none_dropped(text, &found);
}

#[test]
fn what_is_not_done_is_named_with_its_value() {
    let text = "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64, Denoising strength: 0.7, \
        Variation seed: 9, Variation seed strength: 0.25, Seed resize from: 32x48, ENSD: -31337, Tiling: False, RNG: CPU, Hires upscale: 2, Hires upscaler: \"Latent, old\", \
        Lora hashes: \"a: 1, b: 2\", ADetailer model: face.pt, Eta: 0.5, Sigma churn: 2, Version: v1.10.1";
    let found = recorded(text);
    assert_eq!(
        names(&found),
        [
            "Denoising strength",
            "Hires upscale",
            "Hires upscaler",
            "Lora hashes",
            "ADetailer model",
            "Sigma churn",
        ]
    );
    assert_eq!(found.not_honoured[2].value, "Latent, old");
    assert_eq!(found.not_honoured[5].reason, "euler_a takes none");
    assert!(found.honoured.iter().any(|key| key == "Tiling"));
    assert_eq!(found.config.noise.eta, Some(0.5));
    assert_eq!(found.config.noise.s_churn, None);
    let seeds = found.config.seeds;
    assert_eq!(
        (seeds.rng, seeds.variation_seed),
        (RngKind::TorchCpu, Some(9))
    );
    assert!((seeds.variation_strength - 0.25).abs() < 1e-12);
    assert_eq!(
        (seeds.resize_from, seeds.eta_delta),
        (Some((32, 48)), -31337)
    );
    assert_none_dropped(text, &found);
}

#[test]
fn names_of_samplers_and_schedules_are_the_registrys() {
    let cases = [
        // The joined name of webuis before 1.9, and of others.
        (
            "Sampler: DPM++ 2M Karras",
            Some("DPM++ 2M Karras"),
            None,
            "",
        ),
        (
            "Sampler: k_euler_a, schedule type: SGM Uniform",
            Some("k_euler_a"),
            Some("SGM Uniform"),
            "",
        ),
        (
            "Sampler: EulerDiscreteScheduler",
            Some("EulerDiscreteScheduler"),
            None,
            "",
        ),
        // The webui's Automatic, and the registry's where the picture is ours.
        (
            "Sampler: DPM++ 2M SDE, Schedule type: Automatic",
            Some("DPM++ 2M SDE"),
            Some("exponential"),
            "",
        ),
        (
            "Sampler: Euler, Schedule type: Automatic",
            Some("Euler"),
            None,
            "",
        ),
        (
            "Sampler: DPM++ 2M, Schedule type: Automatic, Version: tintype v9",
            Some("DPM++ 2M"),
            None,
            "",
        ),
        (
            "Sampler: DPM++ 2M Karras, Schedule type: Automatic",
            Some("DPM++ 2M Karras"),
            None,
            "",
        ),
        // On the timesteps of training.
        (
            "Sampler: DDIM, Schedule type: Karras",
            Some("DDIM"),
            None,
            "Schedule type",
        ),
        ("Sampler: DDIM Karras", Some("ddim"), None, "Sampler"),
        (
            "Sampler: Euler, Schedule type: Custom",
            Some("Euler"),
            None,
            "Schedule type",
        ),
        // The eta of another kind of sampler.
        ("Sampler: DDIM, Eta: 0.3", Some("DDIM"), None, "Eta"),
        (
            "Sampler: Heun, Eta: 0.3",
            Some("Heun"),
            Some("normal"),
            "Eta",
        ),
        // Before 1.9 a name without a schedule meant the plain one.
        (
            "Sampler: DPM++ 2M SDE",
            Some("DPM++ 2M SDE"),
            Some("normal"),
            "",
        ),
    ];
    for (settings, sampler, schedule, refused) in cases {
        let text = format!("a cat\nSteps: 3, Seed: 1, RNG: CPU, {settings}");
        let found = recorded(&text);
        assert_eq!(found.config.sampler.as_deref(), sampler, "{settings}");
        assert_eq!(found.config.schedule.as_deref(), schedule, "{settings}");
        assert_eq!(names(&found).join(","), refused, "{settings}");
        assert_eq!(found.config.noise.eta, None, "{settings}");
        found.config.validate().unwrap();
        assert_none_dropped(&text, &found);
    }
}

#[test]
fn the_webuis_timesteps_and_its_weight_under_cfg_plus_plus_are_taken() {
    let cases = [
        ("DDIM", "v1.10.1", Some("ddim_uniform"), 6.25),
        ("PLMS", "v1.6.0", Some("ddim_uniform"), 6.25),
        (
            "DDIM",
            "f2.0.1v1.10.1-previous-669-gdfdcbab6",
            Some("ddim_uniform"),
            6.25,
        ),
        ("DDIM CFG++", "v1.10.1", Some("ddim_uniform"), 0.5),
        (
            "DDIM CFG++",
            "f2.0.1v1.10.1-previous",
            Some("ddim_uniform"),
            6.25,
        ),
        (
            "DDIM CFG++",
            "f0.0.17v1.8.0rc-latest-276-g29be1da7",
            Some("ddim_uniform"),
            6.25,
        ),
        ("DDIM CFG++", "tintype v0.1.0", None, 6.25),
        ("DDIM CFG++", "ComfyUI", None, 6.25),
        ("DDIM", "v1.5.2", None, 6.25),
        ("DDIM", "vlad", None, 6.25),
        ("Euler", "v1.10.1", None, 6.25),
    ];
    for (sampler, version, schedule, scale) in cases {
        let text = format!(
            "a cat\nSteps: 20, Sampler: {sampler}, Schedule type: Automatic, CFG scale: 6.25, Seed: 1, RNG: CPU, \
             Version: {version}"
        );
        let found = recorded(&text);
        assert_eq!(found.config.schedule.as_deref(), schedule, "{text}");
        assert!(
            (found.config.guidance_scale - scale).abs() < 1e-12,
            "{text}"
        );
        assert_eq!(names(&found), [""; 0]);
        found.config.validate().unwrap();
    }
    let found = recorded(
        "a cat\nSteps: 9, Sampler: UniPC, Schedule type: Karras, Seed: 1, RNG: CPU, Version: v1.10.1",
    );
    assert_eq!(
        (found.config.schedule.as_deref(), names(&found)),
        (None, vec!["Schedule type"])
    );
    let comfy = recorded(
        "a cat\nSteps: 9, Sampler: uni_pc, Schedule type: simple, Seed: 1, Version: ComfyUI",
    );
    assert_eq!(comfy.config.schedule.as_deref(), Some("simple"));
    // Without the webui's version the weight is still its own.
    let found = recorded("a cat\nSteps: 20, Sampler: DDIM CFG++, CFG scale: 12.5, Seed: 1");
    assert_eq!(found.config.schedule, None);
    assert!((found.config.guidance_scale - 1.0).abs() < 1e-12);
    // Our own pictures of that schedule.
    let ours = "a cat\nSteps: 20, Sampler: DDIM, Schedule type: DDIM, CFG scale: 7, Seed: 1, Version: tintype v0.1.0";
    let found = recorded(ours);
    assert_eq!(found.config.schedule.as_deref(), Some("DDIM"));
    assert_eq!(names(&found), [""; 0]);
}

#[test]
fn what_a_sampler_does_otherwise_is_named() {
    let cases = [
        (
            "DPM fast, Schedule type: Karras",
            "v1.10.1",
            "Schedule type",
        ),
        ("DPM fast, Schedule type: Automatic", "v1.10.1", ""),
        ("DPM adaptive Karras", "v1.4.0", "Sampler"),
        (
            "dpm_adaptive, Schedule type: simple",
            "ComfyUI",
            "Schedule type",
        ),
        ("dpm_adaptive, Schedule type: normal", "ComfyUI", ""),
        ("dpm_fast, Schedule type: karras", "ComfyUI", ""),
        ("UniPC, Schedule type: Karras", "v1.10.1", "Schedule type"),
        ("uni_pc, Schedule type: simple", "ComfyUI", ""),
        ("LCM", "v1.10.1", ""),
        ("LCM", "tintype v0.1.0", ""),
        ("UniPC", "f2.0.1v1.10.1-previous", "Sampler"),
    ];
    for (sampler, version, refused) in cases {
        let text =
            format!("a cat\nSteps: 9, Sampler: {sampler}, Seed: 1, RNG: CPU, Version: {version}");
        let found = recorded(&text);
        assert_eq!(names(&found).join(","), refused, "{text}");
        assert!(
            refused.is_empty() || found.config.schedule.is_none(),
            "{text}"
        );
        found.config.validate().unwrap();
        assert_none_dropped(&text, &found);
    }
}

#[test]
fn of_two_readings_of_a_schedule_the_programs_own_is_taken() {
    for (schedule, version, expected) in [
        ("KL Optimal", "v1.10.1", "kl_optimal:smallest"),
        ("kl_optimal", "ComfyUI", "kl_optimal"),
        ("Beta", "v1.10.1", "Beta"),
        ("beta", "ComfyUI", "beta:timesteps"),
        (
            "KL Optimal:smallest",
            "tintype v0.1.0",
            "KL Optimal:smallest",
        ),
    ] {
        let found = recorded(&format!(
            "a cat\nSteps: 9, Sampler: Euler, Schedule type: {schedule}, Seed: 1, Version: {version}"
        ));
        assert_eq!(
            found.config.schedule.as_deref(),
            Some(expected),
            "{version}"
        );
    }
}

#[test]
fn our_own_keys_come_back() {
    let text = "a cat\nSteps: 2, Sampler: Euler, Schedule type: Custom, CFG scale: 0, Seed: 1, Size: 64x64, RNG: CPU, \
        Sigmas: \"14.5, 2.25, 0\", Sigma churn: 1.5, Sigma tmin: 0.1, Sigma tmax: 9, Sigma noise: 1.01, \
        CFG rescale: 0.3, Prompt syntax: plain, Template: {a|b}, Engine: cpu cpu f32, Version: tintype v0.1.0";
    let found = recorded(text);
    let config = &found.config;
    let levels = CustomLevels::Sigmas(vec![14.5, 2.25, 0.0]);
    assert_eq!(config.levels, Some(levels));
    let noise = config.noise;
    assert_eq!(
        (noise.s_churn, noise.s_tmin, noise.s_tmax, noise.s_noise),
        (Some(1.5), Some(0.1), Some(9.0), Some(1.01))
    );
    assert!((config.guidance_rescale - 0.3).abs() < 1e-12);
    assert_eq!(config.text.syntax, PromptSyntax::Plain);
    assert_eq!(names(&found), [""; 0]);
    assert_none_dropped(text, &found);
    let text = text.replace("Sigmas: \"14.5, 2.25, 0\"", "Timesteps: \"999, 5\"");
    let levels = CustomLevels::Timesteps(vec![999, 5]);
    assert_eq!(recorded(&text).config.levels, Some(levels));
}

#[test]
fn clip_skip_of_the_negative_prompt_is_as_in_the_pictures_program() {
    let cases = [
        ("Clip skip: 2, Version: v1.10.1", true),
        ("Clip skip: 2, Version: f2.0.1v1.10.1-previous", true),
        ("Clip skip: 2", true),
        ("Clip skip: 2, Version: ComfyUI", false),
        (
            "Clip skip: 2, Clip skip negative: True, Version: ComfyUI",
            true,
        ),
        ("Clip skip: 2, Version: tintype v0.1.0", false),
        (
            "Clip skip: 2, Clip skip negative: True, Version: tintype v0.1.0",
            true,
        ),
        ("Version: v1.10.1", false),
    ];
    for (settings, both) in cases {
        let found = recorded(&format!("a cat\nSteps: 3, Seed: 1, RNG: CPU, {settings}"));
        assert_eq!(found.config.clip_skip_negative, both, "{settings}");
        assert_eq!(names(&found), [""; 0]);
    }
}

#[test]
fn guidance_is_read_by_the_webuis_names() {
    let text = "a cat\nSteps: 4, Sampler: Euler, Seed: 1, NGMS: 3.5, NGMS all steps: True, Skip Early CFG: 0.1, \
        CFG schedule: 7..2, CFG interval: 0.1..0.8, CFG method: \"apg:momentum=0,threshold=5,eta=1\"";
    let found = recorded(text);
    let guidance = &found.config.guidance;
    assert_eq!(guidance.min_sigma_skips, Skips::All);
    assert!((guidance.min_sigma - 3.5).abs() < 1e-12);
    assert!((guidance.skip_early - 0.1).abs() < 1e-12);
    assert_eq!(guidance.schedule, Some("7..2".parse().unwrap()));
    assert_eq!(guidance.interval, Some("0.1..0.8".parse().unwrap()));
    assert_eq!(
        guidance.method,
        "apg:momentum=0,threshold=5,eta=1".parse().unwrap()
    );
    assert_eq!(names(&found), [""; 0]);
    assert_none_dropped(text, &found);
    let text = "a cat\nSteps: 4, Sampler: Euler, Seed: 1, Dynamic thresholding enabled: True, Mimic scale: 5, Separate \
        Feature Channels: False, Scaling Startpoint: MEAN, Variability Measure: STD, Interpolate Phi: 0.5, Threshold \
        percentile: 98, Mimic mode: Half Cosine Down, Mimic scale minimum: 1, CFG mode: Power Up, CFG scale minimum: 2, \
        Scheduler value: 3";
    let extension = recorded(text);
    let method = "dynthres:mimic=5,percentile=98,mimic-mode=half-cosine-down,mimic-min=1,cfg-mode=power-up,cfg-min=2,\
        value=3,channels=together,measure=std,phi=0.5";
    assert_eq!(extension.config.guidance.method, method.parse().unwrap());
    assert_none_dropped(text, &extension);
    assert_eq!(names(&extension), [""; 0]);
    let off = recorded("a cat\nSteps: 4, Seed: 1, Dynamic thresholding enabled: False");
    assert_eq!(off.config.guidance, base().guidance);
    // There the webui compares it with timesteps.
    let on_timesteps = "a cat\nSteps: 4, Sampler: DDIM, Seed: 1, NGMS: 3.5";
    let found = recorded(on_timesteps);
    assert!(found.config.guidance.min_sigma.abs() < 1e-12);
    assert_eq!(names(&found), ["NGMS"]);
    assert_none_dropped(on_timesteps, &found);
}

#[test]
fn guidance_is_read_by_the_names_of_other_programs() {
    let read = |settings: &str| {
        let text = format!("a cat\nSteps: 4, Sampler: Euler, Seed: 1, RNG: CPU, {settings}");
        let found = recorded(&text);
        assert_none_dropped(&text, &found);
        found
    };
    let forge =
        read("PerturbedAttentionGuidance_enabled: True, PerturbedAttentionGuidance_scale: 2.5");
    assert_eq!(forge.config.guidance.pag, Some("2.5".parse().unwrap()));
    assert_eq!(names(&forge), [""; 0]);
    let found = read(
        "pag_enabled: True, pag_scale: 4, pag_adaptive_scale: 0.5, pag_block: middle, pag_block_id: 0, pag_hr_override: False",
    );
    let pag = "scale=4,adaptive=0.25,blocks=mid".parse().unwrap();
    assert_eq!(found.config.guidance.pag, Some(pag));
    assert_eq!(names(&found), ["pag_hr_override"]);
    let elsewhere = read("pag_enabled: True, pag_scale: 4, pag_block: output, pag_block_id: 3");
    assert_eq!(elsewhere.config.guidance.pag, None);
    assert_eq!(
        names(&elsewhere),
        ["pag_enabled", "pag_scale", "pag_block", "pag_block_id"]
    );
    let found = read(
        "sag_enabled: True, sag_scale: 0.75, sag_blur_sigma: 2, sag_threshold: 1, freeu_enabled: True, freeu_b1: 1.3, \
         freeu_b2: 1.4, freeu_s1: 0.9, freeu_s2: 0.2",
    );
    let sag = "scale=0.75,sigma=2,threshold=1,rule=forge".parse().unwrap();
    assert_eq!(found.config.guidance.sag, Some(sag));
    let freeu = "b1=1.3,b2=1.4,s1=0.9,s2=0.2,version=2".parse().unwrap();
    assert_eq!(found.config.guidance.freeu, Some(freeu));
    assert_eq!(names(&found), [""; 0]);
    let found = read("sag_enabled: True, freeu_enabled: True, freeu_start: 0, freeu_end: 0.5");
    assert_eq!(found.config.guidance.sag, Some(Sag::FORGE));
    let freeu = "b1=1.01,b2=1.02,s1=0.99,s2=0.95,version=2,end=0.5";
    assert_eq!(found.config.guidance.freeu, Some(freeu.parse().unwrap()));
    assert_eq!(names(&found), [""; 0]);
    let found = read(
        "freeu_enabled: True, freeu_version: 1-comfy, freeu_b1: 1.1, freeu_b2: 1.2, freeu_s1: 0.9, freeu_s2: 0.2",
    );
    let freeu = "version=1-comfy".parse().unwrap();
    assert_eq!(found.config.guidance.freeu, Some(freeu));
    let off = read("pag_enabled: False, sag_enabled: False, freeu_enabled: False, freeu_b1: 1.3");
    assert_eq!(off.config.guidance, base().guidance);
}

#[test]
fn what_the_text_does_not_say_is_the_bases_and_named() {
    let found = recorded("a cat\nSteps: 20, Seed: 1, Version: v1.10.1");
    assert_eq!(found.absent, ["Sampler", "CFG scale", "Size"]);
    assert!((found.config.guidance_scale - 3.5).abs() < 1e-12);
    assert_eq!(names(&found), [""; 0]);
    assert_eq!(found.config.seeds.rng, RngKind::TorchCuda);
    for text in [
        "",
        "\u{0}\u{fffd}: , : \"\\",
        "Steps: 20, Seed: 1",
        "Negative prompt: a: b: c",
    ] {
        let found = recorded(text);
        assert_eq!(found.absent, NEEDED, "{text:?}");
        assert_eq!((found.config.steps, found.config.seed), (7, None));
    }
}

#[test]
fn braces_mean_a_choice_here_only() {
    let settings = "Steps: 20, Seed: 1, RNG: CPU";
    let foreign = recorded(&format!("a {{cat|dog}}\n{settings}"));
    assert_eq!(names(&foreign), ["prompt"]);
    let ours = recorded(&format!(
        "a {{cat|dog}}\n{settings}, Version: tintype v0.1.0"
    ));
    assert_eq!(names(&ours), [""; 0]);
}

#[test]
fn values_that_cannot_be_read_are_named_with_their_key() {
    let cases = [
        (
            "Steps: many",
            "Steps: found \"many\", expected a whole number",
        ),
        (
            "CFG scale: 7.x",
            "CFG scale: found \"7.x\", expected a number",
        ),
        ("Size: 512", "Size: the size is \"512\""),
        ("Seed: -1", "Seed: found \"-1\""),
        ("Sampler: Eulr", "Sampler: unknown sampler \"Eulr\""),
        (
            "Schedule type: Karas",
            "Schedule type: unknown schedule \"Karas\"",
        ),
        ("Sampler: Euler, Eta DDIM: x", "Eta DDIM: found \"x\""),
        ("RNG: dice", "RNG: rng is \"dice\""),
        ("Fresh RNG: dice", "Fresh RNG: rng is \"dice\""),
        ("Schedule rho: x", "Schedule rho: found \"x\""),
        ("Levels as: webby", "Levels as: levels_as is \"webby\""),
        (
            "Discard penultimate sigma: 3",
            "Discard penultimate sigma: found \"3\"",
        ),
        (
            "ENSD: many",
            "ENSD: found \"many\", expected a whole number",
        ),
        ("Variation seed: -2", "Variation seed: found \"-2\""),
        (
            "Variation seed strength: half",
            "Variation seed strength: found \"half\"",
        ),
        (
            "Seed resize from: 512",
            "Seed resize from: the size is \"512\"",
        ),
        ("Sigmas: \"3, two\"", "Sigmas: found \" two\""),
        ("Sigmas: 3, Timesteps: 4", "both Sigmas and Timesteps"),
        ("Emphasis: Bold", "Emphasis: unknown emphasis"),
        ("NGMS all steps: 3", "NGMS all steps: found \"3\""),
        ("CFG mode: Up", "CFG mode: found \"Up\""),
        ("CFG method: cfgg", "CFG method: unknown guidance method"),
        ("CFG interval: 0.5", "CFG interval: the guidance interval"),
        ("pag_enabled: True, pag_scale: x", "pag_scale: found \"x\""),
    ];
    for (settings, words) in cases {
        let error = error(settings);
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{settings}");
        assert!(error.message().contains(words), "{settings}: {error}");
    }
    assert!(error("Sampler: Eulr").hint().unwrap().contains("euler"));
}

#[test]
fn another_model_is_a_warning() {
    let own = "6ce0161689";
    assert_eq!(hash_warning("6CE0161689", Some(own)), None);
    assert_eq!(hash_warning("6ce0161689aabbccddeeff", Some(own)), None);
    for (recorded, found, words) in [
        ("ffffffffff", Some(own), "and this one has 6ce0161689"),
        ("81761151", Some(own), "older kind"),
        ("6ce0161689", None, "no single file"),
    ] {
        let warning = hash_warning(recorded, found).unwrap();
        assert!(
            warning.contains(words) && warning.contains(recorded),
            "{warning}"
        );
    }
    assert_eq!(name_warning("model", "a", "a"), None);
    assert!(name_warning("VAE", "a", "b").unwrap().contains("VAE \"a\""));
}

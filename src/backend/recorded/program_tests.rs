//! What a text means by the program that wrote it.

use super::tests::{assert_none_dropped, names, recorded};
use crate::backend::clip::Towers;

const FORGE: &str = "f2.0.1v1.10.1-previous-669-gdfdcbab6";

/// Sampler and schedule as a text has them, its version, and whose rules, which sampler and which schedule these are here.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
);

const OF_PROGRAMS: [Case; 16] = [
    (
        "Euler a, Schedule type: Automatic",
        "v1.10.1",
        "webui",
        "Euler a",
        None,
    ),
    ("Euler a", "v1.6.0", "webui", "Euler a", Some("normal")),
    (
        "DPM++ 2M Karras",
        "v1.6.0",
        "webui",
        "DPM++ 2M Karras",
        None,
    ),
    (
        "DPM++ 2M, Schedule type: Automatic",
        "v1.10.1",
        "webui",
        "DPM++ 2M",
        Some("karras"),
    ),
    (
        "Euler, Schedule type: Karras",
        FORGE,
        "forge",
        "Euler",
        Some("Karras"),
    ),
    ("LCM", "v1.7.0", "webui", "lcm_webui", Some("normal")),
    ("LCM Karras", "v1.7.0", "webui", "lcm_webui", Some("karras")),
    (
        "LCM, Schedule type: SGM Uniform",
        FORGE,
        "forge",
        "lcm_webui",
        Some("SGM Uniform"),
    ),
    (
        "DDPM, Schedule type: Karras",
        FORGE,
        "forge",
        "euler_a",
        Some("Karras"),
    ),
    (
        "euler, Schedule type: normal",
        "ComfyUI",
        "comfyui",
        "euler",
        Some("normal"),
    ),
    ("UniPC", "v1.10.1", "webui", "UniPC", None),
    (
        "DDIM",
        "v1.10.1",
        "checkpoint",
        "DDIM",
        Some("ddim_uniform"),
    ),
    ("Euler", "tintype v0.1.0", "checkpoint", "Euler", None),
    (
        "Euler, Levels as: forge",
        "tintype v0.1.0",
        "forge",
        "Euler",
        None,
    ),
    (
        "EulerDiscreteScheduler",
        "",
        "checkpoint",
        "EulerDiscreteScheduler",
        None,
    ),
    ("Euler", "InvokeAI", "checkpoint", "Euler", None),
];

#[test]
fn levels_and_samplers_are_those_of_the_pictures_program() {
    for (settings, version, rules, sampler, schedule) in OF_PROGRAMS {
        let version = if version.is_empty() {
            String::new()
        } else {
            format!(", Version: {version}")
        };
        let text = format!("a cat\nSteps: 9, Seed: 1, RNG: CPU, Sampler: {settings}{version}");
        let found = recorded(&text);
        let config = &found.config;
        assert_eq!(config.level_options.rules.to_string(), rules, "{text}");
        assert_eq!(config.sampler.as_deref(), Some(sampler), "{text}");
        assert_eq!(config.schedule.as_deref(), schedule, "{text}");
        assert_eq!(names(&found), [""; 0], "{text}");
        config.validate().unwrap();
    }
    let restart = recorded("a cat\nSteps: 9, Seed: 1, Sampler: Restart, Version: v1.6.0");
    assert_eq!(restart.config.schedule, None);
    let discards = |sampler: &str| {
        let text = format!("a cat\nSteps: 9, Seed: 1, Sampler: {sampler}, Version: ComfyUI");
        recorded(&text).config.level_options.discard_penultimate
    };
    assert_eq!(discards("dpmpp_3m_sde"), Some(false));
    assert_eq!(discards("dpm_2"), None);
}

#[test]
fn limits_of_curves_are_taken_where_the_schedule_has_them() {
    let all = "Schedule max sigma: 10, Schedule min sigma: 0.1, Schedule rho: 5";
    let read = |settings: &str| {
        let text = format!("a cat\nSteps: 9, Seed: 1, RNG: CPU, {settings}, Version: v1.10.1");
        let found = recorded(&text);
        assert_none_dropped(&text, &found);
        found.config.validate().unwrap();
        found
    };
    let karras = read(&format!("Sampler: Euler, Schedule type: Karras, {all}"));
    let options = karras.config.level_options;
    assert_eq!(
        (options.rho, options.sigma_min, options.sigma_max),
        (Some(5.0), Some(0.1), Some(10.0))
    );
    assert_eq!(names(&karras), [""; 0]);
    for (settings, refused) in [
        ("Sampler: Euler, Schedule type: Exponential", "Schedule rho"),
        (
            "Sampler: Euler, Schedule type: Simple",
            "Schedule rho,Schedule min sigma,Schedule max sigma",
        ),
        (
            "Sampler: DDIM",
            "Schedule rho,Schedule min sigma,Schedule max sigma",
        ),
        (
            "Sampler: DPM fast",
            "Schedule rho,Schedule min sigma,Schedule max sigma",
        ),
        // The webui's Automatic of this one is Karras'.
        ("Sampler: DPM++ 2M, Schedule type: Automatic", ""),
    ] {
        let found = read(&format!("{settings}, {all}"));
        assert_eq!(names(&found).join(","), refused, "{settings}");
    }
    let off =
        read("Sampler: Euler, Schedule max sigma: 0, Schedule min sigma: 0.0, Schedule rho: 0");
    assert_eq!(off.config.level_options.sigma_max, None);
    assert_eq!(names(&off), [""; 0]);
    let more = "Discard penultimate sigma: True, SGM noise multiplier: True";
    let found = read(&format!("Sampler: Euler, {more}"));
    let options = found.config.level_options;
    assert_eq!(
        (options.discard_penultimate, options.full_start),
        (Some(true), true)
    );
    assert_eq!(names(&found), [""; 0]);
    assert_eq!(
        names(&read(&format!("Sampler: PLMS, {more}"))),
        ["SGM noise multiplier", "Discard penultimate sigma"]
    );
    let shape = read(
        "Sampler: Euler, Schedule type: Beta, Beta schedule alpha: 0.6, Beta schedule beta: 0.8",
    );
    assert_eq!(names(&shape), ["Beta schedule beta"]);
}

#[test]
fn clip_skip_means_what_the_program_does_with_the_models_towers() {
    let all = [Towers::Clip, Towers::OpenClip, Towers::Pooled];
    let old_forge = "f0.0.17v1.8.0rc-latest-276-g29be1da7";
    for (version, skip, expected) in [
        ("v1.10.1", 2, [Some(2), None, None]),
        (old_forge, 3, [Some(3), None, None]),
        (FORGE, 2, [Some(2), Some(2), Some(2)]),
        ("ComfyUI", 2, [Some(2), Some(1), Some(2)]),
        ("ComfyUI", 1, [Some(1), None, Some(1)]),
        ("tintype v0.1.0", 2, [Some(2), Some(2), Some(2)]),
    ] {
        for (towers, expected) in all.into_iter().zip(expected) {
            let text = format!("a cat\nSteps: 3, Seed: 1, Clip skip: {skip}, Version: {version}");
            let mut found = recorded(&text);
            found.fit_towers(towers);
            assert_eq!(found.config.clip_skip, expected, "{version} {towers:?}");
            let named = if expected.is_some() {
                &[][..]
            } else {
                &["Clip skip"]
            };
            assert_eq!(names(&found), named, "{version} {towers:?}");
            assert!(expected.is_some() || !found.config.clip_skip_negative);
            found.config.validate().unwrap();
            assert_none_dropped(&text, &found);
        }
    }
    let mut without = recorded("a cat\nSteps: 3, Seed: 1, RNG: CPU, Version: v1.10.1");
    without.fit_towers(Towers::OpenClip);
    assert_eq!(names(&without), [""; 0]);
}

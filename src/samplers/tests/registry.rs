//! The table: names are unambiguous, parse back, and wrong ones are answered with the nearest.

use crate::ErrorKind;
use crate::samplers::registry::{parse_sampler, sampler_for_scheduler_class};
use crate::samplers::schedule::{SCHEDULES, ScheduleKind};
use crate::samplers::{SAMPLERS, SamplerKind};

#[test]
fn every_spelling_of_every_row_parses_to_its_kind() {
    for row in SAMPLERS {
        assert_eq!(row.kind.spec().name, row.name);
        assert_eq!(row.kind.to_string(), row.name);
        assert!(!row.help.is_empty() && row.help.is_ascii(), "{}", row.name);
        let spellings = [row.name, row.label]
            .into_iter()
            .chain(row.aliases.iter().copied())
            .chain(row.class_names.iter().copied());
        for spelling in spellings {
            for text in [
                spelling.to_owned(),
                spelling.to_uppercase(),
                format!("k_{spelling}"),
            ] {
                assert_eq!(parse_sampler(&text).unwrap(), (row.kind, None), "{text}");
                assert_eq!(text.parse::<SamplerKind>().unwrap(), row.kind, "{text}");
            }
            for schedule in SCHEDULES {
                let joined = format!("{spelling} {}", schedule.name);
                assert_eq!(
                    parse_sampler(&joined).unwrap(),
                    (row.kind, Some(schedule.kind)),
                    "{joined}"
                );
            }
        }
        for class_name in row.class_names {
            assert_eq!(sampler_for_scheduler_class(class_name).unwrap(), row.kind);
        }
    }
}

#[test]
fn names_people_bring_along_are_known() {
    let cases = [
        ("Euler a", SamplerKind::EulerAncestral, None),
        ("k_euler_a", SamplerKind::EulerAncestral, None),
        ("euler-ancestral", SamplerKind::EulerAncestral, None),
        (
            "DPM++ 2M Karras",
            SamplerKind::Dpmpp2m,
            Some(ScheduleKind::Karras),
        ),
        ("DPM++ 2M", SamplerKind::Dpmpp2m, None),
        ("k_dpmpp_2m", SamplerKind::Dpmpp2m, None),
        (
            "dpmpp_2m_karras",
            SamplerKind::Dpmpp2m,
            Some(ScheduleKind::Karras),
        ),
        (
            "DPM++ 2M Exponential",
            SamplerKind::Dpmpp2m,
            Some(ScheduleKind::Exponential),
        ),
        ("PLMS", SamplerKind::Pndm, None),
        (
            "DPM++ 2M SDE Karras",
            SamplerKind::Dpmpp2mSde,
            Some(ScheduleKind::Karras),
        ),
        (
            "DPM++ 2M SDE Heun Exponential",
            SamplerKind::Dpmpp2mSdeHeun,
            Some(ScheduleKind::Exponential),
        ),
        (
            "DPM++ 3M SDE Exponential",
            SamplerKind::Dpmpp3mSde,
            Some(ScheduleKind::Exponential),
        ),
        (
            "DPM++ SDE Karras",
            SamplerKind::DpmppSde,
            Some(ScheduleKind::Karras),
        ),
        (
            "DPM++ 2S a Karras",
            SamplerKind::Dpmpp2sAncestral,
            Some(ScheduleKind::Karras),
        ),
        ("k_dpmpp_2s_a", SamplerKind::Dpmpp2sAncestral, None),
        ("k_dpm_2_a", SamplerKind::Dpm2Ancestral, None),
        ("dpm_2_ancestral", SamplerKind::Dpm2Ancestral, None),
        (
            "DPM2 a Karras",
            SamplerKind::Dpm2Ancestral,
            Some(ScheduleKind::Karras),
        ),
        ("LMS Karras", SamplerKind::Lms, Some(ScheduleKind::Karras)),
        ("DPM2 Karras", SamplerKind::Dpm2, Some(ScheduleKind::Karras)),
        (
            "euler_ancestral_cfg_pp",
            SamplerKind::EulerAncestralCfgPp,
            None,
        ),
        ("k_euler_a_cfg_pp", SamplerKind::EulerAncestralCfgPp, None),
        (
            "Euler SGM Uniform",
            SamplerKind::Euler,
            Some(ScheduleKind::SgmUniform),
        ),
        ("DDIM CFG++", SamplerKind::DdimCfgPp, None),
        ("UniPC", SamplerKind::UniPc, None),
        ("uni_pc_bh2", SamplerKind::UniPcBh2, None),
        ("DDIMScheduler", SamplerKind::Ddim, None),
    ];
    for (text, kind, schedule) in cases {
        assert_eq!(parse_sampler(text).unwrap(), (kind, schedule), "{text}");
    }
}

#[test]
fn an_unknown_sampler_is_answered_with_the_nearest_and_all() {
    for (text, nearest) in [
        ("eular", "euler"),
        ("ddmi", "ddim"),
        ("dpmpp_2n", "dpmpp_2m"),
        ("lmc", "lcm"),
        ("", ""),
        ("karras", ""),
        ("日本", ""),
    ] {
        let error = parse_sampler(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        let hint = error.hint().unwrap();
        assert!(hint.contains(nearest), "{text}: {hint}");
        assert!(SAMPLERS.iter().all(|row| hint.contains(row.name)), "{hint}");
    }
    let error = parse_sampler("eular").unwrap_err();
    assert!(
        error.hint().unwrap().starts_with("did you mean \"euler\"?"),
        "{error}"
    );
}

#[test]
fn an_unknown_schedule_is_answered_with_the_nearest_and_all() {
    for row in SCHEDULES {
        assert_eq!(row.label.parse::<ScheduleKind>().unwrap(), row.kind);
        assert_eq!(row.name.parse::<ScheduleKind>().unwrap(), row.kind);
        assert_eq!(row.kind.to_string(), row.name);
        for alias in row.aliases {
            assert_eq!(alias.parse::<ScheduleKind>().unwrap(), row.kind);
        }
    }
    let error = "karas".parse::<ScheduleKind>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(
        error
            .hint()
            .unwrap()
            .starts_with("did you mean \"karras\"?"),
        "{error}"
    );
}

#[test]
fn no_two_rows_share_a_spelling() {
    let mut seen = std::collections::BTreeMap::new();
    for row in SAMPLERS {
        for spelling in [row.name, row.label]
            .into_iter()
            .chain(row.aliases.iter().copied())
            .chain(row.class_names.iter().copied())
        {
            let spelling = crate::samplers::registry::normalize(spelling);
            let owner = seen.insert(spelling.clone(), row.name);
            assert!(
                owner.is_none_or(|owner| owner == row.name),
                "{spelling} is {owner:?}'s and {}'s",
                row.name
            );
        }
    }
}

#[test]
fn a_schedule_may_have_a_setting_behind_its_name() {
    let gits: ScheduleKind = "GITS : 1.15".parse().unwrap();
    assert_eq!(
        (gits.to_string(), gits.label()),
        ("gits:1.15".into(), "GITS:1.15".into())
    );
    assert_eq!(gits.label().parse::<ScheduleKind>().unwrap(), gits);
    for (text, shown) in [
        ("gits:1.2", "gits"),
        ("beta:sigmas", "beta"),
        ("Beta:Timesteps", "beta:timesteps"),
        ("kl: smallest", "kl_optimal:smallest"),
        ("KL Optimal:zero", "kl_optimal"),
    ] {
        assert_eq!(text.parse::<ScheduleKind>().unwrap().to_string(), shown);
    }
    for text in [
        "DPM++ 2M GITS:1.15",
        "dpmpp_2m_gits:1.15",
        "k_dpmpp_2m gits: 1.15",
    ] {
        assert_eq!(
            parse_sampler(text).unwrap(),
            (SamplerKind::Dpmpp2m, Some(gits)),
            "{text}"
        );
    }
    for (text, words) in [
        ("gits:1.6", "0.80 to 1.50 by 0.05"),
        ("gits:", "0.80 to 1.50 by 0.05"),
        ("karras:7", "the karras schedule has no setting"),
        (
            "beta:7",
            "the setting of beta is \"7\", expected sigmas or timesteps",
        ),
        ("kl_optimal:0", "expected zero or smallest"),
        ("kerras:7", "unknown schedule \"kerras:7\""),
    ] {
        let error = text.parse::<ScheduleKind>().unwrap_err();
        assert!(error.message().contains(words), "{error}");
    }
    for (text, words) in [
        ("euler:3", "unknown sampler \"euler:3\""),
        ("euler gits:3", "0.80 to 1.50 by 0.05"),
        ("euler karras:3", "no setting"),
    ] {
        let error = parse_sampler(text).unwrap_err();
        assert!(error.message().contains(words), "{error}");
    }
}

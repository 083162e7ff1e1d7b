use serde_json::Value;

use super::combine::{compose, difference};
use super::*;
use crate::HostTensor;
use crate::models::unet::{Attended, by_the_mean};

/// Worst difference to the reference, whose values are about 10: rounding of f32 in another order.
const TOLERANCE: f32 = 2e-5;

const LENGTH: RunLength = RunLength {
    steps: 4,
    evaluations: 1,
};

struct Fixture(Value);

impl Fixture {
    fn read() -> Self {
        let text = include_str!("../../tests/data/guidance/guidance.json");
        Self(serde_json::from_str(text).unwrap())
    }

    fn tensors(&self, values: &Value) -> Vec<HostTensor> {
        let shape: Vec<usize> = serde_json::from_value(self.0["shape"].clone()).unwrap();
        let values: Vec<Vec<f32>> = serde_json::from_value(values.clone()).unwrap();
        let tensors = values.into_iter();
        tensors
            .map(|values| HostTensor::new(shape.clone(), values).unwrap())
            .collect()
    }

    fn scale(&self) -> f64 {
        self.0["scale"].as_f64().unwrap()
    }
}

fn plan(scale: f64, rescale: f64, options: &GuidanceOptions) -> GuidancePlan {
    GuidancePlan::new((scale, rescale), options, LENGTH, Needs::Scale).unwrap()
}

/// What the plan makes of the fixture's predictions.
fn guided(fixture: &Fixture, plan: &GuidancePlan) -> Vec<HostTensor> {
    let mut guide = Guide::new(plan);
    let unconds = fixture.tensors(&fixture.0["uncond"]);
    let conds = fixture.tensors(&fixture.0["cond"]);
    let pairs = unconds.iter().zip(conds).enumerate();
    pairs
        .map(|(index, (uncond, cond))| {
            let parts = [(cond, 1.0)];
            match plan.turn(index, 1.0) {
                Turn::Guided(scale) => {
                    let guided = guide.join(uncond, &parts, (index, scale)).unwrap();
                    guide.rescale(guided, uncond, &parts).unwrap()
                }
                Turn::Prompt => parts[0].0.clone(),
                Turn::Zero => HostTensor::zeros(uncond.shape()),
            }
        })
        .collect()
}

fn worst(found: &[HostTensor], expected: &[HostTensor]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected);
    let distances = pairs.flat_map(|(found, expected)| {
        let difference = difference(found, expected).unwrap().into_data();
        difference.into_iter().map(f32::abs)
    });
    distances.fold(0.0, |worst, distance| {
        assert!(distance.is_finite());
        distance.max(worst)
    })
}

#[test]
fn every_method_agrees_with_its_reference() {
    let fixture = Fixture::read();
    let mut faults = Vec::new();
    let cases = fixture.0["cases"].as_array().unwrap();
    for case in cases {
        let method = case["method"].as_str().unwrap();
        let options = GuidanceOptions {
            method: method.parse().unwrap(),
            ..GuidanceOptions::default()
        };
        let found = guided(&fixture, &plan(fixture.scale(), 0.0, &options));
        let worst = worst(&found, &fixture.tensors(&case["guided"]));
        if worst > TOLERANCE {
            faults.push(format!("{method}: {worst}"));
        }
    }
    assert!(cases.len() >= 15, "{}", cases.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn rescaling_agrees_with_diffusers() {
    let fixture = Fixture::read();
    for case in fixture.0["rescale"].as_array().unwrap() {
        let share = case["share"].as_f64().unwrap();
        let plan = plan(fixture.scale(), share, &GuidanceOptions::default());
        let worst = worst(&guided(&fixture, &plan), &fixture.tensors(&case["guided"]));
        assert!(worst <= TOLERANCE, "{share}: {worst}");
    }
}

#[test]
fn methods_leave_a_scale_of_1_and_flat_predictions_alone() {
    let row = |values: &[f32]| HostTensor::new([1, 2, 1, 2], values.to_vec()).unwrap();
    let flat = row(&[0.0; 4]);
    let cond = row(&[1.0, 2.0, -3.0, 0.5]);
    for (name, method, _) in GuidanceMethod::ALL {
        let options = GuidanceOptions {
            method,
            ..GuidanceOptions::default()
        };
        let plan = plan(7.5, 0.0, &options);
        let mut guide = Guide::new(&plan);
        let parts = [(cond.clone(), 1.0)];
        let one = guide.join(&flat, &parts, (0, 1.0)).unwrap();
        assert_eq!(one, cond, "{name}");
        let zero = guide.join(&flat, &[(flat.clone(), 1.0)], (0, 7.5)).unwrap();
        assert_eq!(zero, flat, "{name}");
    }
}

#[test]
fn parts_of_a_prompt_count_by_their_weights_in_every_method() {
    let row = |values: &[f32]| HostTensor::new([1, 1, 1, 4], values.to_vec()).unwrap();
    let uncond = row(&[0.1, 0.2, -0.3, 0.4]);
    let parts = [
        (row(&[1.0, 0.0, 0.5, 2.0]), 0.75),
        (row(&[0.0, 1.0, -1.0, 0.25]), -0.5),
    ];
    let one = [(compose(&uncond, &parts, 1.0).unwrap(), 1.0)];
    for (name, method, _) in GuidanceMethod::ALL {
        let options = GuidanceOptions {
            method,
            ..GuidanceOptions::default()
        };
        let plan = plan(7.5, 0.0, &options);
        let both = Guide::new(&plan).join(&uncond, &parts, (0, 7.5)).unwrap();
        let joined = Guide::new(&plan).join(&uncond, &one, (0, 7.5)).unwrap();
        assert!(worst(&[both], &[joined]) < 1e-5, "{name}");
    }
}

/// Which of a run's evaluations are guided, with what scale.
fn scales(options: &GuidanceOptions, length: RunLength, needs: Needs) -> Vec<Option<f64>> {
    let plan = GuidancePlan::new((7.5, 0.0), options, length, needs).unwrap();
    let count = plan.evaluations();
    (0..count)
        .map(|index| match plan.turn(index, 14.0 - index as f64) {
            Turn::Guided(scale) => Some((scale * 1e3).round() / 1e3),
            Turn::Prompt => None,
            Turn::Zero => Some(0.0),
        })
        .collect()
}

fn options(edit: impl Fn(&mut GuidanceOptions)) -> GuidanceOptions {
    let mut options = GuidanceOptions::default();
    edit(&mut options);
    options
}

#[test]
fn an_evaluation_is_guided_where_it_is_asked_for_only() {
    const ON: Option<f64> = Some(7.5);
    let schedule = |text: &str| options(|o| o.schedule = Some(text.parse().unwrap()));
    let interval = |text: &str| options(|o| o.interval = Some(text.parse().unwrap()));
    let cases = [
        (GuidanceOptions::default(), [ON; 6]),
        (interval("0.2..0.7"), [None, ON, ON, ON, None, None]),
        (interval("0..1"), [ON; 6]),
        (interval("0.5..0.5"), [None; 6]),
        (interval("sigma:10..13"), [None, ON, ON, ON, None, None]),
        (schedule("8..3"), [8.0, 7.0, 6.0, 5.0, 4.0, 3.0].map(Some)),
        (
            schedule("5->0"),
            [Some(5.0), Some(4.0), Some(3.0), Some(2.0), None, None],
        ),
        (
            schedule("7,1,2,0.5,3,1.5"),
            [Some(7.0), None, Some(2.0), None, Some(3.0), Some(1.5)],
        ),
        (
            schedule("2..10:cosine"),
            [2.0, 2.764, 4.764, 7.236, 9.236, 10.0].map(Some),
        ),
        // The webui's rules: up to and with the share, every second one from the second.
        (
            options(|o| o.skip_early = 0.3),
            [None, None, ON, ON, ON, ON],
        ),
        (
            options(|o| o.min_sigma = 12.5),
            [ON, ON, ON, None, ON, None],
        ),
        (
            options(|o| {
                o.min_sigma = 12.5;
                o.min_sigma_skips = Skips::All;
            }),
            [ON, ON, None, None, None, None],
        ),
        (
            options(|o| o.method = "cfg-zero:zero-steps=2".parse().unwrap()),
            [Some(0.0), Some(0.0), ON, ON, ON, ON],
        ),
    ];
    let length = RunLength {
        steps: 6,
        evaluations: 1,
    };
    for (options, expected) in &cases {
        let found = scales(options, length, Needs::Scale);
        assert_eq!(found, expected, "{options:?}");
    }
}

#[test]
fn who_needs_the_unconditional_prediction_gets_it() {
    let length = RunLength {
        steps: 2,
        evaluations: 2,
    };
    let schedule = options(|o| o.schedule = Some("3..0".parse().unwrap()));
    let late = options(|o| o.interval = Some("0.5..1".parse().unwrap()));
    let of = |options: &GuidanceOptions, needs| scales(options, length, needs);
    // A step's two evaluations have one scale.
    let on = Some(3.0);
    assert_eq!(of(&schedule, Needs::Scale), [on, on, None, None]);
    let one = Some(1.0);
    assert_eq!(of(&schedule, Needs::Weights), [on, on, one, one]);
    let zero = Some(0.0);
    assert_eq!(of(&schedule, Needs::Always), [on, on, zero, zero]);
    let full = Some(7.5);
    assert_eq!(of(&late, Needs::Weights), [None, None, full, full]);
    assert_eq!(of(&late, Needs::Always), [one, one, full, full]);
    assert_eq!(of(&late, Needs::Nothing), [None; 4]);
    // A sampler that chooses its own steps may ask for more.
    let plan = GuidancePlan::new((7.5, 0.0), &late, length, Needs::Scale).unwrap();
    assert_eq!(plan.turn(99, 0.1), Turn::Guided(7.5));
}

#[test]
fn the_negative_prompt_is_wanted_where_something_may_be_guided() {
    let may = |scale, options: &GuidanceOptions, needs| {
        GuidancePlan::new((scale, 0.0), options, LENGTH, needs)
            .unwrap()
            .may_guide()
    };
    let plain = GuidanceOptions::default();
    assert!(may(1.5, &plain, Needs::Scale));
    assert!(!may(1.0, &plain, Needs::Scale));
    assert!(may(1.0, &plain, Needs::Weights));
    assert!(may(0.0, &plain, Needs::Always));
    assert!(!may(7.5, &plain, Needs::Nothing));
    let rising = options(|o| o.schedule = Some("0..3".parse().unwrap()));
    assert!(may(1.0, &rising, Needs::Scale));
    let never = options(|o| o.interval = Some("0.4..0.4".parse().unwrap()));
    assert!(!may(7.5, &never, Needs::Scale));
}

#[test]
fn texts_come_back() {
    for text in ["7.5..2", "7.5..2:cosine", "7.5,7,0.25"] {
        let schedule: ScaleSchedule = text.parse().unwrap();
        assert_eq!(schedule.to_string(), text);
    }
    for text in ["0.1..0.8", "sigma:0.28..5.42", "sigma:0..inf"] {
        let interval: Interval = text.parse().unwrap();
        assert_eq!(interval.to_string(), text);
    }
    let texts = [
        "cfg",
        "apg:momentum=0.25,threshold=0,eta=1.5",
        "cfg-zero:zero-steps=3",
        "dynthres:mimic=5.5,percentile=99,mimic-mode=half-cosine-down,mimic-min=1,cfg-mode=sawtooth,cfg-min=2,value=3,\
         channels=together,start=zero,measure=std,phi=0.5",
    ];
    for text in texts {
        let method: GuidanceMethod = text.parse().unwrap();
        assert_eq!(method.to_string(), text);
    }
    for text in [
        "scale=3,adaptive=0,blocks=mid",
        "scale=0.5,adaptive=0.01,blocks=down+up.1+up.3",
    ] {
        assert_eq!(text.parse::<Pag>().unwrap().to_string(), text);
    }
    let four: Pag = "4".parse().unwrap();
    assert_eq!(four.to_string(), "scale=4,adaptive=0,blocks=mid");
    assert!((four.scale_at(1.0) - 4.0).abs() < 1e-12);
    let freeu = "b1=1.5,b2=1.6,s1=0.9,s2=0.2";
    assert_eq!("on".parse::<FreeU>().unwrap().to_string(), freeu);
    assert_eq!(freeu.parse::<FreeU>().unwrap().to_string(), freeu);
    for (name, method, _) in GuidanceMethod::ALL {
        assert_eq!(name.parse::<GuidanceMethod>().unwrap(), method);
        let again = method.to_string().parse::<GuidanceMethod>();
        assert_eq!(again.unwrap(), method);
        method.check().unwrap();
    }
}

#[test]
fn what_makes_no_sense_is_named() {
    let parse = |text: &str| text.parse::<GuidanceMethod>().and_then(|m| m.check());
    let schedule = |text: &str| text.parse::<ScaleSchedule>().and_then(|s| s.check());
    let interval = |text: &str| text.parse::<Interval>().and_then(|i| i.check());
    let pag = |text: &str| text.parse::<Pag>().and_then(|p| p.check());
    let sag = |text: &str| text.parse::<Sag>().and_then(|s| s.check());
    let freeu = |text: &str| text.parse::<FreeU>().and_then(|f| freeu::check(&f));
    let cases = [
        (pag("scale=101"), "pag scale is 101"),
        (pag("-1"), "pag scale is -1"),
        (pag("adaptive=2"), "pag adaptive is 2"),
        (pag("blocks=middle"), "the blocks are \"middle\""),
        (pag("blocks=mid.1"), "the blocks are \"mid.1\""),
        (pag("blocks=up.32"), "the blocks are \"up.32\""),
        (pag("blocks="), "the blocks are \"\""),
        (freeu("b3=1"), "freeu has no setting \"b3\""),
        (freeu("start=0.5,end=0.2"), "the end of freeu is 0.2"),
        (freeu("start=2"), "the start of freeu is 2"),
        (freeu("s1=NaN"), "a factor of freeu is NaN"),
        (
            freeu("version=3"),
            "version is \"3\", expected one of 1, 2, 1-comfy",
        ),
        (sag("101"), "guidance sag is 101"),
        (sag("NaN"), "guidance sag is NaN"),
        (sag("sigma=0"), "guidance sag sigma is 0"),
        (sag("threshold=-1"), "guidance sag threshold is -1"),
        (sag("rule=comfy"), "expected one of diffusers, forge"),
        (sag("blur=2"), "sag has no setting \"blur\""),
        (parse("apgg"), "unknown guidance method \"apgg\""),
        (parse("apg:etta=1"), "apg has no setting \"etta\""),
        (parse("apg:eta=1,eta=2"), "apg has eta twice"),
        (parse("apg:eta"), "expected a setting such as key=value"),
        (parse("apg:eta=x"), "eta is \"x\", expected a number"),
        (
            parse("apg:eta=NaN"),
            "apg eta is NaN, expected a number from 0 to 10",
        ),
        (parse("apg:momentum=-2"), "apg momentum is -2"),
        (parse("cfg:eta=1"), "cfg has no setting \"eta\""),
        (parse("cfg-zero:zero-steps=-1"), "expected a whole number"),
        (parse("cfg-zero:zero-steps=2000"), "expected 0 to 1000"),
        (parse("dynthres:mimic=101"), "dynthres mimic is 101"),
        (parse("dynthres:phi=1.5"), "dynthres phi is 1.5"),
        (
            parse("dynthres:start=top"),
            "start is \"top\", expected one of mean, zero",
        ),
        (schedule("7..x"), "the guidance schedule is \"7..x\""),
        (schedule("7..2:round"), "\"7..2:round\""),
        (schedule(""), "expected two scales such as"),
        (schedule("7..1001"), "guidance schedule is 1001"),
        (schedule("7,inf"), "guidance schedule is inf"),
        (interval("0.5"), "the guidance interval is \"0.5\""),
        (interval("0.5..0.2"), "expected the smaller end first"),
        (interval("0..1.5"), "guidance interval's end is 1.5"),
        (interval("sigma:-1..3"), "guidance interval's start is -1"),
        (interval("NaN..1"), "guidance interval's start is NaN"),
    ];
    for (found, words) in cases {
        let error = found.unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::InvalidConfig);
        assert!(error.message().contains(words), "{words}: {error}");
    }
    let list = options(|o| o.schedule = Some("7,6,5".parse().unwrap()));
    let error = GuidancePlan::new((7.5, 0.0), &list, LENGTH, Needs::Scale).unwrap_err();
    assert!(
        error.message().contains("has 3 scales, expected 4"),
        "{error}"
    );
    assert!(options(|o| o.skip_early = -0.1).check().is_err());
    assert!(options(|o| o.min_sigma = f64::NAN).check().is_err());
    assert!(
        options(|o| o.sag = Some("-101".parse().unwrap()))
            .check()
            .is_err()
    );
}

#[test]
fn settings_of_changes_come_back() {
    for text in [
        "0.75",
        "-0.5",
        "scale=0.5,sigma=2,threshold=1,rule=forge",
        "scale=0.75,sigma=1.5,threshold=0.5,rule=diffusers",
    ] {
        assert_eq!(text.parse::<Sag>().unwrap().to_string(), text);
    }
    assert_eq!("rule=forge".parse::<Sag>().unwrap(), Sag::FORGE);
    for text in [
        "b1=1.5,b2=1.6,s1=0.9,s2=0.2",
        "b1=1.3,b2=1.4,s1=0.9,s2=0.2,version=2",
    ] {
        assert_eq!(text.parse::<FreeU>().unwrap().to_string(), text);
    }
    assert_eq!(
        "version=2".parse::<FreeU>().unwrap().to_string(),
        "b1=1.3,b2=1.4,s1=0.9,s2=0.2,version=2"
    );
    let part = "b1=1.1,b2=1.2,s1=0.9,s2=0.2,version=1-comfy,start=0.25,end=0.75";
    let freeu = part.parse::<FreeU>().unwrap();
    assert_eq!(freeu.to_string(), part);
    // Of 5 steps, told of each one late: 0, 0, 1, 2, 3 of 4.
    let holds: Vec<bool> = (0..5).map(|step| freeu.holds_at(step, 5, 1)).collect();
    assert_eq!(holds, [false, false, true, true, true]);
    // Twice a step: 0, 0 | 0, 1 | 1, 2 of 2.
    let holds: Vec<bool> = (0..6).map(|index| freeu.holds_at(index, 3, 2)).collect();
    assert_eq!(holds, [false, false, false, true, true, false]);
}

#[test]
fn what_forge_changes_agrees_with_its_rules() {
    let fixture: Value =
        serde_json::from_str(include_str!("../../tests/data/guidance/forge.json")).unwrap();
    let tensor = |value: &Value| {
        let shape: Vec<usize> = serde_json::from_value(value["shape"].clone()).unwrap();
        let values: Vec<f32> = serde_json::from_value(value["values"].clone()).unwrap();
        HostTensor::new(shape, values).unwrap()
    };
    let cases = fixture["freeu"].as_array().unwrap();
    for case in cases {
        let factor = case["factor"].as_f64().unwrap();
        let found = by_the_mean(tensor(&case["map"]), factor).unwrap();
        assert!(worst(&[found], &[tensor(&case["changed"])]) < TOLERANCE);
    }
    let blurs = fixture["sag"].as_array().unwrap();
    for case in blurs {
        let sag: Sag = case["settings"].as_str().unwrap().parse().unwrap();
        let received = tensor(&case["received"]);
        let attended = Attended {
            height: received.shape()[0],
            width: received.shape()[1],
            received: received.into_data(),
        };
        let found = blurred(tensor(&case["clean"]), &attended, &sag).unwrap();
        assert!(
            worst(&[found], &[tensor(&case["blurred"])]) < TOLERANCE,
            "{sag}"
        );
    }
    assert!(cases.len() >= 3 && blurs.len() >= 4);
}

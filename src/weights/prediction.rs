//! What a single file's UNet predicts: the noise, or the velocity.
//!
//! Nothing in the shapes tells the two apart, and the wrong guess gives noise for a picture. Evidence is
//! taken in this order, each rule from the tool in brackets:
//! 1. a tensor named `v_pred`, with `ztsnr` for zero terminal SNR [trainers of SDXL; ComfyUI, webui];
//! 2. `modelspec.prediction_type`, then `modelspec.architecture`, of the safetensors header
//!    [the ModelSpec standard; kohya's trainer];
//! 3. a `.yaml` beside the file, latent-diffusion's own configuration [webui; CivitAI ships it with 2.x];
//! 4. for Stable Diffusion 2.x alone, whose two published models differ: 875,000 training steps mean the
//!    512-pixel base model [diffusers], and otherwise the spread of one bias of the last transformer,
//!    above 0.09 in models trained for velocity [ComfyUI]. This one is a guess, and is reported as such.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use half::{bf16, f16};
use serde_json::{Value, json};

use super::spec::Base;
use super::tensor_file::TensorFile;
use super::{RawTensor, StoredDType, TensorSource};

/// What the UNet predicts, and how that is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Prediction {
    pub(crate) kind: Kind,
    /// Whether the schedule ends in pure noise.
    pub(crate) zero_terminal_snr: bool,
    pub(crate) evidence: Evidence,
}

/// What is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The noise.
    Epsilon,
    /// The velocity of Salimans and Ho 2022.
    Velocity,
}

/// How a prediction type is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// The file, or one beside it, says so.
    Stated,
    /// The family has but one.
    Family,
    /// The weights look like it.
    Guessed,
}

/// Training steps of Stable Diffusion 2.0's base model, as its checkpoint notes them.
const BASE_MODEL_STEPS: i64 = 875_000;

/// A bias that spreads wider in velocity models, and how wide.
const TELLTALE: &str = "output_blocks.11.1.transformer_blocks.0.norm1.bias";
const TELLTALE_SPREAD: f64 = 0.09;

/// Longest YAML that is searched; published ones take 2 KB.
const MAX_YAML_BYTES: u64 = 1 << 20;

/// Finds out what a single file's UNet predicts.
pub(crate) fn find(
    path: &Path,
    file: &TensorFile,
    base: Base,
    unet: &dyn TensorSource,
) -> Prediction {
    let marked = |name: &str| file.tensors.info(name).is_some();
    let stated = if marked("v_pred") {
        Some(Kind::Velocity)
    } else {
        from_metadata(&file.metadata).or_else(|| from_yaml(path))
    };
    let takes_four = unet
        .info("input_blocks.0.0.weight")
        .is_some_and(|(_, shape)| shape.get(1) == Some(&4));
    let (kind, evidence) = match stated {
        Some(kind) => (kind, Evidence::Stated),
        // The inpainting, depth and upscaling models of 2.x all predict noise.
        None if base != Base::Sd2 || !takes_four => (Kind::Epsilon, Evidence::Family),
        None if file.global_step == Some(BASE_MODEL_STEPS) => (Kind::Epsilon, Evidence::Stated),
        None => (from_spread(unet), Evidence::Guessed),
    };
    Prediction {
        kind,
        zero_terminal_snr: marked("ztsnr"),
        evidence,
    }
}

fn from_metadata(metadata: &BTreeMap<String, String>) -> Option<Kind> {
    let value = |key: &str| metadata.get(key).map(|value| value.to_ascii_lowercase());
    match value("modelspec.prediction_type").as_deref() {
        Some("epsilon" | "eps") => return Some(Kind::Epsilon),
        Some("v" | "v_prediction" | "v-prediction" | "vpred" | "v_pred") => {
            return Some(Kind::Velocity);
        }
        _ => {}
    }
    let architecture = value("modelspec.architecture")?;
    if architecture.contains("-v2-768-v") {
        Some(Kind::Velocity)
    } else if architecture.contains("-v2-512") {
        Some(Kind::Epsilon)
    } else {
        None
    }
}

/// Looks for `parameterization` in a configuration of latent-diffusion beside the file; without the key
/// such a configuration means noise.
fn from_yaml(path: &Path) -> Option<Kind> {
    let mut text = String::new();
    std::fs::File::open(path.with_extension("yaml"))
        .ok()?
        .take(MAX_YAML_BYTES)
        .read_to_string(&mut text)
        .ok()?;
    let value = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("parameterization:"))
        .map(|value| value.trim().trim_matches(['"', '\'']));
    match value {
        Some("v") => Some(Kind::Velocity),
        Some("eps") => Some(Kind::Epsilon),
        Some(_) => None,
        None => text.contains("linear_start:").then_some(Kind::Epsilon),
    }
}

/// Judges by the spread of one bias; velocity, as diffusers assumes, where it is missing.
fn from_spread(unet: &dyn TensorSource) -> Kind {
    let Some(values) = unet.read(TELLTALE).ok().and_then(|tensor| floats(&tensor)) else {
        return Kind::Velocity;
    };
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / count;
    if variance.sqrt() > TELLTALE_SPREAD {
        Kind::Velocity
    } else {
        Kind::Epsilon
    }
}

/// The elements of a small tensor.
fn floats(tensor: &RawTensor<'_>) -> Option<Vec<f64>> {
    let bytes = tensor.bytes.as_ref();
    let pairs = || bytes.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
    Some(match tensor.dtype {
        StoredDType::F16 => pairs()
            .map(|pair| f16::from_le_bytes(pair).to_f64())
            .collect(),
        StoredDType::Bf16 => pairs()
            .map(|pair| bf16::from_le_bytes(pair).to_f64())
            .collect(),
        StoredDType::F32 => bytes
            .chunks_exact(4)
            .map(|four| f64::from(f32::from_le_bytes([four[0], four[1], four[2], four[3]])))
            .collect(),
        _ => return None,
    })
}

impl Prediction {
    /// Writes the prediction into a scheduler's configuration.
    ///
    /// A schedule with zero terminal SNR must begin at its last step, which only trailing spacing visits
    /// (Lin et al. 2023, section 3.3), so the marker sets that too.
    pub(crate) fn write(self, scheduler: &mut Value) {
        let Some(scheduler) = scheduler.as_object_mut() else {
            return;
        };
        let name = match self.kind {
            Kind::Epsilon => "epsilon",
            Kind::Velocity => "v_prediction",
        };
        scheduler.insert("prediction_type".to_owned(), json!(name));
        if self.zero_terminal_snr {
            scheduler.insert("rescale_betas_zero_snr".to_owned(), json!(true));
            scheduler.insert("timestep_spacing".to_owned(), json!("trailing"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::weights::view::testing::MemorySource;

    fn file(
        tensors: MemorySource,
        metadata: &[(&str, &str)],
        global_step: Option<i64>,
    ) -> TensorFile {
        TensorFile {
            tensors: Arc::new(tensors),
            metadata: metadata
                .iter()
                .map(|&(k, v)| (k.to_owned(), v.to_owned()))
                .collect(),
            global_step,
        }
    }

    fn unet(channels: usize, spread: f32) -> MemorySource {
        let mut unet = MemorySource::default().with("input_blocks.0.0.weight", &[1, channels]);
        let bytes = [spread, -spread]
            .iter()
            .flat_map(|value| f16::from_f32(*value).to_le_bytes())
            .collect();
        unet.tensors
            .insert(TELLTALE.to_owned(), (StoredDType::F16, vec![2], bytes));
        unet
    }

    fn kind(file: &TensorFile, base: Base, unet: &MemorySource) -> (Kind, Evidence) {
        let found = find(Path::new("none.safetensors"), file, base, unet);
        (found.kind, found.evidence)
    }

    #[test]
    fn markers_come_first() {
        let none = || file(MemorySource::default(), &[], None);
        let marked = file(
            MemorySource::default().with("v_pred", &[0]),
            &[("modelspec.prediction_type", "epsilon")],
            None,
        );
        assert_eq!(
            kind(&marked, Base::Sdxl, &unet(4, 0.0)),
            (Kind::Velocity, Evidence::Stated)
        );
        assert_eq!(
            kind(&none(), Base::Sdxl, &unet(4, 1.0)),
            (Kind::Epsilon, Evidence::Family)
        );
        assert_eq!(
            kind(&none(), Base::Sd1, &unet(4, 1.0)),
            (Kind::Epsilon, Evidence::Family)
        );
        assert_eq!(
            kind(&none(), Base::Sd2, &unet(9, 1.0)),
            (Kind::Epsilon, Evidence::Family)
        );
    }

    #[test]
    fn metadata_is_honoured() {
        for (key, value, expected) in [
            ("modelspec.prediction_type", "v", Kind::Velocity),
            ("modelspec.prediction_type", "epsilon", Kind::Epsilon),
            (
                "modelspec.architecture",
                "stable-diffusion-v2-768-v",
                Kind::Velocity,
            ),
            (
                "modelspec.architecture",
                "stable-diffusion-v2-512",
                Kind::Epsilon,
            ),
        ] {
            let spread = if expected == Kind::Velocity { 0.0 } else { 1.0 };
            let file = file(MemorySource::default(), &[(key, value)], None);
            assert_eq!(
                kind(&file, Base::Sd2, &unet(4, spread)),
                (expected, Evidence::Stated),
                "{value}"
            );
        }
    }

    #[test]
    fn the_second_generation_is_judged_by_steps_then_by_spread() {
        let none = file(MemorySource::default(), &[], None);
        assert_eq!(
            kind(&none, Base::Sd2, &unet(4, 0.1)),
            (Kind::Velocity, Evidence::Guessed)
        );
        assert_eq!(
            kind(&none, Base::Sd2, &unet(4, 0.08)),
            (Kind::Epsilon, Evidence::Guessed)
        );
        let bare = MemorySource::default().with("input_blocks.0.0.weight", &[1, 4]);
        assert_eq!(
            kind(&none, Base::Sd2, &bare),
            (Kind::Velocity, Evidence::Guessed)
        );
        let base = file(MemorySource::default(), &[], Some(875_000));
        assert_eq!(
            kind(&base, Base::Sd2, &unet(4, 1.0)),
            (Kind::Epsilon, Evidence::Stated)
        );
    }

    #[test]
    fn a_configuration_beside_the_file_is_honoured() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        for (yaml, expected) in [
            (
                "model:\n  params:\n    parameterization: \"v\"\n",
                Some(Kind::Velocity),
            ),
            (
                "model:\n  params:\n    linear_start: 0.00085\n",
                Some(Kind::Epsilon),
            ),
            ("title: something else\n", None),
        ] {
            std::fs::write(dir.path().join("model.yaml"), yaml).unwrap();
            assert_eq!(from_yaml(&path), expected, "{yaml}");
        }
    }

    #[test]
    fn zero_terminal_snr_reaches_the_scheduler() {
        let marked = file(
            MemorySource::default()
                .with("v_pred", &[0])
                .with("ztsnr", &[0]),
            &[],
            None,
        );
        let mut scheduler = json!({"beta_start": 0.00085, "timestep_spacing": "leading"});
        find(Path::new("x"), &marked, Base::Sdxl, &unet(4, 0.0)).write(&mut scheduler);
        assert_eq!(
            scheduler,
            json!({"beta_start": 0.00085, "prediction_type": "v_prediction",
                   "rescale_betas_zero_snr": true, "timestep_spacing": "trailing"})
        );
    }
}

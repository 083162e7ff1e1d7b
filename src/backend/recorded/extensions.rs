//! Guidance by the keys of other programs: Forge's own scripts (`extensions-builtin` of stable-diffusion-webui-forge) and
//! the extension sd-perturbed-attention.

use super::keys::read;
use super::{Recorded, says, value_of};
use crate::error::{Context, Result};
use crate::guidance::{Blocks, FreeU, FreeUVersion, Pag, Sag};
use crate::metadata::Parameters;

/// Every key that is read here.
pub(super) const KEYS: [&str; 19] = [
    "PerturbedAttentionGuidance_enabled",
    "PerturbedAttentionGuidance_scale",
    "pag_enabled",
    "pag_scale",
    "pag_adaptive_scale",
    "pag_block",
    "pag_block_id",
    "sag_enabled",
    "sag_scale",
    "sag_blur_sigma",
    "sag_threshold",
    "freeu_enabled",
    "freeu_version",
    "freeu_b1",
    "freeu_b2",
    "freeu_s1",
    "freeu_s2",
    "freeu_start",
    "freeu_end",
];

impl Recorded {
    /// Takes what the keys say together.
    pub(super) fn take_extensions(&mut self, parameters: &Parameters) -> Result<()> {
        if says(parameters, "PerturbedAttentionGuidance_enabled", "True") {
            let scale = number(
                parameters,
                "PerturbedAttentionGuidance_scale",
                Pag::DEFAULT.scale,
            )?;
            self.config.guidance.pag = Some(Pag {
                scale,
                ..Pag::DEFAULT
            });
        }
        if says(parameters, "pag_enabled", "True") {
            self.take_pag(parameters)?;
        }
        if says(parameters, "sag_enabled", "True") {
            let own = Sag::FORGE;
            self.config.guidance.sag = Some(Sag {
                scale: number(parameters, "sag_scale", own.scale)?,
                sigma: number(parameters, "sag_blur_sigma", own.sigma)?,
                threshold: number(parameters, "sag_threshold", own.threshold)?,
                ..own
            });
        }
        if says(parameters, "freeu_enabled", "True") {
            self.take_freeu(parameters)?;
        }
        Ok(())
    }

    fn take_freeu(&mut self, parameters: &Parameters) -> Result<()> {
        // Ours for ComfyUI's first node; Forge has the second version.
        let version = match value_of(parameters, "freeu_version") {
            Some("1-comfy") => FreeUVersion::FirstByChannels,
            _ => FreeUVersion::Second,
        };
        // The defaults of Forge's sliders.
        self.config.guidance.freeu = Some(FreeU {
            backbone: [
                number(parameters, "freeu_b1", 1.01)?,
                number(parameters, "freeu_b2", 1.02)?,
            ],
            skip: [
                number(parameters, "freeu_s1", 0.99)?,
                number(parameters, "freeu_s2", 0.95)?,
            ],
            version,
            share: [
                number(parameters, "freeu_start", 0.0)?,
                number(parameters, "freeu_end", 1.0)?,
            ],
        });
        Ok(())
    }

    fn take_pag(&mut self, parameters: &Parameters) -> Result<()> {
        let block = value_of(parameters, "pag_block").unwrap_or("middle");
        let id = value_of(parameters, "pag_block_id").unwrap_or("0");
        if !block.eq_ignore_ascii_case("middle") || id != "0" {
            let reason = "of the blocks that are named so, only middle 0 is known here";
            for key in KEYS.iter().filter(|key| key.starts_with("pag_")) {
                self.refuse_recorded(parameters, key, reason);
            }
            return Ok(());
        }
        let scale = number(parameters, "pag_scale", Pag::DEFAULT.scale)?;
        let share = number(parameters, "pag_adaptive_scale", 0.0)?;
        self.config.guidance.pag = Some(Pag {
            scale,
            // There the weight loses this much with each timestep.
            adaptive: scale * share.powi(4),
            blocks: Blocks::MID,
        });
        Ok(())
    }
}

fn number(parameters: &Parameters, key: &str, default: f64) -> Result<f64> {
    value_of(parameters, key)
        .map_or(Ok(default), read)
        .context(key)
}

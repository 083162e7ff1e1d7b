//! Guidance by the keys of other programs: Forge's own scripts (`extensions-builtin` of stable-diffusion-webui-forge) and
//! the extension sd-perturbed-attention.

use super::keys::read;
use super::{Recorded, says, value_of};
use crate::error::{Context, Result};
use crate::guidance::{Blocks, FreeU, Pag};
use crate::metadata::Parameters;

/// Every key that is read here.
pub(super) const KEYS: [&str; 16] = [
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
    "freeu_b1",
    "freeu_b2",
    "freeu_s1",
    "freeu_s2",
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
            self.config.guidance.sag = number(parameters, "sag_scale", 0.5)?;
            let reason = "diffusers' rule is applied, which compares two predictions; Forge compares the blurred latents \
                          with what is predicted of them";
            self.refuse_recorded(parameters, "sag_enabled", reason);
            for (key, own) in [("sag_blur_sigma", 1.0), ("sag_threshold", 1.0)] {
                if (number(parameters, key, own)? - own).abs() > 0.0 {
                    self.refuse_recorded(parameters, key, "it is 1 here");
                }
            }
        }
        if says(parameters, "freeu_enabled", "True") {
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
            });
            let reason = "the first version of FreeU is applied, to the two innermost blocks; Forge applies the second, by \
                          numbers of channels";
            self.refuse_recorded(parameters, "freeu_enabled", reason);
        }
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

//! Which layer of the text towers a picture's clip skip stands for, which its program and the model's towers decide.

use super::Recorded;
use super::levels::Origin;
use crate::backend::clip::{ClipTextEncoder, Towers};
use crate::backend::model::SDModel;
use crate::guidance::FreeU;
use crate::metadata::Parameters;

/// How a program reads its clip skip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum LayerRule {
    /// As we do.
    #[default]
    Ours,
    /// Likewise, in Forge from its own engine on (`backend/text_processing/classic_engine.py`).
    Forge,
    /// For SD1's tower alone (`modules/sd_hijack_clip.py`, `sd_hijack_open_clip.py`).
    Webui,
    /// In SD2's tower from a layer on that diffusers' checkpoints lack (`comfy/sd2_clip.py`).
    ComfyUi,
}

impl LayerRule {
    /// That of the program that wrote a text.
    pub(super) fn of(parameters: &Parameters) -> Self {
        if super::is_ours(parameters) {
            return Self::Ours;
        }
        if super::says(parameters, "Version", "ComfyUI") {
            return Self::ComfyUi;
        }
        match Origin::of(parameters) {
            Some(origin) if origin.has_own_engine => Self::Forge,
            Some(_) => Self::Webui,
            None => Self::Ours,
        }
    }

    /// Our clip skip for the program's, `None` where it is the model's own layer, or why there is none.
    pub(super) fn layer(self, skip: usize, towers: Towers) -> Result<Option<usize>, &'static str> {
        match (self, towers) {
            (Self::Webui, Towers::OpenClip) => Err(
                "the webui leaves out layers of SD1's text tower only, so this model's own layer is taken",
            ),
            (Self::Webui, Towers::Pooled) => Err(
                "the webui leaves out layers of SD1's text tower only, unless it is told to for SDXL, which the text \
                 does not say; this model's own layers are taken",
            ),
            (Self::ComfyUi, Towers::OpenClip) if skip <= 1 => Err(
                "this layer is not in the checkpoint, whose text tower ends at the last but one",
            ),
            (Self::ComfyUi, Towers::OpenClip) => Ok(Some(skip - 1)),
            _ => Ok(Some(skip)),
        }
    }
}

impl Recorded {
    /// Fits what depends on the model to `model`: the layer of its text towers, and other programs' FreeU, which changes
    /// nothing there in a UNet that has no place for it.
    pub fn fit_model(&mut self, model: &SDModel) {
        self.fit_towers(model.text_encoder().towers());
        self.name_long_prompts(model.text_encoder());
        let guidance = &mut self.config.guidance;
        let placeless = |freeu: &mut FreeU| freeu.check(model.unet.config()).is_err();
        if self.layer_rule != LayerRule::Ours && guidance.freeu.take_if(placeless).is_some() {
            self.refuse(
                "freeu_enabled",
                "True",
                "this model's UNet has no maps that it changes",
            );
        }
    }

    /// ComfyUI breaks texts of more tokens than the towers take elsewhere than at a comma, where its release decides.
    fn name_long_prompts(&mut self, text: &ClipTextEncoder) {
        if self.layer_rule != LayerRule::ComfyUi {
            return;
        }
        let config = &self.config;
        let prompts = [
            ("prompt", Some(&config.prompt)),
            ("negative prompt", config.negative_prompt.as_ref()),
        ];
        let long: Vec<(&str, usize)> = prompts
            .into_iter()
            .filter_map(|(name, prompt)| {
                Some((name, text.chunk_count(prompt?, config.text.emphasis)))
            })
            .filter(|(_, count)| *count > 1)
            .collect();
        for (name, count) in long {
            let reason = "ComfyUI breaks long texts between words or weighted parts, by its release; here the last comma counts";
            self.refuse(name, &format!("{count} chunks"), reason);
        }
    }

    pub(super) fn fit_towers(&mut self, towers: Towers) {
        let Some(skip) = self.config.clip_skip else {
            return;
        };
        match self.layer_rule.layer(skip, towers) {
            Ok(own) => self.config.clip_skip = own,
            Err(reason) => {
                self.config.clip_skip = None;
                self.config.clip_skip_negative = false;
                self.refuse("Clip skip", &skip.to_string(), reason);
            }
        }
    }
}

//! The one table of facts per model family.
//!
//! What a checkpoint's own configuration says always wins; a row only says what no file does (a family's
//! name, sensible defaults, what cannot be done with it yet) and which published configurations stand in
//! for those that a single-file checkpoint lacks.

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};

/// A family of models: one row of [`FAMILIES`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Family {
    /// Stable identifier, for programs ("sd1", "sdxl-turbo").
    pub id: &'static str,
    /// Name for people.
    pub name: &'static str,
    /// Side of the square picture it was trained on, in pixels, where the UNet's `sample_size` is silent.
    pub default_size_px: usize,
    /// Denoising steps that give a finished picture.
    pub default_steps: usize,
    /// Guidance scale its authors recommend; 0 or 1 for models distilled to need none.
    pub default_guidance_scale: f64,
    /// Why no picture can be made from text alone, for families that load and can be inspected only.
    pub text_to_image_obstacle: Option<&'static str>,
    /// Which published configurations describe its single files.
    pub(crate) published: Published,
}

/// A set of published component configurations, embedded as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Published(&'static str);

impl Published {
    const SD1: Self = Self(include_str!("configs/sd1.json"));
    const SD2: Self = Self(include_str!("configs/sd2.json"));
    const SDXL: Self = Self(include_str!("configs/sdxl.json"));
    const REFINER: Self = Self(include_str!("configs/sdxl-refiner.json"));

    /// All configurations: an object with the components' names as keys.
    ///
    /// # Errors
    /// When the embedded text is no JSON, which the tests rule out.
    pub(crate) fn configs(self) -> Result<Value> {
        serde_json::from_str(self.0).map_err(|error| {
            Error::new(
                ErrorKind::Internal,
                "an embedded model configuration is not JSON; this is a bug",
            )
            .with_source(error)
        })
    }
}

const INPAINT: Option<&str> = Some(
    "an inpainting UNet takes nine channels: noise, a mask and the masked picture; text alone is not enough",
);
const PIX2PIX: Option<&str> =
    Some("an instruction UNet takes eight channels: noise and the picture to edit");
const DEPTH: Option<&str> = Some("a depth UNet takes five channels: noise and a depth map");
const UPSCALE: Option<&str> =
    Some("an upscaler's UNet takes seven channels: noise and the small picture");
const REFINER: Option<&str> =
    Some("a refiner finishes the latents of a base model; it cannot start from text alone");

const fn row(
    id: &'static str,
    name: &'static str,
    default_size_px: usize,
    published: Published,
) -> Family {
    Family {
        id,
        name,
        default_size_px,
        default_steps: 20,
        default_guidance_scale: 7.5,
        text_to_image_obstacle: None,
        published,
    }
}

/// Every family this crate knows, by [`Family::id`].
pub const FAMILIES: &[Family] = &[
    row("sd1", "Stable Diffusion 1.x", 512, Published::SD1),
    Family {
        default_steps: 4,
        default_guidance_scale: 8.5,
        ..row(
            "sd1-lcm",
            "Stable Diffusion 1.x, latent consistency model",
            512,
            Published::SD1,
        )
    },
    Family {
        text_to_image_obstacle: INPAINT,
        ..row(
            "sd1-inpaint",
            "Stable Diffusion 1.x inpainting",
            512,
            Published::SD1,
        )
    },
    Family {
        text_to_image_obstacle: PIX2PIX,
        ..row(
            "sd1-pix2pix",
            "Stable Diffusion 1.x InstructPix2Pix",
            512,
            Published::SD1,
        )
    },
    row("sd2", "Stable Diffusion 2.x", 768, Published::SD2),
    Family {
        default_steps: 1,
        default_guidance_scale: 0.0,
        ..row("sd-turbo", "SD-Turbo", 512, Published::SD2)
    },
    Family {
        text_to_image_obstacle: INPAINT,
        ..row(
            "sd2-inpaint",
            "Stable Diffusion 2.x inpainting",
            512,
            Published::SD2,
        )
    },
    Family {
        text_to_image_obstacle: DEPTH,
        ..row(
            "sd2-depth",
            "Stable Diffusion 2.x depth",
            512,
            Published::SD2,
        )
    },
    Family {
        text_to_image_obstacle: UPSCALE,
        ..row(
            "sd2-upscale",
            "Stable Diffusion x4 upscaler",
            512,
            Published::SD2,
        )
    },
    Family {
        default_guidance_scale: 5.0,
        ..row("sdxl", "Stable Diffusion XL", 1024, Published::SDXL)
    },
    Family {
        default_steps: 4,
        default_guidance_scale: 8.0,
        ..row(
            "sdxl-lcm",
            "Stable Diffusion XL, latent consistency model",
            1024,
            Published::SDXL,
        )
    },
    Family {
        default_steps: 1,
        default_guidance_scale: 0.0,
        ..row("sdxl-turbo", "SDXL-Turbo", 512, Published::SDXL)
    },
    Family {
        text_to_image_obstacle: INPAINT,
        ..row(
            "sdxl-inpaint",
            "Stable Diffusion XL inpainting",
            1024,
            Published::SDXL,
        )
    },
    Family {
        text_to_image_obstacle: PIX2PIX,
        ..row(
            "sdxl-pix2pix",
            "Stable Diffusion XL InstructPix2Pix",
            1024,
            Published::SDXL,
        )
    },
    Family {
        text_to_image_obstacle: REFINER,
        ..row(
            "sdxl-refiner",
            "Stable Diffusion XL refiner",
            1024,
            Published::REFINER,
        )
    },
    row(
        "other",
        "a design of its own in Stable Diffusion's form",
        512,
        Published::SD1,
    ),
];

impl Family {
    /// The row called `id`.
    pub fn by_id(id: &str) -> Option<Self> {
        FAMILIES.iter().find(|family| family.id == id).copied()
    }

    /// What the texts of `tokenizer` ("tokenizer", "tokenizer_2") are padded with, for checkpoints that bring no
    /// tokenizer of their own: CLIP-L was trained with the end token, OpenCLIP's towers with zeros ("!").
    pub(crate) fn pad_token(&self, tokenizer: &str) -> Result<Option<String>> {
        let configs = self.published.configs()?;
        let token = configs
            .get(tokenizer)
            .and_then(|tokenizer| tokenizer.get("pad_token"));
        Ok(token.and_then(Value::as_str).map(str::to_owned))
    }

    /// The published configuration of a component.
    ///
    /// # Errors
    /// When the family has no such component.
    pub(crate) fn published_config(self, component: &str) -> Result<Value> {
        match self.published.configs()?.get_mut(component) {
            Some(config) => Ok(config.take()),
            None => Err(Error::new(
                ErrorKind::Internal,
                format!("{} has no {component}", self.name),
            )),
        }
    }
}

/// What tells the families apart, read from configurations or from tensor shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traits {
    /// The text towers and the UNet's kind.
    pub(crate) base: Base,
    /// Channels the UNet takes.
    pub(crate) in_channels: u64,
    /// Channels of the latents, which are those that the UNet gives.
    pub(crate) latent_channels: u64,
    /// Whether it was distilled to few steps, and how.
    pub(crate) distilled: Distilled,
}

/// Which of the four published architectures a model descends from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// CLIP-L text, convolutions around the transformers.
    Sd1,
    /// OpenCLIP-H text, linear layers around the transformers.
    Sd2,
    /// CLIP-L and OpenCLIP-bigG text, added conditioning.
    Sdxl,
    /// OpenCLIP-bigG text alone, added conditioning.
    Refiner,
}

/// How a model was distilled to few steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distilled {
    /// It was not.
    No,
    /// Adversarially (SD-Turbo, SDXL-Turbo): one step, no guidance.
    Turbo,
    /// A latent consistency model: guidance is an input of the UNet.
    Lcm,
}

impl Traits {
    /// The family with these traits.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when no row has them.
    pub(crate) fn family(self) -> Result<Family> {
        let other = |channels| {
            Error::unsupported(format!(
                "found a UNet that takes {} channels, expected {channels}",
                self.in_channels
            ))
        };
        // Every published model has four; what takes others was trained from scratch in the same form.
        if self.latent_channels != 4 {
            if self.in_channels != self.latent_channels {
                return Err(other(format!(
                    "the {} of its latents (text to image)",
                    self.latent_channels
                )));
            }
            return by_id("other");
        }
        let id = match (self.base, self.in_channels, self.distilled) {
            (Base::Sd1, 4, Distilled::Lcm) => "sd1-lcm",
            (Base::Sd1, 4, _) => "sd1",
            (Base::Sd1, 8, _) => "sd1-pix2pix",
            (Base::Sd1, 9, _) => "sd1-inpaint",
            (Base::Sd2, 4, Distilled::Turbo) => "sd-turbo",
            (Base::Sd2, 4, _) => "sd2",
            (Base::Sd2, 5, _) => "sd2-depth",
            (Base::Sd2, 7, _) => "sd2-upscale",
            (Base::Sd2, 9, _) => "sd2-inpaint",
            (Base::Sdxl, 4, Distilled::Lcm) => "sdxl-lcm",
            (Base::Sdxl, 4, Distilled::Turbo) => "sdxl-turbo",
            (Base::Sdxl, 4, Distilled::No) => "sdxl",
            (Base::Sdxl, 8, _) => "sdxl-pix2pix",
            (Base::Sdxl, 9, _) => "sdxl-inpaint",
            (Base::Refiner, 4, _) => "sdxl-refiner",
            _ => {
                return Err(other("4 (text to image), 8 or 9".to_owned()));
            }
        };
        by_id(id)
    }
}

/// The row that the table of traits names.
fn by_id(id: &str) -> Result<Family> {
    Family::by_id(id).ok_or_else(|| {
        Error::new(
            ErrorKind::Internal,
            format!("family {id} has no row; this is a bug"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_configurations_complete() {
        let mut ids: Vec<_> = FAMILIES.iter().map(|family| family.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), FAMILIES.len());
        for family in FAMILIES {
            let configs = family.published.configs().unwrap();
            for component in ["unet", "vae", "scheduler"] {
                assert!(configs[component].is_object(), "{}: {component}", family.id);
            }
            assert!(
                configs["text_encoder"].is_object() || configs["text_encoder_2"].is_object(),
                "{}",
                family.id
            );
        }
    }

    #[test]
    fn latents_of_another_width_are_a_design_of_its_own() {
        let traits = |in_channels| Traits {
            base: Base::Sd2,
            in_channels,
            latent_channels: 16,
            distilled: Distilled::No,
        };
        let family = traits(16).family().unwrap();
        assert_eq!(family.id, "other");
        assert_eq!(family.text_to_image_obstacle, None);
        let error = traits(33).family().unwrap_err();
        assert!(
            error.message().contains("33 channels, expected the 16"),
            "{error}"
        );
    }

    #[test]
    fn every_combination_has_a_row_or_says_why_not() {
        for base in [Base::Sd1, Base::Sd2, Base::Sdxl, Base::Refiner] {
            for distilled in [Distilled::No, Distilled::Turbo, Distilled::Lcm] {
                for in_channels in 0..16 {
                    let traits = Traits {
                        base,
                        in_channels,
                        latent_channels: 4,
                        distilled,
                    };
                    match traits.family() {
                        Ok(family) => assert_eq!(
                            family.text_to_image_obstacle.is_some(),
                            in_channels != 4 || base == Base::Refiner,
                            "{traits:?}"
                        ),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Unsupported);
                            assert_ne!(in_channels, 4);
                        }
                    }
                }
            }
        }
    }
}

//! diffusers' folders: `model_index.json` and one folder a component.

use std::path::Path;

use serde_json::Value;

use super::card::{self, Card};
use super::checkpoint::OpenOptions;
use super::place::Place;
use super::spec::{Base, Distilled, Family, Traits};
use super::{Component, component, json};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::events::{Event, Observer};

/// What lies in a model's folder.
pub(crate) struct Parts {
    pub(crate) family: Family,
    pub(crate) text_encoder: Option<Component>,
    pub(crate) text_encoder_2: Option<Component>,
    pub(crate) unet: Component,
    /// The model's own VAE; `None` when it has none or another is to be used.
    pub(crate) vae: Option<Component>,
    /// The configuration of the model's own VAE, for one that brings none.
    pub(crate) vae_config: Option<Value>,
    pub(crate) scheduler: Value,
    pub(crate) tokenizer: Option<Place>,
    pub(crate) tokenizer_2: Option<Place>,
    pub(crate) model_index: Value,
    pub(crate) card: Option<Card>,
}

/// The file that makes a folder a model.
pub(crate) const INDEX: &str = "model_index.json";

/// A component this crate runs, and the classes it can run it as.
struct Known {
    name: &'static str,
    classes: &'static [&'static str],
}

const TEXT: &[&str] = &["CLIPTextModel", "CLIPTextModelWithProjection"];
const KNOWN: [Known; 4] = [
    Known {
        name: "unet",
        classes: &["UNet2DConditionModel"],
    },
    Known {
        name: "vae",
        classes: &["AutoencoderKL"],
    },
    Known {
        name: "text_encoder",
        classes: TEXT,
    },
    Known {
        name: "text_encoder_2",
        classes: TEXT,
    },
];

/// Components whose absence or presence changes no picture here.
const PASSED_OVER: [&str; 8] = [
    "scheduler",
    "tokenizer",
    "tokenizer_2",
    "safety_checker",
    "feature_extractor",
    "image_encoder",
    "watermarker",
    "add_watermarker",
];

/// The components with weights that an index asks for, after checking that they can be run.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for pipelines of another kind, naming the class found.
pub(crate) fn weighted_components(index: &Value) -> Result<Vec<&'static str>> {
    let pipeline = index
        .get("_class_name")
        .and_then(Value::as_str)
        .unwrap_or("an unnamed pipeline");
    if class_of(index, "unet").is_none() {
        return Err(Error::unsupported(format!(
            "found {pipeline} with the components {}, expected a Stable Diffusion pipeline with a unet",
            listed(index)
        ))
        .with_hint("Stable Diffusion 1.x, 2.x and XL are supported, and models distilled or pruned from them"));
    }
    let mut present = Vec::new();
    for known in &KNOWN {
        let Some(class) = class_of(index, known.name) else {
            continue;
        };
        // Old indices name transformers' and diffusers' classes with a Flax twin; the weights are the same.
        if !known.classes.contains(&class) {
            return Err(Error::unsupported(format!(
                "component {} of {pipeline} is a {class}, expected {}",
                known.name,
                known.classes.join(" or ")
            )));
        }
        present.push(known.name);
    }
    Ok(present)
}

/// The class of a component, unless it is absent or null.
fn class_of<'a>(index: &'a Value, name: &str) -> Option<&'a str> {
    index.get(name)?.as_array()?.get(1)?.as_str()
}

/// The names of an index's components.
fn listed(index: &Value) -> String {
    let names: Vec<_> = index
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| value.is_array())
        .map(|(name, _)| name.as_str())
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Opens the model in `folder`.
///
/// # Errors
/// When a needed file is missing, damaged, or of a kind that cannot be run.
pub(crate) fn open(
    folder: &Place,
    options: &OpenOptions,
    observer: &mut dyn Observer,
) -> Result<Parts> {
    let index = read_index(folder)?;
    let context = || folder.join(INDEX).to_string();
    let present = weighted_components(&index).map_err(|error| error.context(context()))?;
    warn_of_others(&index, observer);
    let variant = options.variant.as_deref();
    let optional = |name: &str| -> Result<Option<Component>> {
        present
            .contains(&name)
            .then(|| component::open(&folder.join(name), name, variant))
            .transpose()
    };
    let text_encoder = optional("text_encoder")?;
    let text_encoder_2 = optional("text_encoder_2")?;
    if text_encoder.is_none() && text_encoder_2.is_none() {
        return Err(Error::unsupported(format!(
            "{}: found no text encoder, expected text_encoder or text_encoder_2",
            context()
        )));
    }
    let unet = component::open(&folder.join("unet"), "unet", variant)?;
    let vae = match options.vae {
        Some(_) => None,
        None => optional("vae")?,
    };
    let vae_config = match &vae {
        Some(vae) => Some(vae.config.clone()),
        None if present.contains(&"vae") => {
            Some(component::read_config(&folder.join("vae"), "vae")?)
        }
        None => None,
    };
    let scheduler = read_scheduler(folder)?;
    let family = traits(&index, &unet.config, &scheduler)
        .family()
        .context(folder.join("unet"))?;
    Ok(Parts {
        family,
        text_encoder,
        text_encoder_2,
        unet,
        vae,
        vae_config,
        scheduler,
        tokenizer: tokenizer(folder, "tokenizer"),
        tokenizer_2: tokenizer(folder, "tokenizer_2"),
        model_index: index,
        card: card::read(folder)?,
    })
}

/// Reads `model_index.json`, or says what the folder is instead of a model's.
pub(crate) fn read_index(folder: &Place) -> Result<Value> {
    let place = folder.join(INDEX);
    if place.exists() {
        return json::read_object(&place);
    }
    let files = folder.file_names()?;
    let weights: Vec<_> = files
        .iter()
        .filter(|file| {
            let extension = Path::new(file).extension().and_then(|e| e.to_str());
            matches!(extension, Some("safetensors" | "ckpt" | "pt"))
        })
        .cloned()
        .collect();
    let (found, hint) = if files.contains(&"config.json".to_owned()) {
        (
            "a single component (config.json)".to_owned(),
            "name the folder above it".to_owned(),
        )
    } else if let [first, ..] = &weights[..] {
        (
            format!("the files {}", weights.join(", ")),
            format!(
                "to load a single-file checkpoint, name the file: {}",
                folder.join(first)
            ),
        )
    } else if files.is_empty() {
        (
            "no files".to_owned(),
            "name the folder that holds model_index.json, or a .safetensors file".to_owned(),
        )
    } else {
        (
            format!("the files {}", files.join(", ")),
            "name the folder that holds model_index.json, or a .safetensors file".to_owned(),
        )
    };
    Err(Error::new(
        ErrorKind::NotFound,
        format!("{folder}: found {found}, expected {INDEX}"),
    )
    .with_hint(hint))
}

/// Reads the scheduler's configuration.
pub(crate) fn read_scheduler(folder: &Place) -> Result<Value> {
    let place = folder.join("scheduler").join("scheduler_config.json");
    json::read_object(&place).map_err(|error| {
        if error.kind() == ErrorKind::NotFound {
            Error::new(
                ErrorKind::NotFound,
                format!("component scheduler has no configuration: found no {place}"),
            )
            .with_hint("the model's folder is incomplete; fetch it anew")
        } else {
            error
        }
    })
}

/// Tells the observer of components that have no part in the picture made here.
fn warn_of_others(index: &Value, observer: &mut dyn Observer) {
    for (name, value) in index.as_object().into_iter().flatten() {
        let known =
            KNOWN.iter().any(|known| known.name == name) || PASSED_OVER.contains(&name.as_str());
        if let (false, Some(class)) = (known, value.as_array().and_then(|a| a.get(1)?.as_str())) {
            observer.on_event(&Event::Warning(format!(
                "component {name} ({class}) is not used"
            )));
        }
    }
}

/// The folder's own tokenizer, if it has the files of one; the configuration alone means CLIP's vocabulary.
pub(crate) fn tokenizer(folder: &Place, name: &str) -> Option<Place> {
    let place = folder.join(name);
    ["vocab.json", "tokenizer.json", "tokenizer_config.json"]
        .iter()
        .any(|file| place.join(file).is_file())
        .then_some(place)
}

/// What kind of model the configurations describe.
pub(crate) fn traits(index: &Value, unet: &Value, scheduler: &Value) -> Traits {
    let added = unet.get("addition_embed_type").and_then(Value::as_str) == Some("text_time");
    let both =
        class_of(index, "text_encoder").is_some() && class_of(index, "text_encoder_2").is_some();
    let linear = unet.get("use_linear_projection").and_then(Value::as_bool) == Some(true);
    let base = match (added, both) {
        (true, true) => Base::Sdxl,
        (true, false) => Base::Refiner,
        (false, _) if linear => Base::Sd2,
        (false, _) => Base::Sd1,
    };
    let string =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let distilled = if unet
        .get("time_cond_proj_dim")
        .is_some_and(|dim| !dim.is_null())
    {
        Distilled::Lcm
    } else if string(scheduler, "timestep_spacing").as_deref() == Some("trailing")
        && string(scheduler, "_class_name").is_some_and(|class| class.starts_with("Euler"))
        && string(scheduler, "prediction_type").is_none_or(|kind| kind == "epsilon")
    {
        // Both Turbo models are published so, and nothing but their scheduler tells them from their bases.
        Distilled::Turbo
    } else {
        Distilled::No
    };
    Traits {
        base,
        in_channels: unet.get("in_channels").and_then(Value::as_u64).unwrap_or(4),
        latent_channels: unet
            .get("out_channels")
            .and_then(Value::as_u64)
            .unwrap_or(4),
        distilled,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn other_pipelines_are_refused_by_name() {
        let flux = json!({"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]});
        let error = weighted_components(&flux).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(
            error
                .message()
                .contains("FluxPipeline with the components transformer"),
            "{error}"
        );
        let tiny = json!({"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderTiny"]});
        let error = weighted_components(&tiny).unwrap_err();
        assert!(error.message().contains("component vae"), "{error}");
        assert!(
            error
                .message()
                .contains("is a AutoencoderTiny, expected AutoencoderKL"),
            "{error}"
        );
    }

    #[test]
    fn null_components_are_absent() {
        let index = json!({
            "unet": ["diffusers", "UNet2DConditionModel"],
            "text_encoder": [null, null],
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "safety_checker": [null, null],
        });
        assert_eq!(
            weighted_components(&index).unwrap(),
            ["unet", "text_encoder_2"]
        );
    }

    #[test]
    fn families_are_told_apart_by_configuration() {
        let one = json!({"text_encoder": ["transformers", "CLIPTextModel"]});
        let two = json!({"text_encoder": ["t", "CLIPTextModel"], "text_encoder_2": ["t", "CLIPTextModelWithProjection"]});
        let trailing = json!({"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing", "prediction_type": "epsilon"});
        let plain = json!({"_class_name": "PNDMScheduler"});
        let cases = [
            (&one, json!({"in_channels": 4}), &plain, "sd1"),
            (&one, json!({}), &plain, "sd1"),
            (&one, json!({"in_channels": 9}), &plain, "sd1-inpaint"),
            (&one, json!({"time_cond_proj_dim": 256}), &plain, "sd1-lcm"),
            (&one, json!({"use_linear_projection": true}), &plain, "sd2"),
            (
                &one,
                json!({"use_linear_projection": true}),
                &trailing,
                "sd-turbo",
            ),
            (
                &two,
                json!({"addition_embed_type": "text_time", "use_linear_projection": true}),
                &plain,
                "sdxl",
            ),
            (
                &two,
                json!({"addition_embed_type": "text_time"}),
                &trailing,
                "sdxl-turbo",
            ),
            (
                &one,
                json!({"addition_embed_type": "text_time"}),
                &plain,
                "sdxl-refiner",
            ),
        ];
        for (index, unet, scheduler, expected) in cases {
            let family = traits(index, &unet, scheduler).family().unwrap();
            assert_eq!(family.id, expected, "{unet}");
        }
        let error = traits(&one, &json!({"in_channels": 3}), &plain)
            .family()
            .unwrap_err();
        assert!(error.message().contains("takes 3 channels"), "{error}");
    }
}

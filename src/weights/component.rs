//! One component's folder: its configuration and its weights, whatever form they have.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::place::Place;
use super::view::{MappedSource, ShardedSource};
use super::{Component, TensorSource, json, tensor_file};
use crate::error::{Error, ErrorKind, Result};

/// Base names and extensions of weight files, in order of preference: safetensors before pickles, and of
/// each diffusers' name, then transformers'.
const FORMS: [(&str, &str); 4] = [
    ("diffusion_pytorch_model", "safetensors"),
    ("model", "safetensors"),
    ("diffusion_pytorch_model", "bin"),
    ("pytorch_model", "bin"),
];

/// Opens the component in `folder`, which is called `name` in the model's index.
///
/// `variant` picks among several precisions ("fp16" for `model.fp16.safetensors`). Without it the plain
/// files are taken, and where there are none but those of one variant, these.
///
/// # Errors
/// When the configuration or the weights are missing or unreadable.
pub(crate) fn open(folder: &Place, name: &str, variant: Option<&str>) -> Result<Component> {
    let config = read_config(folder, name)?;
    let (place, tensors) = open_weights(folder, name, variant)?;
    Ok(Component {
        name: name.to_owned(),
        config,
        tensors: normalised(name, tensors),
        path: place.to_path(),
    })
}

/// Reads `config.json` of a component.
pub(crate) fn read_config(folder: &Place, name: &str) -> Result<Value> {
    if !folder.is_dir() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("component {name} is missing: found no folder {folder}"),
        )
        .with_hint("the model's folder is incomplete; fetch it anew"));
    }
    let place = folder.join("config.json");
    json::read_object(&place).map_err(|error| {
        if error.kind() == ErrorKind::NotFound {
            Error::new(
                ErrorKind::NotFound,
                format!("component {name} has no configuration: found no {place}"),
            )
            .with_hint("the model's folder is incomplete; fetch it anew")
        } else {
            error
        }
    })
}

/// A way in which weights lie in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One file.
    Single(String),
    /// An index that names several files.
    Sharded(String),
}

impl Layout {
    /// The file that leads to the others.
    pub(crate) fn entry(&self) -> &str {
        match self {
            Self::Single(file) | Self::Sharded(file) => file,
        }
    }
}

/// Chooses the weights among the file names of a component's folder.
///
/// # Errors
/// When there are none, or none of the variant asked for; the error lists what is there.
pub(crate) fn choose(files: &[String], variant: Option<&str>) -> Result<Layout> {
    let wanted = variant.map(str::to_owned);
    if let Some(layout) = find(files, wanted.as_deref()) {
        return Ok(layout);
    }
    let variants = variants(files);
    if wanted.is_none()
        && let [only] = &variants[..]
        && let Some(layout) = find(files, Some(only))
    {
        return Ok(layout);
    }
    let seen = if files.is_empty() {
        "nothing".to_owned()
    } else {
        files.join(", ")
    };
    let expected = match &wanted {
        Some(variant) => format!("weights of variant {variant}"),
        None => "diffusion_pytorch_model.safetensors or model.safetensors".to_owned(),
    };
    let hint = match (&wanted, &variants[..]) {
        (Some(_), _) if find(files, None).is_some() => {
            "leave the variant out to use the plain files".to_owned()
        }
        (_, []) => "the model's folder is incomplete; fetch it anew".to_owned(),
        (_, found) => format!("ask for one of the variants {}", found.join(", ")),
    };
    Err(Error::new(
        ErrorKind::NotFound,
        format!("found {seen}, expected {expected}"),
    )
    .with_hint(hint))
}

/// The weights of exactly this variant, safetensors before anything else.
fn find(files: &[String], variant: Option<&str>) -> Option<Layout> {
    let has = |name: &String| files.contains(name);
    let infix = variant.map_or_else(String::new, |variant| format!(".{variant}"));
    FORMS.iter().find_map(|(stem, extension)| {
        let single = format!("{stem}{infix}.{extension}");
        if has(&single) {
            return Some(Layout::Single(single));
        }
        // Both spellings of a sharded variant's index occur: diffusers has moved the infix.
        let indices = [
            format!("{stem}.{extension}.index{infix}.json"),
            format!("{stem}{infix}.{extension}.index.json"),
        ];
        indices.into_iter().find(has).map(Layout::Sharded)
    })
}

/// The variants whose weights are among `files`.
fn variants(files: &[String]) -> Vec<String> {
    let mut found: Vec<String> = files
        .iter()
        .filter_map(|file| {
            let middle = FORMS.iter().find_map(|(stem, extension)| {
                let rest = file.strip_prefix(stem)?;
                let dotted = format!(".{extension}");
                rest.strip_suffix(&dotted)
                    .or_else(|| rest.strip_suffix(&format!("{dotted}.index.json")))
                    .or_else(|| {
                        rest.strip_prefix(&format!("{dotted}.index"))?
                            .strip_suffix(".json")
                    })
            })?;
            let variant = middle.strip_prefix('.')?;
            (!variant.contains("-of-")).then(|| variant.to_owned())
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Opens the weights in `folder`.
fn open_weights(
    folder: &Place,
    name: &str,
    variant: Option<&str>,
) -> Result<(Place, Arc<dyn TensorSource>)> {
    let layout = choose(&folder.file_names()?, variant).map_err(|error| {
        error.context(format_args!("component {name} has no weights in {folder}"))
    })?;
    let place = folder.join(layout.entry());
    let tensors: Arc<dyn TensorSource> = match layout {
        Layout::Single(_) => tensor_file::open(&place)?.tensors,
        Layout::Sharded(_) => Arc::new(open_shards(folder, &place)?),
    };
    Ok((place, tensors))
}

/// The shards that an index names, sorted.
///
/// # Errors
/// When the index has no map of weights or points out of its folder.
pub(crate) fn shards_of(index: &Value, path: &Path) -> Result<Vec<String>> {
    let Some(map) = index.get("weight_map").and_then(Value::as_object) else {
        return Err(Error::malformed(format!(
            "{}: found no \"weight_map\", expected an index of shards",
            path.display()
        )));
    };
    let mut shards = Vec::new();
    for (tensor, shard) in map {
        let shard = shard.as_str().unwrap_or_default();
        if shard.is_empty() || shard.contains(['/', '\\']) || shard.starts_with('.') {
            return Err(Error::malformed(format!(
                "{}: tensor {tensor} is said to lie in {shard:?}, expected the name of a file beside the index",
                path.display()
            )));
        }
        shards.push(shard.to_owned());
    }
    shards.sort();
    shards.dedup();
    Ok(shards)
}

/// Opens every shard of an index and checks that each holds what the index says.
fn open_shards(folder: &Place, index_place: &Place) -> Result<ShardedSource> {
    let index = json::read_object(index_place)?;
    let names = shards_of(&index, &index_place.to_path())?;
    let missing: Vec<_> = names
        .iter()
        .filter(|shard| !folder.join(shard).is_file())
        .cloned()
        .collect();
    if !missing.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!(
                "{index_place}: {} of {} shards are missing: {}",
                missing.len(),
                names.len(),
                missing.join(", ")
            ),
        )
        .with_hint("the model's folder is incomplete; fetch it anew"));
    }
    let mut shards: Vec<Arc<dyn TensorSource>> = Vec::new();
    for shard in &names {
        shards.push(tensor_file::open(folder.join(shard))?.tensors);
    }
    Ok(ShardedSource::new(shards))
}

/// Brings older and newer spellings of the same component to the one that models ask for.
pub(crate) fn normalised(name: &str, tensors: Arc<dyn TensorSource>) -> Arc<dyn TensorSource> {
    let names = tensors.names();
    if name == "vae" && names.iter().any(|name| name.contains(".query.")) {
        return Arc::new(MappedSource::renamed(tensors, |name| {
            Some(modern_attention(name))
        }));
    }
    // transformers 5.6 and later keep the text model at the root.
    if name.starts_with("text_encoder") && names.iter().any(|name| name.starts_with("embeddings."))
    {
        return Arc::new(MappedSource::renamed(tensors, |name| {
            Some(if name.starts_with("text_projection") {
                name.to_owned()
            } else {
                format!("text_model.{name}")
            })
        }));
    }
    tensors
}

/// The name that diffusers gives an attention layer's tensor since 0.12, for one from before.
fn modern_attention(name: &str) -> String {
    const PARTS: [(&str, &str); 4] = [
        (".query.", ".to_q."),
        (".key.", ".to_k."),
        (".value.", ".to_v."),
        (".proj_attn.", ".to_out.0."),
    ];
    PARTS
        .iter()
        .find(|(old, _)| name.contains(".attentions.") && name.contains(old))
        .map_or_else(|| name.to_owned(), |(old, new)| name.replace(old, new))
}

#[cfg(test)]
mod tests {
    use super::super::view::testing::MemorySource;
    use super::*;

    fn files(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn chooses_among_the_forms_of_a_component() {
        let cases: [(&[&str], Option<&str>, Layout); 7] = [
            (
                &["config.json", "model.safetensors"],
                None,
                Layout::Single("model.safetensors".into()),
            ),
            (
                &[
                    "diffusion_pytorch_model.safetensors",
                    "diffusion_pytorch_model.fp16.safetensors",
                ],
                None,
                Layout::Single("diffusion_pytorch_model.safetensors".into()),
            ),
            (
                &[
                    "diffusion_pytorch_model.safetensors",
                    "diffusion_pytorch_model.fp16.safetensors",
                ],
                Some("fp16"),
                Layout::Single("diffusion_pytorch_model.fp16.safetensors".into()),
            ),
            (
                &["model.fp16.safetensors"],
                None,
                Layout::Single("model.fp16.safetensors".into()),
            ),
            (
                &[
                    "model.safetensors.index.json",
                    "model-00001-of-00002.safetensors",
                    "model-00002-of-00002.safetensors",
                ],
                None,
                Layout::Sharded("model.safetensors.index.json".into()),
            ),
            (
                &[
                    "model.safetensors.index.fp16.json",
                    "model.fp16-00001-of-00002.safetensors",
                ],
                Some("fp16"),
                Layout::Sharded("model.safetensors.index.fp16.json".into()),
            ),
            (
                &[
                    "model.fp16.safetensors.index.json",
                    "model-00001-of-00002.fp16.safetensors",
                ],
                Some("fp16"),
                Layout::Sharded("model.fp16.safetensors.index.json".into()),
            ),
        ];
        for (names, variant, expected) in cases {
            assert_eq!(
                choose(&files(names), variant).unwrap(),
                expected,
                "{names:?}"
            );
        }
    }

    #[test]
    fn says_what_is_there_when_nothing_fits() {
        let error = choose(&files(&["model.safetensors"]), Some("fp16")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(
            error
                .message()
                .contains("found model.safetensors, expected weights of variant fp16"),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("leave the variant out"));
        let error = choose(
            &files(&["model.fp16.safetensors", "model.ema.safetensors"]),
            None,
        )
        .unwrap_err();
        assert!(error.hint().unwrap().contains("ema, fp16"), "{error}");
        let error = choose(&[], None).unwrap_err();
        assert!(error.message().contains("found nothing"), "{error}");
    }

    #[test]
    fn an_index_may_not_leave_its_folder() {
        for shard in ["../../etc/passwd", "/etc/passwd", "", "..", "a\\b"] {
            let index = serde_json::json!({"weight_map": {"w": shard}});
            let error = shards_of(&index, Path::new("i.json")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed);
            assert!(error.message().contains("tensor w"), "{error}");
        }
        assert!(shards_of(&serde_json::json!({}), Path::new("i.json")).is_err());
    }

    #[test]
    fn old_attention_names_are_brought_up_to_date() {
        let base: Arc<dyn TensorSource> = Arc::new(
            MemorySource::default()
                .with("decoder.mid_block.attentions.0.query.weight", &[2, 2])
                .with("decoder.mid_block.attentions.0.proj_attn.bias", &[2])
                .with("decoder.conv_in.weight", &[1]),
        );
        assert_eq!(
            normalised("vae", base).names(),
            [
                "decoder.conv_in.weight",
                "decoder.mid_block.attentions.0.to_out.0.bias",
                "decoder.mid_block.attentions.0.to_q.weight",
            ]
        );
    }

    #[test]
    fn text_models_without_prefix_get_it() {
        let base: Arc<dyn TensorSource> = Arc::new(
            MemorySource::default()
                .with("embeddings.token_embedding.weight", &[1])
                .with("text_projection.weight", &[1]),
        );
        assert_eq!(
            normalised("text_encoder_2", base).names(),
            [
                "text_model.embeddings.token_embedding.weight",
                "text_projection.weight"
            ]
        );
    }
}

//! A picture's model and engine held against those at hand.

use super::Recorded;
use crate::backend::model::SDModel;

/// Digits of the webui's older hash, which was not SHA-256's.
const OLD_HASH_DIGITS: usize = 8;

impl Recorded {
    /// Why `model` may give another picture than the recorded one, a sentence for each reason.
    ///
    /// Hashing a single file takes seconds for gigabytes; it began when the model was loaded.
    pub fn model_warnings(&self, model: &SDModel) -> Vec<String> {
        let hash = self.fact("Model hash");
        let mut warnings = Vec::new();
        match (hash, model.file_hash()) {
            (Some(recorded), found) => warnings.extend(hash_warning(recorded, found)),
            (None, _) => warnings.extend(
                self.fact("Model")
                    .and_then(|recorded| name_warning("model", recorded, model.title())),
            ),
        }
        let vae = self
            .fact("VAE")
            .filter(|name| !["None", "Automatic"].contains(name));
        let found = model.vae_name.as_deref();
        if vae.is_some() || found.is_some() {
            let own = "the model's own";
            warnings.extend(name_warning(
                "VAE",
                vae.unwrap_or(own),
                found.unwrap_or(own),
            ));
        }
        if let Some(recorded) = self.fact("Engine") {
            let found = model.engine().to_string();
            warnings.extend(name_warning("engine", recorded, &found));
        }
        warnings
    }

    fn fact(&self, key: &str) -> Option<&str> {
        let mut facts = self.facts.iter();
        let (_, value) = facts.find(|(found, _)| found.eq_ignore_ascii_case(key))?;
        Some(value.trim())
    }
}

pub(super) fn name_warning(what: &str, recorded: &str, found: &str) -> Option<String> {
    (recorded != found).then(|| {
        format!("the picture was made with the {what} {recorded:?}, and this is {found:?}")
    })
}

pub(super) fn hash_warning(recorded: &str, found: Option<&str>) -> Option<String> {
    let Some(found) = found else {
        return Some(format!(
            "the picture's model has the hash {recorded}, and this one is no single file, so they cannot be compared"
        ));
    };
    let wanted = recorded.to_ascii_lowercase();
    if wanted.len() <= OLD_HASH_DIGITS {
        return Some(format!(
            "the picture's model has the hash {recorded} of the webui's older kind, which cannot be compared"
        ));
    }
    let same = wanted.starts_with(found) || found.starts_with(&wanted);
    (!same).then(|| {
        format!("the picture was made with the model of hash {recorded}, and this one has {found}")
    })
}

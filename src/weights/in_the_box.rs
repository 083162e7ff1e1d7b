//! The model that travels with the program (feature `model-in-the-box`): `models/tintype-box`, an ordinary folder in
//! diffusers' layout, compiled in.
//!
//! The files are listed here rather than found by a build script or a macro crate: they are few, a missing one is an
//! error of the compiler that names it, and a test holds the list to the folder. The tokenizer's vocabulary, which
//! diffusers needs there, is left out: it is CLIP's, which the library has anyway.

use super::checkpoint::ModelSource;
use super::place::EmbeddedFolder;

/// Embeds the files of `models/tintype-box` by their paths.
macro_rules! embedded {
    ($($path:literal),* $(,)?) => {
        &[$((
            $path,
            include_bytes!(concat!("../../models/tintype-box/", $path)).as_slice(),
        )),*]
    };
}

/// The model in the box.
static IN_THE_BOX: EmbeddedFolder = EmbeddedFolder::new(
    "tintype-box",
    embedded![
        "README.md",
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tintype.json",
        "tokenizer/tokenizer_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ],
);

impl ModelSource {
    /// The small model that travels with the program.
    pub fn in_the_box() -> Self {
        Self::Embedded(IN_THE_BOX)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::tokenizer::ClipTokenizer;
    use crate::weights::Place;

    /// The tokenizer's vocabulary.
    const LEFT_OUT: [&str; 2] = ["tokenizer/merges.txt", "tokenizer/vocab.json"];

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tintype-box")
    }

    /// The files below `folder`, by their paths inside `root`, sorted.
    fn files(root: &Path, folder: &Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(files(root, &path));
            } else {
                let inside = path.strip_prefix(root).unwrap().to_str().unwrap();
                found.push(inside.replace('\\', "/"));
            }
        }
        found.sort();
        found
    }

    #[test]
    fn every_file_of_the_folder_but_the_vocabulary_is_embedded() {
        let mut expected = files(&root(), &root());
        expected.retain(|path| !LEFT_OUT.contains(&path.as_str()));
        assert_eq!(expected, IN_THE_BOX.paths().collect::<Vec<_>>());
    }

    #[test]
    fn the_vocabulary_left_out_is_the_one_the_library_has() {
        let folder = root().join("tokenizer");
        let own = ClipTokenizer::from_folder(&folder).unwrap();
        let embedded = ClipTokenizer::from_place(&Place::from(IN_THE_BOX).join("tokenizer"));
        let embedded = embedded.unwrap();
        assert_eq!(own.vocabulary_size(), embedded.vocabulary_size());
        for text in [
            "a photo of a cat",
            "",
            "Jack-o-Lantern ééé 漢字 🎃 !!",
            "<|endoftext|> x",
        ] {
            assert_eq!(own.encode(text), embedded.encode(text), "{text:?}");
        }
    }
}

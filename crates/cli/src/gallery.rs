//! Saving pictures as they are finished, and remembering what was saved.

use std::path::PathBuf;

use anyhow::Context;
use tintype::metadata::{self, Parameters};
use tintype::{GeneratedImage, Timings};

use crate::naming::Naming;
use crate::output::{self, Form};
use crate::progress::Progress;

/// A picture on disk.
#[derive(Debug)]
pub(crate) struct Saved {
    pub(crate) path: PathBuf,
    pub(crate) seed: u64,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) unet_passes: usize,
    pub(crate) parameters: Parameters,
    pub(crate) timings: Timings,
}

/// Saves pictures under names of its own or the user's.
#[derive(Debug)]
pub(crate) struct Gallery {
    naming: Naming,
    progress: Progress,
    form: Form,
    pictures: Vec<Saved>,
}

impl Gallery {
    pub(crate) fn new(naming: Naming, progress: Progress, form: Form) -> Self {
        Self {
            naming,
            progress,
            form,
            pictures: Vec::new(),
        }
    }

    /// What is saved so far, in the order of the batch.
    pub(crate) fn pictures(&self) -> &[Saved] {
        &self.pictures
    }

    /// Saves `picture` and, for text, prints its path.
    ///
    /// A reader of stdout who has gone loses paths, never pictures.
    pub(crate) fn save(&mut self, picture: &GeneratedImage) -> anyhow::Result<()> {
        let path = self.naming.path(self.pictures.len(), picture.seed);
        metadata::write_png(&picture.image.to_rgb8(), Some(&picture.parameters))
            .and_then(|bytes| metadata::write_atomically(&path, &bytes))
            .with_context(|| format!("cannot save the picture of seed {}", picture.seed))?;
        if self.form == Form::Text {
            let written = self.progress.aside(|| output::write_line(path.display()));
            output::unless_gone(written)?;
        }
        self.pictures.push(Saved {
            path,
            seed: picture.seed,
            width: picture.image.width(),
            height: picture.image.height(),
            unet_passes: picture.unet_passes,
            parameters: picture.parameters.clone(),
            timings: picture.timings,
        });
        Ok(())
    }
}

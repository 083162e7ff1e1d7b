//! What a long run tells its observer, and how the observer stops it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::backend::GeneratedImage;
use crate::error::{Error, ErrorKind, Result};

/// Something that happened on the way to a picture.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A file of the model is being fetched from the hub.
    Download {
        /// File name inside the repository.
        file: String,
        /// Bytes received so far.
        received_bytes: u64,
        /// Bytes in all, where the server said so.
        total_bytes: Option<u64>,
    },
    /// Weights of a component are being read.
    Loading {
        /// Component, named as in `model_index.json` ("unet", "vae", "text_encoder").
        component: String,
        /// Where it is read from.
        path: PathBuf,
        /// Tensors placed so far.
        done: usize,
        /// Tensors in all.
        total: usize,
    },
    /// The model is ready.
    Loaded {
        /// Time since loading began.
        elapsed: Duration,
    },
    /// Prompts are being encoded.
    EncodingText {
        /// How many distinct texts.
        texts: usize,
    },
    /// Denoising of a picture begins; its first step may take long.
    Denoising {
        /// Index of the picture within the batch, from 0.
        image: usize,
        /// Pictures in the batch.
        images: usize,
        /// Steps of this picture.
        steps: usize,
    },
    /// One denoising step is done.
    Step(StepEvent),
    /// Latents are being turned into pixels.
    Decoding {
        /// Index of the picture within the batch, from 0.
        image: usize,
        /// Pictures in the batch.
        total: usize,
    },
    /// A picture is finished. It comes as soon as it is there, so that a caller who cancels the rest of
    /// the batch keeps it.
    Finished(Arc<GeneratedImage>),
    /// Something the user should know, which changes nothing else.
    Warning(String),
}

/// One finished denoising step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepEvent {
    /// Index of the picture within the batch, from 0; pictures are made one after the other.
    pub image: usize,
    /// Pictures in the batch.
    pub images: usize,
    /// Number of the step just done, from 1.
    pub step: usize,
    /// Steps of one picture.
    pub total: usize,
    /// Timestep the model saw, 0 to training steps - 1, possibly between two.
    pub timestep: f64,
    /// Noise level before the step, as standard deviation relative to the clean latent.
    pub sigma: f64,
    /// Time since the first step of this picture began.
    pub elapsed: Duration,
    /// Estimated time until the last step of this picture is done.
    pub remaining: Duration,
}

/// Receives events, on the thread that does the work; must return soon.
pub trait Observer: Send {
    /// Takes note of one event.
    fn on_event(&mut self, event: &Event);
}

/// Any closure is an observer.
impl<F: FnMut(&Event) + Send> Observer for F {
    fn on_event(&mut self, event: &Event) {
        self(event);
    }
}

/// An observer that looks away.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn on_event(&mut self, _event: &Event) {}
}

/// A switch, shared between who waits and who works, that stops the work within one step.
#[derive(Debug, Clone, Default)]
pub struct CancelToken {
    cancelled: Arc<AtomicBool>,
}

impl CancelToken {
    /// A token that nobody has cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the work to stop; it cannot be taken back.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Ends the work with an error once cancelled.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] after [`cancel`](Self::cancel).
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled by the caller"));
        }
        Ok(())
    }
}

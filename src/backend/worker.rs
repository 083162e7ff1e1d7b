//! The model's own thread, and the queue of calls in front of it.
//!
//! A [`CandleSDBackend`] is a handle. The model lives on an operating-system thread, so that async code
//! never computes; calls wait in a bounded queue and are answered in order. A caller who drops the future
//! gives its place up: a waiting call is skipped, a running one stops within one step.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use image::DynamicImage;
use tokio::sync::{mpsc, oneshot};

use super::model::{LoadOptions, SDModel};
use super::pipeline::GeneratedImage;
use super::sampling::SamplingConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{CancelToken, Event, Observer, Silent};
use crate::weights::ModelSource;

/// Calls that may wait before a further caller has to wait for a place in the queue.
const QUEUE_LENGTH: usize = 64;

/// Text to image on a loaded model; cheap to clone, every clone feeds the same queue.
#[derive(Debug, Clone)]
pub struct CandleSDBackend {
    queue: mpsc::Sender<Job>,
    model: Arc<ModelFacts>,
}

/// What a handle can say of its model without asking the model's thread.
#[derive(Debug)]
struct ModelFacts {
    title: String,
    defaults: SamplingConfig,
}

/// One call on its way to the model's thread.
struct Job {
    config: SamplingConfig,
    observer: Box<dyn Observer>,
    cancel: CancelToken,
    reply: oneshot::Sender<Result<Vec<GeneratedImage>>>,
}

impl CandleSDBackend {
    /// Moves `model` to a thread of its own.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn new(model: SDModel) -> Result<Self> {
        let facts = ModelFacts {
            title: model.title().to_owned(),
            defaults: model.default_config(),
        };
        let (queue, jobs) = mpsc::channel(QUEUE_LENGTH);
        thread::Builder::new()
            .name("tintype-model".into())
            .spawn(move || serve(&model, jobs))
            .map_err(|source| {
                Error::new(ErrorKind::Io, format!("no thread for the model: {source}"))
                    .with_source(source)
            })?;
        Ok(Self {
            queue,
            model: Arc::new(facts),
        })
    }

    /// Loads a model and moves it to a thread of its own.
    ///
    /// # Errors
    /// As [`SDModel::load`] and [`new`](Self::new).
    pub fn load(source: &ModelSource, options: &LoadOptions) -> Result<Self> {
        Self::new(SDModel::load_with(
            source,
            options,
            &mut Silent,
            &CancelToken::new(),
        )?)
    }

    /// The model's name.
    pub fn title(&self) -> &str {
        &self.model.title
    }

    /// The settings the checkpoint was made for: its own size, steps and guidance.
    pub fn default_config(&self) -> SamplingConfig {
        self.model.defaults.clone()
    }

    /// Makes one picture, or the first of a batch.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub async fn text_to_image(&self, config: SamplingConfig) -> Result<DynamicImage> {
        let first = self
            .generate(config, Silent, CancelToken::new())
            .await?
            .into_iter()
            .next();
        first.map(|picture| picture.image).ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "the model's thread answered without a picture",
            )
        })
    }

    /// Makes every picture of a batch, with its seed and metadata, telling `observer` on the way.
    ///
    /// Each picture is also announced by [`Event::Finished`] as soon as it is there, so that nothing
    /// finished is lost when a later one fails or `cancel` is pulled. Dropping the future cancels too.
    ///
    /// # Errors
    /// Invalid settings, failures of the model, and [`ErrorKind::Cancelled`].
    pub async fn generate(
        &self,
        config: SamplingConfig,
        observer: impl Observer + 'static,
        cancel: CancelToken,
    ) -> Result<Vec<GeneratedImage>> {
        config.validate()?;
        let (reply, answer) = oneshot::channel();
        let job = Job {
            config,
            observer: Box::new(observer),
            cancel,
            reply,
        };
        self.queue.send(job).await.map_err(|_| thread_is_gone())?;
        answer.await.map_err(|_| thread_is_gone())?
    }
}

fn thread_is_gone() -> Error {
    Error::new(ErrorKind::Internal, "the model's thread has ended")
}

/// Answers calls until the last handle is dropped.
fn serve(model: &SDModel, mut jobs: mpsc::Receiver<Job>) {
    while let Some(job) = jobs.blocking_recv() {
        let Job {
            config,
            mut observer,
            cancel,
            reply,
        } = job;
        if reply.is_closed() {
            continue;
        }
        let mut abandonable = Abandonable {
            observer: observer.as_mut(),
            reply: &reply,
            cancel: &cancel,
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            model.generate(&config, &mut abandonable, &cancel)
        }));
        let answer = outcome.unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
        // The caller may be gone by now; then nobody wants the answer.
        drop(reply.send(answer));
    }
}

/// Passes events on, and pulls the token once nobody waits for the answer any more.
struct Abandonable<'a> {
    observer: &'a mut dyn Observer,
    reply: &'a oneshot::Sender<Result<Vec<GeneratedImage>>>,
    cancel: &'a CancelToken,
}

impl Observer for Abandonable<'_> {
    fn on_event(&mut self, event: &Event) {
        if self.reply.is_closed() {
            self.cancel.cancel();
        }
        self.observer.on_event(event);
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into());
    Error::new(
        ErrorKind::Internal,
        format!("the model's thread panicked: {message}"),
    )
    .with_hint("this is a bug of Tintype, please report it with the settings that led to it")
}

//! Watching a batch and stopping it: `cargo run --release --example progress -- PATH_OR_ID`.
//!
//! Every step is told; after the first finished picture the rest of the batch is cancelled, and the finished
//! one is kept.
#![expect(clippy::print_stderr, reason = "an example talks to its reader")]

use tintype::{
    CancelToken, CandleSDBackend, ErrorKind, Event, LoadOptions, SDModel, SamplingConfig,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let source = std::env::args()
        .nth(1)
        .ok_or("the argument is a model: a folder, a file or a hub id")?;
    let backend = CandleSDBackend::new(SDModel::load(source, &LoadOptions::default())?)?;
    let config = SamplingConfig {
        prompt: "a photo of a cat".into(),
        steps: 5,
        batch: 4,
        ..backend.default_config()
    };

    let cancel = CancelToken::new();
    let token = cancel.clone();
    let observer = move |event: &Event| match event {
        Event::Step(step) => eprintln!(
            "picture {}, step {}/{}",
            step.image + 1,
            step.step,
            step.total
        ),
        Event::Finished(picture) => {
            let name = format!("picture-{}.png", picture.seed);
            match picture.image.save(&name) {
                Ok(()) => eprintln!("{name} is kept, the rest is cancelled"),
                Err(error) => eprintln!("{name}: {error}"),
            }
            token.cancel();
        }
        _ => {}
    };
    match backend.generate(config, observer, cancel).await {
        Err(error) if error.kind() == ErrorKind::Cancelled => Ok(()),
        other => other.map(drop).map_err(Into::into),
    }
}

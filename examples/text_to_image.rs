//! The shortest way from a checkpoint to a picture:
//! `cargo run --release --example text_to_image -- PATH_OR_ID "a photo of a cat"`.

use tintype::{CandleSDBackend, LoadOptions, SDModel, SamplingConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let source = arguments
        .next()
        .ok_or("the first argument is a model: a folder, a file or a hub id")?;
    let prompt = arguments
        .next()
        .unwrap_or_else(|| "a photo of a cat".to_owned());

    let backend = CandleSDBackend::new(SDModel::load(source, &LoadOptions::default())?)?;
    let config = SamplingConfig {
        prompt,
        seed: Some(42),
        ..backend.default_config()
    };
    backend.text_to_image(config).await?.save("picture.png")?;
    Ok(())
}

//! The networks, written once over [`nn`](crate::nn), in the shape of the Python trees they follow.
//!
//! Field names are the checkpoint's. Which blocks a model has, and how wide they are, comes from its own
//! `config.json`; no code here knows a family by name.

pub mod clip;
pub mod unet;
pub mod vae;

mod attention;
mod embeddings;
mod fields;
mod resnet;

pub use clip::{ClipTextConfig, ClipTextModel};
pub use unet::{Conditioning, UNet2DCondition, UNetConfig};
pub use vae::VaeConfig;

use std::sync::Arc;

use crate::error::{Context, Result};
use crate::nn::{Engine, ExpectedTensor, Scope, check};
use crate::weights::Component;

/// Builds a model from a component: plans it, compares the plan with the file so that all faults come in one error,
/// then reads the weights. `on_tensor` is told how many tensors of how many are done; its error ends the load.
///
/// # Errors
/// [`WeightMismatch`](crate::ErrorKind::WeightMismatch) listing every missing and every misshapen tensor, or whatever
/// reading fails with.
pub fn load<M>(
    engine: &Engine,
    component: &Component,
    mut on_tensor: impl FnMut(usize, usize) -> Result<()> + Send,
    build: impl Fn(&Scope<'_>) -> Result<M>,
) -> Result<M> {
    let total = verify(engine, component, &build)?;
    let mut done = 0;
    let scope = Scope::load(engine, Arc::clone(&component.tensors), |_name| {
        on_tensor(done, total)?;
        done += 1;
        Ok(())
    });
    let model = build(&scope).context(&component.name);
    drop(scope);
    on_tensor(total, total)?;
    model
}

/// The first half of [`load`]: plans a model and compares the plan with the file. Gives the number of tensors.
///
/// # Errors
/// [`WeightMismatch`](crate::ErrorKind::WeightMismatch) listing every missing and every misshapen tensor.
pub fn verify<M>(
    engine: &Engine,
    component: &Component,
    build: impl Fn(&Scope<'_>) -> Result<M>,
) -> Result<usize> {
    let manifest = plan(engine, component, build)?;
    check(&manifest, component.tensors.as_ref()).context(format!(
        "{} in {}",
        component.name,
        component.path.display()
    ))?;
    Ok(manifest.len())
}

/// The tensors `build` asks for, without reading any.
///
/// # Errors
/// Whatever `build` fails with.
pub fn plan<M>(
    engine: &Engine,
    component: &Component,
    build: impl Fn(&Scope<'_>) -> Result<M>,
) -> Result<Vec<ExpectedTensor>> {
    let scope = Scope::plan_for(engine, Arc::clone(&component.tensors));
    build(&scope).context(&component.name)?;
    Ok(scope.manifest())
}

/// Every tensor that a component's configuration asks for; `None` for components that hold no network of this crate
/// (scheduler, tokenizer, safety checker).
///
/// # Errors
/// When the configuration makes no sense or is not supported.
pub fn expected_tensors(component: &Component) -> Result<Option<Vec<ExpectedTensor>>> {
    let (engine, name, config) = (Engine::cpu(), component.name.as_str(), &component.config);
    let manifest = match name {
        "unet" => {
            let config = UNetConfig::from_json(name, config)?;
            plan(&engine, component, |scope| {
                UNet2DCondition::load(scope, &config)
            })
        }
        "vae" => {
            let config = VaeConfig::from_json(name, config)?;
            plan(&engine, component, |scope| {
                let encoder = vae::Encoder::load(scope, &config)?;
                Ok((encoder, vae::Decoder::load(scope, &config)?))
            })
        }
        "text_encoder" | "text_encoder_2" => {
            let config = ClipTextConfig::from_json(name, config)?;
            plan(&engine, component, |scope| {
                ClipTextModel::load(scope, &config)
            })
        }
        _ => return Ok(None),
    };
    manifest.map(Some)
}

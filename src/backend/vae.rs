//! The autoencoder as the pipeline sees it: host latents in the UNet's scale on one side, host pictures on the other.
//!
//! Follows `decode_latents`, `prepare_latents` and `upcast_vae` of diffusers' Stable Diffusion (XL) pipelines.

use crate::error::{Error, ErrorKind, Result};
use crate::host::HostTensor;
use crate::models::{self, VaeConfig, vae};
use crate::nn::{DType, Engine, FeatureMap};
use crate::weights::Component;

/// Turns latents into pictures.
#[derive(Debug)]
pub struct VaeDecoder {
    config: VaeConfig,
    engine: Engine,
    decoder: vae::Decoder,
}

impl VaeDecoder {
    /// Reads the decoder half of `component`. A model that overflows in f16 (`force_upcast`) runs in f32 instead.
    /// `on_tensor` is told how many tensors of how many are read; its error ends the load.
    ///
    /// # Errors
    /// When the configuration is not supported or tensors are missing or misshapen.
    pub fn load(
        engine: &Engine,
        component: &Component,
        on_tensor: impl FnMut(usize, usize) -> Result<()> + Send,
    ) -> Result<Self> {
        let config = VaeConfig::from_json(&component.name, &component.config)?;
        let engine = engine_for(engine, &config)?;
        let decoder = models::load(&engine, component, on_tensor, |scope| {
            vae::Decoder::load(scope, &config)
        })?;
        Ok(Self {
            config,
            engine,
            decoder,
        })
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// `latents` (B, latent, h, w) as the UNet leaves them to pictures (B, 3, H, W), about -1 to 1, not yet clamped;
    /// H is h times [`VaeConfig::scale_factor`].
    ///
    /// # Errors
    /// When the channels do not fit or the device fails.
    pub fn decode(&self, latents: &HostTensor) -> Result<HostTensor> {
        let latents = unscale(&self.config, latents)?;
        let latents = FeatureMap::from_host(&self.engine, &latents)?;
        self.decoder.forward(latents)?.to_host()
    }
}

/// Turns pictures into latents.
#[derive(Debug)]
pub struct VaeEncoder {
    config: VaeConfig,
    engine: Engine,
    encoder: vae::Encoder,
}

impl VaeEncoder {
    /// Reads the encoder half of `component`, as [`VaeDecoder::load`] the other.
    ///
    /// # Errors
    /// When the configuration is not supported or tensors are missing or misshapen.
    pub fn load(
        engine: &Engine,
        component: &Component,
        on_tensor: impl FnMut(usize, usize) -> Result<()> + Send,
    ) -> Result<Self> {
        let config = VaeConfig::from_json(&component.name, &component.config)?;
        let engine = engine_for(engine, &config)?;
        let encoder = models::load(&engine, component, on_tensor, |scope| {
            vae::Encoder::load(scope, &config)
        })?;
        Ok(Self {
            config,
            engine,
            encoder,
        })
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// `picture` (B, 3, H, W), -1 to 1, to the distribution of its latents, not yet in the UNet's scale.
    ///
    /// # Errors
    /// When the channels do not fit or the device fails.
    pub fn encode(&self, picture: &HostTensor) -> Result<LatentDistribution> {
        let picture = FeatureMap::from_host(&self.engine, picture)?;
        let moments = self.encoder.forward(&picture)?;
        let channels = self.config.latent_channels;
        let mean = moments.narrow_channels(0, channels)?.to_host()?;
        let logvar = moments.narrow_channels(channels, channels)?.to_host()?;
        // diffusers' bounds, within which the exponential is finite.
        let logvar = logvar.map(|value| value.clamp(-30.0, 20.0));
        Ok(LatentDistribution { mean, logvar })
    }

    /// Brings latents drawn from a [`LatentDistribution`] to the UNet's scale.
    ///
    /// # Errors
    /// When `latents` has not four dimensions.
    pub fn scale(&self, latents: &HostTensor) -> Result<HostTensor> {
        let scaling = self.config.scaling_factor as f32;
        let shift = self.config.shift_factor as f32;
        per_channel(&self.config, latents, |value, mean_std| match mean_std {
            Some((mean, std)) => (value - mean) * scaling / std,
            None => (value - shift) * scaling,
        })
    }
}

/// The diagonal normal distribution that a picture's latents are drawn from.
#[derive(Debug, Clone, PartialEq)]
pub struct LatentDistribution {
    /// Means (B, latent, h, w).
    pub mean: HostTensor,
    /// Logarithms of the variances, of the same shape, -30 to 20.
    pub logvar: HostTensor,
}

impl LatentDistribution {
    /// Draws latents with standard normal `noise` of the shape of [`mean`](Self::mean).
    ///
    /// # Errors
    /// When `noise` has another shape.
    pub fn sample(&self, noise: &HostTensor) -> Result<HostTensor> {
        let std = self.logvar.clone().map(|logvar| (0.5 * logvar).exp());
        let deviation = std.zip_map(noise, |std, noise| std * noise)?;
        self.mean
            .clone()
            .zip_map(&deviation, |mean, deviation| mean + deviation)
    }
}

/// The engine itself, or in f32 where the model would overflow in f16.
fn engine_for(engine: &Engine, config: &VaeConfig) -> Result<Engine> {
    if config.force_upcast && engine.dtype() == DType::F16 {
        return engine.with_dtype(DType::F32);
    }
    Ok(engine.clone())
}

/// The inverse of [`VaeEncoder::scale`].
fn unscale(config: &VaeConfig, latents: &HostTensor) -> Result<HostTensor> {
    let scaling = config.scaling_factor as f32;
    let shift = config.shift_factor as f32;
    per_channel(config, latents, |value, mean_std| match mean_std {
        Some((mean, std)) => value * std / scaling + mean,
        None => value / scaling + shift,
    })
}

/// Maps each value together with its channel's mean and standard deviation, where the model has them.
fn per_channel(
    config: &VaeConfig,
    latents: &HostTensor,
    f: impl Fn(f32, Option<(f32, f32)>) -> f32,
) -> Result<HostTensor> {
    let (_, channels, height, width) = latents.dims4()?;
    if channels != config.latent_channels {
        return Err(Error::new(
            ErrorKind::Internal,
            format!(
                "latents have {channels} channels, the autoencoder {}",
                config.latent_channels
            ),
        ));
    }
    let mut latents = latents.clone();
    let plane = (height * width).max(1);
    for (i, values) in latents.data_mut().chunks_exact_mut(plane).enumerate() {
        let channel = i % channels;
        let mean_std = config
            .latents_mean_std
            .as_ref()
            .map(|(mean, std)| (mean[channel] as f32, std[channel] as f32));
        for value in values {
            *value = f(*value, mean_std);
        }
    }
    Ok(latents)
}

//! One text tower: a tokenizer, and a network that stays in memory or comes back from the checkpoint when a text asks for it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;
use crate::models::{self, ClipTextConfig, ClipTextModel};
use crate::nn::{Engine, MemoryUse, Scope};
use crate::tokenizer::ClipTokenizer;
use crate::weights::Component;

/// A tower of a model.
pub(super) struct Tower {
    pub(super) tokenizer: ClipTokenizer,
    config: ClipTextConfig,
    engine: Engine,
    component: Component,
    model: Mutex<Option<Arc<ClipTextModel>>>,
}

impl Tower {
    /// Reads the network, or, where memory is low, sees that it can be read.
    pub(super) fn load(
        engine: &Engine,
        component: &Component,
        (config, tokenizer): (ClipTextConfig, ClipTokenizer),
        on_tensor: impl FnMut(usize, usize) -> Result<()> + Send,
    ) -> Result<Self> {
        let build = |scope: &Scope<'_>| ClipTextModel::load(scope, &config);
        let model = match engine.memory() {
            MemoryUse::Normal => Some(models::load(engine, component, on_tensor, build)?),
            MemoryUse::Low => {
                models::verify(engine, component, build)?;
                None
            }
        };
        Ok(Self {
            tokenizer,
            engine: engine.clone(),
            component: component.clone(),
            model: Mutex::new(model.map(Arc::new)),
            config,
        })
    }

    /// The configuration the network is built from.
    pub(super) fn config(&self) -> &ClipTextConfig {
        &self.config
    }

    /// The network, read again if it was given up.
    pub(super) fn model(&self) -> Result<Arc<ClipTextModel>> {
        let mut held = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = held.as_ref() {
            return Ok(Arc::clone(model));
        }
        let build = |scope: &Scope<'_>| ClipTextModel::load(scope, &self.config);
        let model = models::load(&self.engine, &self.component, |_, _| Ok(()), build)?;
        Ok(Arc::clone(held.insert(Arc::new(model))))
    }

    /// Gives the network up where memory is low.
    pub(super) fn release(&self) {
        if self.engine.memory() == MemoryUse::Low {
            *self.model.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

impl fmt::Debug for Tower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tower")
            .field("component", &self.component)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

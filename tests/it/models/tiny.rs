//! Tiny models without files: components whose tensors come straight from the fixtures' formula.

use std::borrow::Cow;
use std::sync::Arc;

use tintype::nn::{Device, Engine, EngineKind};
use tintype::weights::{Component, RawTensor, StoredDType, TensorSource};
use tintype::{Error, ErrorKind, HostTensor, Result};
use tintype_testkit::{DType, GoldenTensor, TensorSpec, TinyModel};

/// Both engines on the processor, in f32.
pub(super) fn engines() -> Vec<Engine> {
    [EngineKind::Cpu, EngineKind::Candle]
        .into_iter()
        .map(|kind| {
            Engine::new(kind, Device::Cpu, None).expect("both engines run on the processor")
        })
        .collect()
}

/// Tensors computed when they are read.
pub(super) struct Formula {
    component: String,
    /// As in the manifest; tests change it to make faults.
    pub(super) specs: Vec<TensorSpec>,
}

impl Formula {
    /// Without the values a manifest sets, which keep latents small and would drown what single layers do.
    pub(super) fn of(family: &str, component: &str) -> Self {
        let mut specs = TinyModel::family(family).tensors(component).to_vec();
        for spec in &mut specs {
            spec.given.clear();
        }
        Self {
            component: component.to_owned(),
            specs,
        }
    }

    pub(super) fn into_component(self, family: &str) -> Component {
        Component {
            name: self.component.clone(),
            config: TinyModel::family(family).config(&self.component),
            path: TinyModel::family(family).path(),
            tensors: Arc::new(self),
        }
    }

    fn spec(&self, name: &str) -> Option<&TensorSpec> {
        self.specs.iter().find(|spec| spec.name == name)
    }
}

impl TensorSource for Formula {
    fn names(&self) -> Vec<String> {
        self.specs.iter().map(|spec| spec.name.clone()).collect()
    }

    fn info(&self, name: &str) -> Option<(StoredDType, Vec<usize>)> {
        Some((StoredDType::F32, self.spec(name)?.shape.clone()))
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>> {
        let spec = self
            .spec(name)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no tensor {name}")))?;
        Ok(RawTensor {
            dtype: StoredDType::F32,
            shape: spec.shape.clone(),
            bytes: Cow::Owned(DType::F32.encode(&spec.values(&self.component))),
        })
    }
}

/// A component of a family as the fixtures have it.
pub(super) fn component(family: &str, name: &str) -> Component {
    Formula::of(family, name).into_component(family)
}

/// A recorded array as host tensor.
pub(super) fn host(golden: &GoldenTensor) -> HostTensor {
    HostTensor::new(golden.shape.clone(), golden.data.clone()).expect("goldens are consistent")
}

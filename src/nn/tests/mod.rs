//! Every layer on both engines against torch (tests/fixtures/nn), and the engines against each other.

mod activations;
mod attention;
mod block;
mod conv;
mod engine;
mod engines_agree;
mod fourier;
mod norms;
mod precision;
mod scope;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::error::{Error, ErrorKind, Result};
use crate::host::HostTensor;
use crate::weights::{RawTensor, StoredDType, TensorSource};

/// The system's allocator; under `TINTYPE_GUARD` it lets no kernel leave the arrays that layers give it.
#[global_allocator]
static MEMORY: tintype_kernels::guard::Guard = tintype_kernels::guard::Guard;

/// Tensors in memory.
#[derive(Debug, Clone, Default)]
struct Memory(BTreeMap<String, (StoredDType, Vec<usize>, Vec<u8>)>);

impl Memory {
    fn with(mut self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        let bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.0
            .insert(name.to_owned(), (StoredDType::F32, shape.to_vec(), bytes));
        self
    }

    fn with_host(self, name: &str, host: &HostTensor) -> Self {
        self.with(name, host.shape(), host.data())
    }

    fn arc(self) -> Arc<dyn TensorSource> {
        Arc::new(self)
    }
}

impl TensorSource for Memory {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<(StoredDType, Vec<usize>)> {
        self.0
            .get(name)
            .map(|(dtype, shape, _)| (*dtype, shape.clone()))
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>> {
        let Some((dtype, shape, bytes)) = self.0.get(name) else {
            return Err(Error::new(
                ErrorKind::WeightMismatch,
                format!("no tensor {name}"),
            ));
        };
        Ok(RawTensor {
            dtype: *dtype,
            shape: shape.clone(),
            bytes: Cow::Borrowed(bytes),
        })
    }
}

/// What torch computed; see tools/reference/nn_cases.py.
struct Cases(Arc<Memory>);

impl Cases {
    fn load() -> Self {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/nn/cases.safetensors"
        );
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut memory = Memory::default();
        for (name, view) in file.tensors() {
            let tensor = (
                StoredDType::F32,
                view.shape().to_vec(),
                view.data().to_vec(),
            );
            memory.0.insert(name.replacen('/', ".", 1), tensor);
        }
        Self(Arc::new(memory))
    }

    fn scope<'a>(&self, engine: &Engine, case: &str) -> Scope<'a> {
        Scope::load(engine, self.0.clone(), |_| Ok(())).pp(case)
    }

    fn host(&self, name: &str) -> HostTensor {
        let (_, shape, bytes) = &self.0.0[name];
        let (values, _) = bytes.as_chunks::<4>();
        let values = values
            .iter()
            .map(|value| f32::from_le_bytes(*value))
            .collect();
        HostTensor::new(shape.clone(), values).unwrap()
    }

    fn map(&self, engine: &Engine, name: &str) -> FeatureMap {
        FeatureMap::from_host(engine, &self.host(name)).unwrap()
    }

    fn tokens(&self, engine: &Engine, name: &str) -> Tokens {
        Tokens::from_host(engine, &self.host(name)).unwrap()
    }

    fn expect_map(&self, name: &str, found: &FeatureMap) {
        assert_close(name, &found.to_host().unwrap(), &self.host(name), REFERENCE);
    }

    fn expect_tokens(&self, name: &str, found: &Tokens) {
        assert_close(name, &found.to_host().unwrap(), &self.host(name), REFERENCE);
    }
}

/// `|found - expected| <= absolute + relative * |expected|`.
#[derive(Debug, Clone, Copy)]
struct Tolerance {
    absolute: f32,
    relative: f32,
}

/// f32 sums of up to 50 terms of size 1 against f64: some units in the last place of the largest.
const REFERENCE: Tolerance = Tolerance {
    absolute: 4e-6,
    relative: 2e-6,
};

fn assert_close(name: &str, found: &HostTensor, expected: &HostTensor, tolerance: Tolerance) {
    assert_eq!(found.shape(), expected.shape(), "{name}: shape");
    let worst = found
        .data()
        .iter()
        .zip(expected.data())
        .map(|(found, expected)| {
            let allowed = tolerance.absolute + tolerance.relative * expected.abs();
            ((found - expected).abs() / allowed, found, expected)
        })
        .map(|(excess, found, expected)| {
            (
                if excess.is_nan() { f32::MAX } else { excess },
                found,
                expected,
            )
        })
        .max_by(|a, b| a.0.total_cmp(&b.0));
    if let Some((excess, found, expected)) = worst {
        assert!(
            excess <= 1.0,
            "{name}: found {found}, expected {expected}, {excess} of {tolerance:?}"
        );
    }
}

/// The f32 engines of this machine's processor.
fn engines() -> [Engine; 2] {
    [EngineKind::Cpu, EngineKind::Candle].map(|kind| Engine::new(kind, Device::Cpu, None).unwrap())
}

/// Values in -1..1 that look random and depend on `seed` only.
fn noise(seed: u64, shape: &[usize]) -> HostTensor {
    let value = |index: u64| {
        let mut z = (seed << 32)
            .wrapping_add(index)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let count = shape.iter().product::<usize>() as u64;
    HostTensor::new(shape, (0..count).map(value).collect()).unwrap()
}

/// An error's kind and message.
fn fault<T>(result: Result<T>) -> (ErrorKind, String) {
    let error = result.err().expect("an error");
    (error.kind(), error.message().to_owned())
}

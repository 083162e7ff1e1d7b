//! Recorded tensors and runs.

use std::fs;

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::Value;

use crate::model::{folder_of, json};

/// A recorded array.
#[derive(Debug, Clone, PartialEq)]
pub struct GoldenTensor {
    /// Its name in the file.
    pub name: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub data: Vec<f32>,
}

/// One recorded pipeline run.
#[derive(Debug, Clone, Deserialize)]
pub struct Case {
    /// The sampler's name in the fixtures; none: the folder's own scheduler.
    pub sampler: Option<String>,
    /// The prompt.
    pub prompt: String,
    /// The negative prompt; none was given, which SDXL tells from an empty one.
    pub negative: Option<String>,
    /// One a picture.
    pub seeds: Vec<u64>,
    /// Steps asked for.
    pub steps: usize,
    /// Guidance scale.
    pub guidance: f64,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// DDIM's eta.
    pub eta: f64,
    /// diffusers' count: 1 leaves one layer out.
    pub clip_skip: Option<usize>,
    /// Rescale of the guided noise, 0 to 1.
    pub guidance_rescale: f64,
    /// The scheduler's configuration in force, `_class_name` included.
    pub scheduler: Value,
    /// Its timesteps, one a call of the network.
    pub timesteps: Vec<f64>,
    /// Its sigmas, when the class has them.
    #[serde(default)]
    pub sigmas: Vec<f64>,
}

/// What was recorded of one family.
#[derive(Debug)]
pub struct Golden {
    family: String,
    bytes: Vec<u8>,
    notes: Value,
}

impl Golden {
    /// Reads the family's `golden.*`.
    ///
    /// # Panics
    /// When there is no such fixture.
    pub fn of(family: &str) -> Self {
        let folder = folder_of(family);
        let path = folder.join("golden.safetensors");
        Self {
            family: family.to_owned(),
            bytes: fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())),
            notes: json(&folder.join("golden.json")),
        }
    }

    /// golden.json as it is.
    pub fn notes(&self) -> &Value {
        &self.notes
    }

    /// The token ids under `kind` ("cond", "uncond", "cond_2", "uncond_2").
    ///
    /// # Panics
    /// When none are recorded.
    pub fn tokens(&self, kind: &str) -> Vec<u32> {
        self.notes["tokens"][kind]
            .as_array()
            .unwrap_or_else(|| panic!("{} has no tokens {kind}", self.family))
            .iter()
            .filter_map(|id| Some(u32::try_from(id.as_u64()?).unwrap_or(u32::MAX)))
            .collect()
    }

    /// The names of the recorded runs, sorted.
    pub fn cases(&self) -> Vec<String> {
        let cases = self.notes["cases"].as_object();
        cases.map_or_else(Vec::new, |cases| cases.keys().cloned().collect())
    }

    /// How run `name` was made.
    ///
    /// # Panics
    /// When there is no such run.
    pub fn case(&self, name: &str) -> Case {
        serde_json::from_value(self.notes["cases"][name].clone())
            .unwrap_or_else(|e| panic!("{} case {name}: {e}", self.family))
    }

    /// All names in the file, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.file().names().into_iter().map(String::from).collect();
        names.sort();
        names
    }

    /// Whether `name` is recorded here.
    pub fn has(&self, name: &str) -> bool {
        self.file().tensor(name).is_ok()
    }

    /// The f32 tensor `name`. `unet.in.context` is joined from the texts of the family that owns the towers where it is
    /// not stored.
    ///
    /// # Panics
    /// When it is not recorded.
    pub fn tensor(&self, name: &str) -> GoldenTensor {
        if name == "unet.in.context" && !self.has(name) {
            return self.context();
        }
        let (dtype, shape, bytes) = self.raw(name);
        assert_eq!(dtype, Dtype::F32, "{}: {name} is not f32", self.family);
        let data = bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        GoldenTensor {
            name: format!("{}: {name}", self.family),
            shape,
            data,
        }
    }

    /// The picture of run `case`: shape (batch, height, width, 3) and bytes.
    ///
    /// # Panics
    /// When it is not recorded.
    pub fn image(&self, case: &str) -> (Vec<usize>, Vec<u8>) {
        let (dtype, shape, bytes) = self.raw(&format!("run.{case}.image"));
        assert_eq!(dtype, Dtype::U8, "{}: image of {case}", self.family);
        (shape, bytes)
    }

    fn context(&self) -> GoldenTensor {
        let owner = match &self.notes["text_like"] {
            Value::String(family) => Self::of(family),
            _ => Self::of(&self.family),
        };
        let mut context = owner.tensor("text.uncond");
        context.data.extend(owner.tensor("text.cond").data);
        context.shape[0] = 2;
        "unet.in.context".clone_into(&mut context.name);
        context
    }

    fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes)
            .unwrap_or_else(|e| panic!("{}/golden.safetensors: {e}", self.family))
    }

    fn raw(&self, name: &str) -> (Dtype, Vec<usize>, Vec<u8>) {
        let file = self.file();
        let view = file
            .tensor(name)
            .unwrap_or_else(|e| panic!("{}: {e}; recorded are {:?}", self.family, self.names()));
        (view.dtype(), view.shape().to_vec(), view.data().to_vec())
    }
}

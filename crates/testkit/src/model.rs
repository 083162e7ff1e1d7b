//! Tiny models of every family.

use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use serde_json::Value;

use crate::golden::Golden;
use crate::values::values;

/// The folder of committed fixtures, `tests/fixtures`.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// The folder of `family`'s fixture: among the fixtures, or in `tests/data` for one that came later.
pub(crate) fn folder_of(family: &str) -> PathBuf {
    let folder = fixtures().join(family);
    if folder.exists() {
        return folder;
    }
    later().join(family)
}

/// The folder of families beside the fixtures, which keep to 3 MB.
fn later() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data")
}

/// Element type on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DType {
    /// Single precision: the formula's values as they are.
    #[default]
    F32,
    /// Half precision, rounded to nearest even.
    F16,
    /// bfloat16, rounded to nearest even.
    Bf16,
}

impl DType {
    /// `values` as little-endian bytes of this type.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::F16 => values
                .iter()
                .flat_map(|&v| f16::from_f32(v).to_le_bytes())
                .collect(),
            Self::Bf16 => values
                .iter()
                .flat_map(|&v| bf16::from_f32(v).to_le_bytes())
                .collect(),
        }
    }

    /// The same in safetensors' terms.
    pub(crate) fn safetensors(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }
}

/// One row of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorSpec {
    /// Name in the component's diffusers file.
    pub name: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Half the width of the values' range.
    pub bound: f64,
    /// Middle of the values' range.
    pub offset: f64,
    /// Values that are set instead: first index, count and value, later ones last.
    pub given: Vec<(usize, usize, f32)>,
}

impl TensorSpec {
    /// Number of elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The elements, as tensor of `component`.
    pub fn values(&self, component: &str) -> Vec<f32> {
        let mut values = values(component, &self.name, self.count(), self.bound, self.offset);
        for &(first, count, value) in &self.given {
            values[first..first + count].fill(value);
        }
        values
    }

    /// Reads `[name, shape, bound, offset]`, which `[[first index, count, value], ..]` may follow.
    pub(crate) fn from_row(row: &Value) -> Self {
        let bad = || panic!("manifest row {row} is not [name, shape, bound, offset]");
        Self {
            name: row[0].as_str().unwrap_or_else(bad).to_owned(),
            shape: row[1]
                .as_array()
                .unwrap_or_else(|| panic!("manifest row {row} has no shape"))
                .iter()
                .map(|n| n.as_u64().unwrap_or_else(|| panic!("shape in {row}")) as usize)
                .collect(),
            bound: row[2].as_f64().unwrap_or_else(|| panic!("bound in {row}")),
            offset: row[3].as_f64().unwrap_or_else(|| panic!("offset in {row}")),
            given: row.get(4).map_or_else(Vec::new, |given| {
                serde_json::from_value(given.clone()).unwrap_or_else(|e| panic!("{row}: {e}"))
            }),
        }
    }
}

/// A family's tiny model: configurations in the fixtures, weights from the formula.
#[derive(Debug, Clone)]
pub struct TinyModel {
    pub(crate) family: String,
    pub(crate) components: Vec<(String, Vec<TensorSpec>)>,
}

impl TinyModel {
    /// The model of `tests/fixtures/<family>`, or of `tests/data/<family>`.
    ///
    /// # Panics
    /// When there is no such fixture.
    pub fn family(family: &str) -> Self {
        let components = manifest(family)
            .as_object()
            .unwrap_or_else(|| panic!("{family}/manifest.json is not an object"))
            .iter()
            .map(|(component, rows)| (component.clone(), specs(component, rows)))
            .collect();
        Self {
            family: family.to_owned(),
            components,
        }
    }

    /// Every family that has a fixture, sorted.
    ///
    /// # Panics
    /// When the fixtures cannot be listed.
    pub fn families() -> Vec<String> {
        let mut names: Vec<String> = [fixtures(), later()]
            .into_iter()
            .flat_map(|folder| fs::read_dir(folder).unwrap_or_else(|e| panic!("fixtures: {e}")))
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.join("manifest.json").is_file())
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        names
    }

    /// Its fixture folder: configurations and goldens, no weights.
    pub fn path(&self) -> PathBuf {
        folder_of(&self.family)
    }

    /// The names of its components ("unet", "vae", ...).
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.components.iter().map(|(name, _)| name.as_str())
    }

    /// What `component`'s diffusers file holds.
    ///
    /// # Panics
    /// When the family has no such component.
    pub fn tensors(&self, component: &str) -> &[TensorSpec] {
        self.components
            .iter()
            .find(|(name, _)| name == component)
            .map_or_else(
                || panic!("{} has no {component}", self.family),
                |(_, specs)| specs.as_slice(),
            )
    }

    /// The f32 elements of one tensor.
    ///
    /// # Panics
    /// When there is no such tensor.
    pub fn values(&self, component: &str, name: &str) -> Vec<f32> {
        self.tensors(component)
            .iter()
            .find(|spec| spec.name == name)
            .unwrap_or_else(|| panic!("{}/{component} has no tensor {name}", self.family))
            .values(component)
    }

    /// `component`'s config.json.
    pub fn config(&self, component: &str) -> Value {
        json(&self.path().join(component).join("config.json"))
    }

    /// Its recorded tensors and runs.
    pub fn golden(&self) -> Golden {
        Golden::of(&self.family)
    }
}

/// A family's manifest.json as it is.
fn manifest(family: &str) -> Value {
    json(&folder_of(family).join("manifest.json"))
}

/// Rows, or the rows of the family that is named instead but for those given beside its name.
fn specs(component: &str, rows: &Value) -> Vec<TensorSpec> {
    if let Some(other) = rows.as_str() {
        return specs(component, &manifest(other)[component]);
    }
    if let Some(other) = rows.get("like") {
        let mut theirs = specs(component, other);
        for own in specs(component, &rows["rows"]) {
            let place = theirs.iter().position(|spec| spec.name == own.name);
            let place = place.unwrap_or_else(|| panic!("{other} has no {component} {}", own.name));
            theirs[place] = own;
        }
        return theirs;
    }
    rows.as_array()
        .unwrap_or_else(|| panic!("no rows for {component}"))
        .iter()
        .map(TensorSpec::from_row)
        .collect()
}

/// Reads a JSON file.
pub(crate) fn json(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

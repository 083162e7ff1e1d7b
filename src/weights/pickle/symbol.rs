//! The allow-list: which of Python's names a checkpoint may mention, and what each becomes here.
//!
//! A pickle is a program that asks for names and calls them. Nothing is looked up or called here: a name
//! on the list selects one of a handful of constructions below, or becomes an inert mark; any other name
//! ends the reading. The inert ones occur in checkpoints that trainers wrote (CompVis' own `sd-v1-4.ckpt`
//! mentions a Lightning callback and numpy's scalars beside its weights) and carry nothing that is used.

use crate::weights::StoredDType;

/// What an allowed name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Symbol {
    /// Builds a tensor from a storage, an offset, a shape and strides.
    Tensor,
    /// Wraps a tensor as a module's parameter: the tensor.
    Parameter,
    /// Builds a mapping.
    Mapping,
    /// Builds a tuple of extents.
    Extents,
    /// A kind of storage, with its element type.
    Storage(StoredDType),
    /// A kind of storage whose elements have no use here: what they are, and the bytes each takes.
    OtherStorage(&'static str, usize),
    /// A name that may stand anywhere and does nothing.
    Inert,
}

/// Names by module.
const ALLOWED: &[(&str, &[(&str, Symbol)])] = &[
    (
        "torch._utils",
        &[
            ("_rebuild_tensor_v2", Symbol::Tensor),
            ("_rebuild_tensor", Symbol::Tensor),
            ("_rebuild_parameter", Symbol::Parameter),
            ("_rebuild_parameter_with_state", Symbol::Parameter),
        ],
    ),
    (
        "torch",
        &[
            ("FloatStorage", Symbol::Storage(StoredDType::F32)),
            ("HalfStorage", Symbol::Storage(StoredDType::F16)),
            ("BFloat16Storage", Symbol::Storage(StoredDType::Bf16)),
            ("DoubleStorage", Symbol::Storage(StoredDType::F64)),
            ("LongStorage", Symbol::Storage(StoredDType::I64)),
            ("IntStorage", Symbol::Storage(StoredDType::I32)),
            ("ByteStorage", Symbol::Storage(StoredDType::U8)),
            ("BoolStorage", Symbol::Storage(StoredDType::Bool)),
            ("ShortStorage", Symbol::OtherStorage("16-bit integers", 2)),
            ("CharStorage", Symbol::OtherStorage("signed bytes", 1)),
            (
                "ComplexFloatStorage",
                Symbol::OtherStorage("complex numbers", 8),
            ),
            ("Size", Symbol::Extents),
            ("device", Symbol::Inert),
            ("float32", Symbol::Inert),
            ("float16", Symbol::Inert),
            ("bfloat16", Symbol::Inert),
            ("float64", Symbol::Inert),
            ("int64", Symbol::Inert),
        ],
    ),
    (
        "collections",
        &[
            ("OrderedDict", Symbol::Mapping),
            ("defaultdict", Symbol::Inert),
        ],
    ),
    ("builtins", BUILTINS),
    ("__builtin__", BUILTINS),
    ("_codecs", &[("encode", Symbol::Inert)]),
    ("numpy", NUMPY),
    ("numpy.core.multiarray", NUMPY),
    ("numpy._core.multiarray", NUMPY),
    (
        "pytorch_lightning.callbacks.model_checkpoint",
        &[("ModelCheckpoint", Symbol::Inert)],
    ),
];

const BUILTINS: &[(&str, Symbol)] = &[
    ("dict", Symbol::Mapping),
    ("set", Symbol::Inert),
    ("list", Symbol::Inert),
    ("int", Symbol::Inert),
    ("float", Symbol::Inert),
];

const NUMPY: &[(&str, Symbol)] = &[
    ("dtype", Symbol::Inert),
    ("ndarray", Symbol::Inert),
    ("scalar", Symbol::Inert),
    ("_reconstruct", Symbol::Inert),
];

/// What `module.name` stands for; `None` when it is not allowed.
pub(super) fn lookup(module: &str, name: &str) -> Option<Symbol> {
    let (_, names) = ALLOWED.iter().find(|(allowed, _)| *allowed == module)?;
    let (_, symbol) = names.iter().find(|(allowed, _)| *allowed == name)?;
    Some(*symbol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_runs_code_is_allowed() {
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("builtins", "eval"),
            ("builtins", "exec"),
            ("builtins", "getattr"),
            ("__builtin__", "apply"),
            ("builtins", "__import__"),
            ("torch", "load"),
            ("torch.serialization", "load"),
            ("torch._utils", "system"),
            ("collections", "OrderedDict.__init__"),
            ("numpy", "load"),
            ("subprocess", "Popen"),
            ("", ""),
        ] {
            assert_eq!(lookup(module, name), None, "{module}.{name}");
        }
        assert_eq!(
            lookup("torch", "HalfStorage"),
            Some(Symbol::Storage(StoredDType::F16))
        );
    }
}

//! Planning, checking and reading.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use half::{bf16, f16};

use super::*;

struct Model {
    conv: Conv2d,
    norm: GroupNorm,
    attention: Attention,
    geglu: Geglu,
    embedding: Embedding,
}

impl Model {
    fn load(scope: &Scope) -> Result<Self> {
        Ok(Self {
            conv: Conv2d::load(&scope.pp("conv"), Conv2dSpec::same3x3(2, 4))?,
            norm: GroupNorm::load(&scope.pp("norm"), 2, 4, 1e-5)?,
            attention: Attention::load(
                &scope.pp("blocks").pp(0).pp("attn"),
                &AttentionSpec::new(4, 1, 3),
            )?,
            geglu: Geglu::load(&scope.pp("ff"), 4, 5)?,
            embedding: Embedding::load(&scope.pp("tokens"), 6, 4)?,
        })
    }
}

fn manifest(engine: &Engine) -> Vec<ExpectedTensor> {
    let plan = Scope::plan(engine);
    Model::load(&plan).unwrap();
    plan.manifest()
}

fn source(manifest: &[ExpectedTensor]) -> Memory {
    manifest.iter().fold(Memory::default(), |memory, tensor| {
        memory.with_host(&tensor.name, &noise(1, &tensor.shape))
    })
}

#[test]
fn a_plan_names_every_tensor_on_every_engine() {
    let expected = [
        ("conv.weight", vec![4, 2, 3, 3]),
        ("conv.bias", vec![4]),
        ("norm.weight", vec![4]),
        ("norm.bias", vec![4]),
        ("blocks.0.attn.to_q.weight", vec![3, 4]),
        ("blocks.0.attn.to_k.weight", vec![3, 4]),
        ("blocks.0.attn.to_v.weight", vec![3, 4]),
        ("blocks.0.attn.to_out.0.weight", vec![4, 3]),
        ("blocks.0.attn.to_out.0.bias", vec![4]),
        ("ff.proj.weight", vec![10, 4]),
        ("ff.proj.bias", vec![10]),
        ("tokens.weight", vec![6, 4]),
    ];
    let expected = expected.map(|(name, shape)| ExpectedTensor {
        name: name.to_owned(),
        shape,
        table: name == "tokens.weight",
    });
    for engine in engines() {
        let manifest = manifest(&engine);
        assert_eq!(manifest, expected);
        check(&manifest, &source(&manifest)).unwrap();
    }
}

#[test]
fn a_planned_layer_does_not_compute() {
    for engine in engines() {
        let model = Model::load(&Scope::plan(&engine)).unwrap();
        let map = |shape: [usize; 4]| FeatureMap::from_host(&engine, &noise(1, &shape)).unwrap();
        let x = Tokens::from_host(&engine, &noise(1, &[1, 2, 4])).unwrap();
        for (kind, message) in [
            fault(model.conv.forward(&map([1, 2, 3, 3]))),
            fault(model.norm.forward(&map([1, 4, 3, 3]), Activation::Silu)),
            fault(model.attention.forward(&x, None, None)),
            fault(model.geglu.forward(&x)),
            fault(model.embedding.forward(&[vec![0]])),
        ] {
            assert_eq!(kind, ErrorKind::Internal);
            assert!(message.contains("built from a plan"), "{message}");
        }
    }
}

#[test]
fn check_lists_every_fault_in_one_error() {
    let manifest = manifest(&Engine::cpu());
    let mut tensors = source(&manifest);
    tensors.0.remove("norm.weight");
    tensors.0.remove("tokens.weight");
    let mut tensors = tensors.with_host("conv.weight", &noise(1, &[4, 2, 1, 1]));
    tensors.0.get_mut("ff.proj.bias").unwrap().0 = StoredDType::I64;
    let (kind, message) = fault(check(&manifest, &tensors));
    assert_eq!(kind, ErrorKind::WeightMismatch);
    assert_eq!(
        message,
        "of 12 tensors 2 are missing and 2 have another shape or type than the configuration says:\n  \
         conv.weight: found shape [4, 2, 1, 1], expected [4, 2, 3, 3]\n  \
         norm.weight: missing, expected shape [4]\n  \
         ff.proj.bias: found elements of type I64, expected floating point\n  \
         tokens.weight: missing, expected shape [6, 4]"
    );
}

#[test]
fn check_lists_every_fault() {
    let plan = Scope::plan(&Engine::cpu());
    for i in 0..50 {
        Linear::load(&plan.pp(i), 2, 3, Bias::Without).unwrap();
    }
    let (_, message) = fault(check(&plan.manifest(), &Memory::default()));
    assert!(
        message.starts_with("of 50 tensors 50 are missing and 0 have"),
        "{message}"
    );
    assert_eq!(
        message.matches("missing, expected shape [3, 2]").count(),
        50
    );
}

#[test]
fn a_matrix_and_a_pointwise_filter_are_one_shape_and_nothing_else_is() {
    let expect = |shape: &[usize]| {
        [ExpectedTensor {
            name: "w".to_owned(),
            shape: shape.to_vec(),
            table: false,
        }]
    };
    let has = |shape: &[usize]| Memory::default().with_host("w", &noise(1, shape));
    for (expected, found, fits) in [
        (&[3, 2][..], &[3, 2, 1, 1][..], true),
        (&[3, 2], &[3, 2, 1], true),
        (&[3, 2, 1, 1], &[3, 2], true),
        (&[3, 2, 1, 1], &[3, 2, 1], true),
        (&[3, 2], &[2, 3], false),
        (&[3, 2, 1, 1], &[2, 3], false),
        (&[3, 2, 3, 3], &[3, 2], false),
        (&[3], &[3, 1], false),
        (&[3], &[1, 3], false),
        (&[6], &[3, 2], false),
    ] {
        let result = check(&expect(expected), &has(found));
        assert_eq!(result.is_ok(), fits, "{expected:?} from {found:?}");
    }
}

#[test]
fn loading_reports_each_name_and_stops_on_request() {
    for engine in engines() {
        let manifest = manifest(&engine);
        let tensors = source(&manifest).arc();
        let mut seen = Vec::new();
        Model::load(&Scope::load(&engine, tensors.clone(), |name| {
            seen.push(name.to_owned());
            Ok(())
        }))
        .unwrap();
        let names = manifest.iter().map(|tensor| tensor.name.clone());
        assert_eq!(seen, names.collect::<Vec<_>>());

        let mut left = 3;
        let stopped = Model::load(&Scope::load(&engine, tensors, |_| {
            left -= 1;
            if left == 0 {
                Err(Error::new(ErrorKind::Cancelled, "enough"))
            } else {
                Ok(())
            }
        }));
        assert_eq!(fault(stopped).0, ErrorKind::Cancelled);
        assert_eq!(left, 0);
    }
}

#[test]
fn every_stored_float_is_read_as_its_value() {
    let values: Vec<f32> = (0..24).map(|i| (i as f32 - 11.0) * 0.25).collect();
    let bytes =
        |convert: &dyn Fn(f32) -> Vec<u8>| values.iter().flat_map(|&v| convert(v)).collect();
    let stored: [(StoredDType, Vec<u8>); 4] = [
        (StoredDType::F32, bytes(&|v| v.to_le_bytes().to_vec())),
        (
            StoredDType::F64,
            bytes(&|v| f64::from(v).to_le_bytes().to_vec()),
        ),
        (
            StoredDType::F16,
            bytes(&|v| f16::from_f32(v).to_le_bytes().to_vec()),
        ),
        (
            StoredDType::Bf16,
            bytes(&|v| bf16::from_f32(v).to_le_bytes().to_vec()),
        ),
    ];
    for engine in engines_and_a_small_one() {
        for (dtype, bytes) in &stored {
            let mut memory = Memory::default();
            memory
                .0
                .insert("weight".to_owned(), (*dtype, vec![8, 3], bytes.clone()));
            let scope = Scope::load(&engine, memory.clone().arc(), |_| Ok(()));
            let table = Embedding::load(&scope, 8, 3).unwrap();
            let found = table
                .forward(&[(0..8).collect()])
                .unwrap()
                .to_host()
                .unwrap();
            assert_eq!(found.data(), values, "{dtype:?}");

            memory.0.get_mut("weight").unwrap().2.pop();
            let scope = Scope::load(&engine, memory.arc(), |_| Ok(()));
            let (kind, message) = fault(Embedding::load(&scope, 8, 3));
            assert_eq!(kind, ErrorKind::Malformed);
            assert!(message.starts_with("tensor weight: found"), "{message}");
        }
    }
}

fn engines_and_a_small_one() -> Vec<Engine> {
    let small = Engine::cpu().with_memory(MemoryUse::Low).unwrap();
    engines().into_iter().chain([small]).collect()
}

/// Counts what is read of the tensors behind it, and cuts them short when told to.
struct Watched {
    memory: Memory,
    reads: AtomicUsize,
    cut: AtomicBool,
}

impl TensorSource for Watched {
    fn names(&self) -> Vec<String> {
        self.memory.names()
    }

    fn info(&self, name: &str) -> Option<(StoredDType, Vec<usize>)> {
        self.memory.info(name)
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let mut raw = self.memory.read(name)?;
        if self.cut.load(Ordering::Relaxed) {
            raw.bytes.to_mut().truncate(20);
        }
        Ok(raw)
    }
}

#[test]
fn a_table_stays_in_the_checkpoint_where_memory_is_low() {
    for (memory, reads) in [(MemoryUse::Normal, 1), (MemoryUse::Low, 3)] {
        let engine = Engine::cpu().with_memory(memory).unwrap();
        let watched = Arc::new(Watched {
            memory: Memory::default().with_host("weight", &noise(1, &[5, 3])),
            reads: AtomicUsize::new(0),
            cut: AtomicBool::new(false),
        });
        let scope = Scope::load(&engine, watched.clone(), |_| Ok(()));
        let table = Embedding::load(&scope, 5, 3).unwrap();
        let first = table.forward(&[vec![1, 4]]).unwrap().to_host().unwrap();
        watched.cut.store(true, Ordering::Relaxed);
        let again = table.forward(&[vec![1, 4]]);
        assert_eq!(watched.reads.load(Ordering::Relaxed), reads, "{memory:?}");
        let bytes = engine.table_bytes(&[5, 3]);
        if memory == MemoryUse::Normal {
            assert_eq!(again.unwrap().to_host().unwrap(), first);
            assert_eq!(bytes, 60);
        } else {
            let (kind, message) = fault(again);
            assert_eq!((kind, bytes), (ErrorKind::Malformed, 0));
            assert!(
                message.contains("tensor weight: found 20 bytes, expected 24 or more"),
                "{message}"
            );
        }
    }
}

#[test]
fn long_tensors_are_converted_to_the_last_element() {
    let count = 3 * 4096 + 5;
    let halves: Vec<u8> = (0..count)
        .flat_map(|i| f16::from_f32((i % 1999) as f32).to_le_bytes())
        .collect();
    for engine in engines_and_a_small_one() {
        let mut memory = Memory::default();
        memory.0.insert(
            "weight".to_owned(),
            (StoredDType::F16, vec![count, 1], halves.clone()),
        );
        let table =
            Embedding::load(&Scope::load(&engine, memory.arc(), |_| Ok(())), count, 1).unwrap();
        let found = table
            .forward(&[(0..count as u32).collect()])
            .unwrap()
            .to_host()
            .unwrap();
        let expected: Vec<f32> = (0..count).map(|i| (i % 1999) as f32).collect();
        assert_eq!(found.data(), expected);
    }
}

#[test]
fn a_wrong_tensor_is_refused_even_without_a_check() {
    for engine in engines() {
        let tensors = Memory::default()
            .with_host("weight", &noise(1, &[2, 3]))
            .arc();
        let scope = Scope::load(&engine, tensors, |_| Ok(()));
        let (kind, message) = fault(Linear::load(&scope, 2, 3, Bias::Without));
        assert_eq!(kind, ErrorKind::WeightMismatch);
        assert_eq!(
            message,
            "tensor weight: found shape [2, 3], expected [3, 2]"
        );
        assert!(scope.has("weight") && !scope.has("bias"));
        assert!(scope.manifest().is_empty());
    }
}

#[test]
fn a_plan_for_a_file_knows_what_it_has() {
    let tensors = Memory::default()
        .with_host("a.weight", &noise(1, &[2]))
        .arc();
    let plan = Scope::plan_for(&Engine::cpu(), tensors);
    assert!(plan.pp("a").has("weight") && !plan.has("weight"));
    assert!(!Scope::plan(&Engine::cpu()).pp("a").has("weight"));
}

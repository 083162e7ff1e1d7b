//! 16-bit products and small weights on the processor's own kernels: how close, how chosen, how reported.

use tintype_kernels::{Isa, attention_kernel};

use super::block::{block, run, run_items};
use super::*;

fn engine(precision: Precision, memory: MemoryUse) -> Engine {
    let engine = Engine::cpu().with_precision(Some(precision)).unwrap();
    engine.with_memory(memory).unwrap()
}

/// Signal to noise in decibels.
fn snr(found: &HostTensor, expected: &HostTensor) -> f64 {
    let square = |v: f32| f64::from(v).powi(2);
    let signal: f64 = expected.data().iter().map(|&v| square(v)).sum();
    let pairs = found.data().iter().zip(expected.data());
    let noise: f64 = pairs
        .map(|(found, expected)| square(found - expected))
        .sum();
    10.0 * (signal / noise).log10()
}

#[test]
fn names_are_parsed_and_printed() {
    for precision in [Precision::F32, Precision::Fast] {
        assert_eq!(
            precision.to_string().parse::<Precision>().unwrap(),
            precision
        );
    }
    for memory in [MemoryUse::Normal, MemoryUse::Low] {
        assert_eq!(memory.to_string().parse::<MemoryUse>().unwrap(), memory);
    }
    let message = fault("int8".parse::<Precision>()).1;
    assert!(
        message.contains("\"int8\", expected f32 or fast"),
        "{message}"
    );
    let message = fault("tiny".parse::<MemoryUse>()).1;
    assert!(
        message.contains("\"tiny\", expected normal or low"),
        "{message}"
    );
}

#[test]
fn without_a_wish_the_processor_decides() {
    let engine = Engine::cpu();
    assert_eq!(engine.precision(), Some(Precision::F32), "the reference");
    let best = engine.with_precision(None).unwrap();
    let expected = if Isa::current().multiplies_16_bit() {
        Precision::Fast
    } else {
        Precision::F32
    };
    assert_eq!(best.precision(), Some(expected));
    assert_eq!(best.to_string(), format!("cpu cpu {expected}"));
}

#[test]
fn candle_has_no_precision_of_its_own() {
    let open = |dtype| Engine::new(EngineKind::Candle, Device::Cpu, Some(dtype)).unwrap();
    let full = open(DType::F32);
    assert_eq!(full.precision(), None);
    assert!(full.clone().with_precision(Some(Precision::F32)).is_ok());
    assert_eq!(open(DType::F16).to_string(), "candle cpu f16");
    for (result, named) in [
        (
            full.clone().with_precision(Some(Precision::Fast)),
            "precision fast with engine candle",
        ),
        (
            open(DType::F16).with_precision(Some(Precision::F32)),
            "compute type f16",
        ),
        (
            full.with_memory(MemoryUse::Low),
            "memory low with engine candle",
        ),
    ] {
        let (kind, message) = fault(result);
        assert_eq!(kind, ErrorKind::Unsupported);
        assert!(message.contains(named), "{message}");
    }
}

#[test]
fn fast_layers_come_close_to_f32_on_every_instruction_set() {
    for isa in Isa::available() {
        isa.with(|| {
            let expected = run(&engine(Precision::F32, MemoryUse::Normal));
            for (precision, memory, least) in [
                (Precision::F32, MemoryUse::Low, 100.0),
                (Precision::Fast, MemoryUse::Normal, 44.0),
                (Precision::Fast, MemoryUse::Low, 44.0),
            ] {
                let found = snr(&run(&engine(precision, memory)), &expected);
                println!("{} {precision} {memory}: {found:.1} dB", isa.name());
                assert!(
                    found > least,
                    "{} {precision} {memory}: {found} dB",
                    isa.name()
                );
                assert!(
                    precision == Precision::F32 || found < 80.0,
                    "fast multiplies in f32"
                );
            }
        });
    }
}

#[test]
fn threads_and_company_change_no_bit() {
    for precision in [Precision::F32, Precision::Fast] {
        let engine = engine(precision, MemoryUse::Normal);
        let block = block(&engine);
        let [one, five] = [1, 5].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build()
                .unwrap()
                .install(|| run_items(&engine, &block, 0..2))
        });
        assert_eq!(one, five, "{precision}: threads");
        let [first, second] = [0, 1].map(|item| run_items(&engine, &block, item..item + 1));
        let apart = [first.data(), second.data()].concat();
        assert_eq!(one.data(), apart, "{precision}: items of a batch");
    }
}

#[test]
fn an_exact_scope_multiplies_in_f32() {
    let layer = |engine: &Engine, exact: bool| {
        let tensors = Memory::default()
            .with_host("weight", &noise(1, &[24, 40]))
            .with_host("bias", &noise(2, &[24]));
        let scope = Scope::load(engine, tensors.arc(), |_| Ok(()));
        let scope = if exact { scope.exact() } else { scope };
        let layer = Linear::load(&scope, 40, 24, Bias::With).unwrap();
        let x = Tokens::from_host(engine, &noise(3, &[1, 9, 40])).unwrap();
        layer.forward(&x).unwrap().to_host().unwrap()
    };
    let fast = engine(Precision::Fast, MemoryUse::Normal);
    // In f32 the smallest form is f32 itself on every instruction set.
    let expected = layer(&engine(Precision::F32, MemoryUse::Low), false);
    assert_eq!(layer(&fast, true), expected);
    assert_ne!(layer(&fast, false), expected);
}

#[test]
fn the_profile_says_which_kernel_ran_what() {
    let fast = engine(Precision::Fast, MemoryUse::Low);
    let (block, profiler) = (block(&fast), fast.profiler().unwrap());
    run_items(&fast, &block, 0..1);
    assert!(
        profiler.take().is_empty(),
        "it counts before it is switched on"
    );
    profiler.start();
    profiler.enter("unet");
    run_items(&fast, &block, 0..1);
    let rows = profiler.take();
    let find = |kind: &str, shape: &str| {
        let mut all = rows.iter();
        let found = all.find(|(work, _)| work.kind == kind && work.shape == shape);
        let (work, spent) = found.unwrap_or_else(|| panic!("no {kind} {shape} in {rows:?}"));
        assert_eq!((work.stage, spent.calls), ("unet", 1));
        (work.kernel, spent.flops)
    };
    let positions = f64::from(33 * 17);
    assert_eq!(
        find("conv 3x3", "1x33x17 32>64"),
        ("conv-bf16-direct", 2.0 * positions * 64.0 * 32.0 * 9.0)
    );
    // Short vectors leave less padding beside seven columns.
    let few = match Isa::current() {
        Isa::Portable => "conv-f32-direct",
        _ => "conv-f32-shifted",
    };
    assert_eq!(find("conv 3x3", "1x33x17 48>7").0, few);
    assert_eq!(find("gated linear", "128 48>2x192").0, "geglu-bf16");
    assert_eq!(find("linear", "128 192>48").0, "product-bf16");
    let flops = 4.0 * 48.0 * 128.0;
    assert_eq!(
        find("attention", "1x3x16 128>128"),
        ("attention-bf16", flops * 128.0)
    );
    // The layer that asks for scores in f32.
    assert_eq!(
        find("attention", "1x3x16 128>77"),
        (attention_kernel(), flops * 77.0)
    );
    assert!(find("group norm", "1x33x17 32").1 < 1.0, "it counts none");
}

#[test]
fn weights_take_what_is_said() {
    let conv = [64, 64, 3, 3];
    let elements: u64 = 64 * 64 * 9;
    let bits = f32::MANTISSA_DIGITS;
    for (precision, expected) in [(Precision::F32, 4), (Precision::Fast, 2)] {
        let engine = engine(precision, MemoryUse::Low);
        assert_eq!(engine.weight_bytes(&conv, bits), expected * elements);
        assert_eq!(engine.weight_bytes(&[10, 7], bits), expected * 70);
        let bias = engine.weight_bytes(&[10], bits);
        assert_eq!(bias, 40, "biases and gains stay f32");
    }
    Isa::Portable.with(|| {
        let normal = |precision| engine(precision, MemoryUse::Normal).weight_bytes(&conv, bits);
        assert_eq!(normal(Precision::F32), 16 * elements);
        assert_eq!(normal(Precision::Fast), 8 * elements);
    });
    if Isa::available().contains(&Isa::Amx) {
        Isa::Amx.with(|| {
            let engine = engine(Precision::F32, MemoryUse::Normal);
            // f32, f16 and bf16 as they lie in checkpoints.
            for (bits, expected) in [(24, 6), (11, 4), (8, 2)] {
                assert_eq!(engine.weight_bytes(&[10, 7], bits), expected * 70);
            }
        });
    }
    let candle = Engine::new(EngineKind::Candle, Device::Cpu, Some(DType::F16)).unwrap();
    assert_eq!(candle.weight_bytes(&conv, bits), 2 * elements);
}

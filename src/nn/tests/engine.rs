//! Choice of device, compute type and engine.

use super::*;

#[test]
fn names_are_parsed_and_printed() {
    for (text, device) in [
        ("cpu", Device::Cpu),
        ("cuda:0", Device::Cuda(0)),
        ("cuda:3", Device::Cuda(3)),
        ("metal:1", Device::Metal(1)),
    ] {
        assert_eq!(text.parse::<Device>().unwrap(), device);
        assert_eq!(device.to_string(), text);
    }
    assert_eq!("cuda".parse::<Device>().unwrap(), Device::Cuda(0));
    assert_eq!("metal".parse::<Device>().unwrap(), Device::Metal(0));
    for text in ["", "gpu", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "CUDA"] {
        let (kind, message) = fault(text.parse::<Device>());
        assert_eq!(kind, ErrorKind::InvalidConfig);
        assert!(message.contains(&format!("{text:?}")), "{message}");
    }
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        assert_eq!(dtype.to_string().parse::<DType>().unwrap(), dtype);
    }
    for kind in [EngineKind::Auto, EngineKind::Cpu, EngineKind::Candle] {
        assert_eq!(kind.to_string().parse::<EngineKind>().unwrap(), kind);
    }
    assert!(
        fault("f64".parse::<DType>())
            .1
            .contains("expected f32, f16 or bf16")
    );
    assert!(
        fault("fast".parse::<EngineKind>())
            .1
            .contains("expected auto, cpu or candle")
    );
}

#[test]
fn auto_takes_the_engine_that_can() {
    let new = |kind, dtype| Engine::new(kind, Device::Cpu, dtype);
    let auto = new(EngineKind::Auto, None).unwrap();
    assert_eq!(
        (auto.kind(), auto.dtype(), auto.device()),
        (EngineKind::Cpu, DType::F32, Device::Cpu)
    );
    let half = new(EngineKind::Auto, Some(DType::F16)).unwrap();
    assert_eq!(
        (half.kind(), half.dtype()),
        (EngineKind::Candle, DType::F16)
    );
    let single = half.with_dtype(DType::F32).unwrap();
    assert_eq!(
        (single.kind(), single.dtype()),
        (EngineKind::Candle, DType::F32)
    );
    assert_eq!(Engine::cpu().kind(), EngineKind::Cpu);
}

#[test]
fn what_no_engine_can_do_is_unsupported() {
    let new = |kind, dtype| Engine::new(kind, Device::Cpu, Some(dtype));
    for (result, named) in [
        (new(EngineKind::Cpu, DType::F16), "f16 with engine cpu"),
        (new(EngineKind::Cpu, DType::BF16), "bf16 with engine cpu"),
        (new(EngineKind::Auto, DType::BF16), "bf16 on device cpu"),
        (new(EngineKind::Candle, DType::BF16), "bf16 on device cpu"),
        (
            Engine::new(EngineKind::Cpu, Device::Cuda(0), None),
            "engine cpu on device cuda:0",
        ),
        (Engine::cpu().with_dtype(DType::F16), "f16 with engine cpu"),
    ] {
        let (kind, message) = fault(result);
        assert_eq!(kind, ErrorKind::Unsupported);
        assert!(message.contains(named), "{message}");
    }
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_is_not_compiled_in_says_how_to_get_it() {
    let error = Engine::new(EngineKind::Auto, Device::Cuda(0), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Device);
    assert!(
        error.message().contains("this build has no cuda support"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("--features cuda"));
}

#[cfg(not(feature = "metal"))]
#[test]
fn metal_that_is_not_compiled_in_says_how_to_get_it() {
    let error = Engine::new(EngineKind::Auto, Device::Metal(0), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Device);
    assert!(error.hint().unwrap().contains("--features metal"));
}

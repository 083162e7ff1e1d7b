//! The files in `testdata/` were written by torch itself; `make.py` there says how.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;
use crate::weights::view::testing::f32s;

const ZIP: &[u8] = include_bytes!("testdata/lightning.ckpt");
const LEGACY: &[u8] = include_bytes!("testdata/legacy.ckpt");

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("src/weights/pickle/testdata")
        .join(name)
}

fn open(name: &str) -> Result<TorchFile> {
    TorchFile::open(&path(name))
}

#[test]
fn reads_what_torch_writes_in_both_forms() {
    for name in ["lightning.ckpt", "legacy.ckpt", "bare.pt"] {
        let file = open(name).unwrap();
        assert_eq!(
            file.names(),
            [
                "brain",
                "empty",
                "half",
                "ids",
                "parameter",
                "plain",
                "scalar",
                "shared",
                "turned"
            ],
            "{name}"
        );
        let values = |tensor: &str| f32s(&file.read(tensor).unwrap());
        assert_eq!(values("plain"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(values("shared"), [6.0, 7.0, 8.0, 9.0]);
        assert_eq!(values("parameter"), [7.0, 8.0]);
        assert_eq!(values("scalar"), [5.0]);
        assert!(values("empty").is_empty());
        let turned = file.read("turned").unwrap();
        assert_eq!(turned.shape, [4, 3]);
        assert_eq!(
            f32s(&turned),
            [0.0, 4.0, 8.0, 1.0, 5.0, 9.0, 2.0, 6.0, 10.0, 3.0, 7.0, 11.0]
        );
        assert!(matches!(
            file.read("plain").unwrap().bytes,
            Cow::Borrowed(_)
        ));
        assert_eq!(file.info("plain"), Some((StoredDType::F32, vec![2, 3])));
        assert_eq!(file.info("half"), Some((StoredDType::F16, vec![2])));
        assert_eq!(&*file.read("half").unwrap().bytes, [0x00, 0x3e, 0x00, 0xc0]);
        assert_eq!(file.info("brain"), Some((StoredDType::Bf16, vec![1, 1])));
        assert_eq!(file.info("ids"), Some((StoredDType::I64, vec![1, 3])));
        assert_eq!(file.global_step(), (name != "bare.pt").then_some(875_000));
        assert_eq!(
            file.read("none").unwrap_err().kind(),
            ErrorKind::WeightMismatch
        );
    }
}

#[test]
fn a_pickle_with_code_is_refused_by_the_name_it_asks_for() {
    let error = open("evil.ckpt").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsafeFile);
    // The name that pickle gives os.system.
    assert!(
        error.message().contains("the pickle asks for posix.system"),
        "{error}"
    );
    assert!(error.message().contains("evil.ckpt"), "{error}");
    assert!(error.hint().unwrap().contains(".safetensors"), "{error}");
}

#[test]
fn what_cannot_be_used_is_named() {
    let error = open("int8.ckpt").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.message().contains("tensor w: it holds signed bytes"),
        "{error}"
    );
    let error = open("list.ckpt").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.message().contains("a list of 3 items"), "{error}");
    for (bytes, expected) in [
        (&b"<html>"[..], "found something else"),
        (b"", "found something else"),
        (b"\x80\x02}.", "found a bare pickle"),
        (&ZIP[..ZIP.len() / 2], "zip archive cannot be read"),
        (&LEGACY[..LEGACY.len() - 3], "cut off"),
    ] {
        let error = read(bytes).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(error.message().contains(expected), "{error}");
    }
}

/// Runs opcodes.
fn run(opcodes: &[u8]) -> Result<()> {
    machine::run(opcodes).map(|_| ())
}

#[test]
fn names_are_refused_however_they_are_asked_for() {
    for opcodes in [
        &b"cos\nsystem\n."[..],
        b"\x8c\x02os\x8c\x06system\x93.",
        b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x8c\x04eval\x93.",
        b"c\xff\xfe\nx\n.",
    ] {
        assert_eq!(
            run(opcodes).unwrap_err().kind(),
            ErrorKind::UnsafeFile,
            "{opcodes:?}"
        );
    }
    // Opcodes that name classes in other ways do not exist here.
    for opcodes in [
        &b"(ios\nsystem\n."[..],
        b"(o.",
        b"\x82\x01.",
        b"Psomething\n.",
    ] {
        let error = run(opcodes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{opcodes:?}");
        assert!(error.message().contains("the opcode 0x"), "{error}");
    }
    let error = run(b"cos\nsys\x1b[31m\n.").unwrap_err();
    assert!(error.message().contains(r"os.sys\u{1b}[31m"), "{error}");
}

#[test]
fn hostile_structures_end_in_errors_not_in_memory_or_recursion() {
    let nested = [&b"N"[..], &vec![0x85; 500_000], b"."].concat();
    assert!(run(&nested).is_ok());
    let objects = [&vec![b']'; 1_100_000][..], b"."].concat();
    assert!(run(&objects).unwrap_err().message().contains("objects"));
    let endless = vec![b'('; 9 << 20];
    assert!(
        run(&endless)
            .unwrap_err()
            .message()
            .contains("the pickle ends")
    );
    // A list within itself, doubled in the memo again and again.
    let mut bomb = b"]q\x00".to_vec();
    for _ in 0..1000 {
        bomb.extend(b"(h\x00h\x00eh\x00a");
    }
    bomb.push(b'.');
    assert!(run(&bomb).is_ok());
    for (opcodes, expected) in [
        (&b"X\xff\xff\xff\xffab."[..], "a length of 4294967295"),
        (
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffab.",
            "a length of 18446744073709551615",
        ),
        (b"\x8b\xff\xff\xff\x7fab.", "a length of 2147483647"),
        (b"h\x07.", "a reference to 7"),
        (b"0.", "without its operands"),
        (b"N(0.", "without its operands"),
        (b"t.", "never began"),
        (b"N}a.", "items for something that is no list"),
        (b"]NNs.", "entries for something that is no mapping"),
        (b"}(Nu.", "a key without value"),
        (b"NNR.", "a call without"),
        (b"N)R.", "cannot be called"),
        (
            b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
            "a tensor without storage",
        ),
        (b"NQ.", "no whole storage"),
        (b"I1", "a line without end"),
        (b".", "without its operands"),
    ] {
        let error = run(opcodes).unwrap_err();
        assert!(error.message().contains(expected), "{opcodes:?}: {error}");
    }
}

/// A tensor over storage "0" of `count` floats, in Python's own opcodes.
fn tensor_pickle(count: u32, offset: u32, shape: &[u32], strides: &[u32]) -> Vec<u8> {
    fn int(value: u32) -> Vec<u8> {
        [&b"J"[..], &value.to_le_bytes()].concat()
    }
    fn tuple(values: &[u32]) -> Vec<u8> {
        let inner: Vec<u8> = values.iter().flat_map(|&value| int(value)).collect();
        [&b"("[..], &inner, b"t"].concat()
    }
    [
        &b"}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"[..],
        &int(count),
        b"tQ",
        &int(offset),
        &tuple(shape),
        &tuple(strides),
        b"\x89NtRs.",
    ]
    .concat()
}

#[test]
fn tensors_beyond_their_storage_are_refused() {
    let check = |count, offset, shape: &[u32], strides: &[u32]| {
        let opcodes = tensor_pickle(count, offset, shape, strides);
        let pickle = machine::run(&opcodes).unwrap();
        let value = pickle.get(pickle.root, "w").unwrap();
        let Some(Object::Tensor(tensor)) = pickle.object(value) else {
            panic!("no tensor");
        };
        entry(&pickle, tensor, &HashMap::from([("0", 100..124)]))
    };
    assert!(check(6, 0, &[2, 3], &[3, 1]).unwrap().strides.is_none());
    assert!(check(6, 0, &[3, 2], &[1, 3]).unwrap().strides.is_some());
    assert!(check(6, 6, &[0], &[1]).is_ok());
    let most = i32::MAX as u32;
    for (count, offset, shape, strides) in [
        (6, 1, &[2, 3][..], &[3, 1][..]),
        (6, 0, &[2, 3], &[6, 1]),
        (6, 0, &[most, most], &[0, 0]),
        (6, 0, &[most, most, most, most], &[most, most, most, most]),
        (6, 7, &[0], &[1]),
        (7, 0, &[2], &[1]),
    ] {
        let error = check(count, offset, shape, strides).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{shape:?} {strides:?}");
    }
}

/// Everything that a reading promises must be readable.
fn check(bytes: &[u8]) {
    if let Ok((tensors, _)) = read(bytes) {
        for entry in tensors.values() {
            let size = entry.shape.iter().product::<usize>() * entry.dtype.size_bytes();
            assert_eq!(entry.gather(&bytes[entry.storage.clone()]).len(), size);
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_opcodes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = machine::run(&bytes);
        check(&bytes);
    }

    #[test]
    fn arbitrary_structures_never_panic(bytes in prop::collection::vec(prop::sample::select(&b"(N)]}tldaeus012qh\x00\x01\x85\x86\x87K\x05RbQ\x81\x93."[..]), 0..200)) {
        let _ = machine::run(&bytes);
    }

    #[test]
    fn mutated_checkpoints_never_panic(legacy in any::<bool>(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<Option<prop::sample::Index>>()) {
        let mut bytes = if legacy { LEGACY } else { ZIP }.to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        check(&bytes);
    }
}

use std::collections::HashMap;

use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};

use super::*;
use crate::error::ErrorKind;

/// A header and data as a file's bytes.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn valid() -> Vec<u8> {
    file(
        r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F16","shape":[1,2],"data_offsets":[8,12]}}"#,
        &[7; 12],
    )
}

fn fails(bytes: &[u8]) -> Error {
    parse(bytes).map(|_| ()).unwrap_err()
}

#[test]
fn reads_what_the_reference_library_writes() {
    let data: Vec<u8> = (0..24).collect();
    let views = [
        (
            "w",
            TensorView::new(Dtype::F32, vec![2, 2], &data[..16]).unwrap(),
        ),
        (
            "h",
            TensorView::new(Dtype::BF16, vec![4], &data[16..]).unwrap(),
        ),
    ];
    let metadata = HashMap::from([("modelspec.title".to_owned(), "x".to_owned())]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.safetensors");
    safetensors::serialize_to_file(views, Some(metadata), &path).unwrap();
    let file = SafetensorsFile::open(&path).unwrap();
    assert_eq!(file.names(), ["h", "w"]);
    assert_eq!(file.info("w"), Some((StoredDType::F32, vec![2, 2])));
    assert_eq!(&*file.read("w").unwrap().bytes, &data[..16]);
    assert_eq!(&*file.read("h").unwrap().bytes, &data[16..]);
    assert!(matches!(file.read("h").unwrap().bytes, Cow::Borrowed(_)));
    assert_eq!(file.metadata()["modelspec.title"], "x");
}

#[test]
fn a_truncated_file_is_named_with_both_lengths() {
    let mut bytes = valid();
    let whole = bytes.len();
    bytes.truncate(whole - 3);
    let error = fails(&bytes);
    assert_eq!(error.kind(), ErrorKind::Malformed);
    let expected = format!("truncated: found {} bytes, expected {whole}", whole - 3);
    assert!(error.message().contains(&expected), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn headers_that_lie_are_refused() {
    let cases: [(&str, Vec<u8>, &str); 12] = [
        ("empty", vec![], "found 0 bytes"),
        (
            "length beyond the file",
            [&200_u64.to_le_bytes()[..], b"{}"].concat(),
            "claims a length of 200 bytes, found 2",
        ),
        (
            "absurd length",
            [&u64::MAX.to_le_bytes()[..], b"{}"].concat(),
            "claims a length of 18446744073709551615",
        ),
        (
            "another format",
            b"PK\x03\x04 and so on, a zip file".to_vec(),
            "no safetensors file",
        ),
        ("cut JSON", file(r#"{"a":"#, &[]), "not what it should be"),
        (
            "overlap",
            file(
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
                &[0; 6],
            ),
            "tensor b overlaps a",
        ),
        (
            "hole",
            file(
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
                &[0; 6],
            ),
            "tensor a leaves a hole after the header",
        ),
        (
            "backwards",
            file(
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}}"#,
                &[0; 4],
            ),
            "offsets 4 to 0, expected 4 bytes",
        ),
        (
            "overflow",
            file(
                r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}"#,
                &[0; 4],
            ),
            "a shape that fits into memory",
        ),
        (
            "far away",
            file(
                &format!(
                    r#"{{"a":{{"dtype":"U8","shape":[0],"data_offsets":[{0},{0}]}}}}"#,
                    u64::MAX
                ),
                &[],
            ),
            "no file can hold",
        ),
        (
            "twice",
            file(
                r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#,
                &[],
            ),
            "described twice",
        ),
        (
            "trailing bytes",
            file("{}", &[0; 3]),
            "longer than its header says: found 13 bytes, expected 10",
        ),
    ];
    for (case, bytes, expected) in cases {
        let error = fails(&bytes);
        assert_eq!(error.kind(), ErrorKind::Malformed, "{case}: {error}");
        assert!(error.message().contains(expected), "{case}: {error}");
    }
}

#[test]
fn a_json_bomb_ends_at_the_depth_limit() {
    let bomb = format!("{{\"a\":{}", "[".repeat(1 << 20));
    assert!(fails(&file(&bomb, &[])).message().contains("tensor a"));
    let bomb = format!("{{\"__metadata__\":{{\"a\":{}", "[".repeat(1 << 20));
    assert_eq!(fails(&file(&bomb, &[])).kind(), ErrorKind::Malformed);
}

#[test]
fn element_types_without_arithmetic_are_named() {
    let header = r#"{"model.x":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}"#;
    let error = fails(&file(header, &[0; 4]));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.message().contains("model.x is stored as F8_E4M3"),
        "{error}"
    );
    let header = r#"{"a":{"dtype":"Q7","shape":[4],"data_offsets":[0,4]}}"#;
    assert_eq!(fails(&file(header, &[0; 4])).kind(), ErrorKind::Malformed);
}

#[test]
fn metadata_of_other_types_is_passed_over() {
    let header = r#"{"__metadata__":{"a":1,"b":{"c":[]},"d":"e"}}"#;
    let (_, metadata) = parse(&file(header, &[])).unwrap();
    assert_eq!(metadata, BTreeMap::from([("d".to_owned(), "e".to_owned())]));
    assert!(parse(&file(r#"{"__metadata__":null}"#, &[])).is_ok());
}

/// Whatever a parsed header promises must lie within the bytes.
fn check(bytes: &[u8]) {
    if let Ok((tensors, _)) = parse(bytes) {
        for entry in tensors.values() {
            let size: usize = entry.shape.iter().product::<usize>() * entry.dtype.size_bytes();
            assert_eq!(bytes[entry.range.clone()].len(), size);
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&bytes);
    }

    #[test]
    fn arbitrary_headers_never_panic(header in "\\{\"[a-c_]{1,3}\":\\{\"dtype\":\"(F32|U8|BOOL|F8_E4M3)\",\"shape\":\\[[0-9,]{0,8}\\],\"data_offsets\":\\[[0-9]{1,3},[0-9]{1,20}\\]\\}\\}", data in prop::collection::vec(any::<u8>(), 0..64)) {
        check(&file(&header, &data));
    }

    #[test]
    fn mutated_files_never_panic(at in 0..200_usize, byte in any::<u8>(), cut in 0..400_usize) {
        let mut bytes = valid();
        let length = bytes.len();
        bytes[at % length] = byte;
        bytes.truncate(cut.max(1));
        check(&bytes);
    }
}

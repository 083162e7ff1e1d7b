//! Pickles in zips as `torch.save` writes them, and hostile ones.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

/// A tensor of a pickled state dict.
#[derive(Debug, Clone)]
pub struct PickleTensor {
    /// Its key.
    pub name: String,
    /// torch's storage class ("FloatStorage", "HalfStorage", "BFloat16Storage", "LongStorage").
    pub storage: &'static str,
    /// Extents, outermost first; the strides are row-major.
    pub shape: Vec<usize>,
    /// The elements, little endian.
    pub bytes: Vec<u8>,
}

impl PickleTensor {
    /// Number of elements.
    fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Writes `{"epoch": 3, "state_dict": {..}}` as torch's zip format, pickle protocol 2.
///
/// # Panics
/// When the file cannot be written.
pub fn write_archive(path: &Path, tensors: &[PickleTensor]) {
    let mut pickle = vec![0x80, 2, b'}', b'('];
    text(&mut pickle, "epoch");
    pickle.extend([b'K', 3]);
    text(&mut pickle, "state_dict");
    pickle.extend([b'}', b'(']);
    for (key, item) in tensors.iter().enumerate() {
        text(&mut pickle, &item.name);
        tensor(&mut pickle, key, item);
    }
    pickle.extend(b"uu.");
    let storages: Vec<&[u8]> = tensors.iter().map(|item| item.bytes.as_slice()).collect();
    write_zip(path, &pickle, &storages);
}

/// Writes an archive whose pickle calls `module.name(argument)` when a careless reader executes it.
///
/// # Panics
/// When the file cannot be written.
pub fn write_hostile(path: &Path, module: &str, name: &str, argument: &str) {
    let mut pickle = vec![0x80, 2];
    global(&mut pickle, module, name);
    text(&mut pickle, argument);
    pickle.extend([0x85, b'R', b'.']);
    write_zip(path, &pickle, &[]);
}

/// The zip around a pickle: stored, never compressed, everything below one folder.
fn write_zip(path: &Path, pickle: &[u8], storages: &[&[u8]]) {
    let fail = |e: &dyn std::fmt::Display| -> ! { panic!("{}: {e}", path.display()) };
    let file = File::create(path).unwrap_or_else(|e| fail(&e));
    let mut zip = ZipWriter::new(file);
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut entry = |name: String, content: &[u8]| {
        zip.start_file(name, stored).unwrap_or_else(|e| fail(&e));
        zip.write_all(content).unwrap_or_else(|e| fail(&e));
    };
    entry("archive/data.pkl".to_owned(), pickle);
    entry("archive/version".to_owned(), b"3\n");
    for (key, content) in storages.iter().enumerate() {
        entry(format!("archive/data/{key}"), content);
    }
    zip.finish().unwrap_or_else(|e| fail(&e));
}

/// `torch._utils._rebuild_tensor_v2(storage, 0, shape, stride, False, OrderedDict())`.
fn tensor(pickle: &mut Vec<u8>, key: usize, item: &PickleTensor) {
    global(pickle, "torch._utils", "_rebuild_tensor_v2");
    pickle.extend(b"((");
    text(pickle, "storage");
    global(pickle, "torch", item.storage);
    text(pickle, &key.to_string());
    text(pickle, "cpu");
    integer(pickle, item.count());
    pickle.extend(b"tQ");
    integer(pickle, 0);
    let mut strides = vec![1; item.shape.len()];
    for axis in (1..item.shape.len()).rev() {
        strides[axis - 1] = strides[axis] * item.shape[axis];
    }
    for numbers in [&item.shape, &strides] {
        pickle.push(b'(');
        for &number in numbers {
            integer(pickle, number);
        }
        pickle.push(b't');
    }
    pickle.push(0x89);
    global(pickle, "collections", "OrderedDict");
    pickle.extend(b")RtR");
}

/// GLOBAL.
fn global(pickle: &mut Vec<u8>, module: &str, name: &str) {
    pickle.extend(format!("c{module}\n{name}\n").bytes());
}

/// BINUNICODE.
fn text(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(b'X');
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.bytes());
}

/// BININT1, BININT2 or BININT.
fn integer(pickle: &mut Vec<u8>, number: usize) {
    match number {
        0..=0xFF => pickle.extend([b'K', number as u8]),
        0x100..=0xFFFF => {
            pickle.push(b'M');
            pickle.extend((number as u16).to_le_bytes());
        }
        _ => {
            pickle.push(b'J');
            pickle.extend((number as i32).to_le_bytes());
        }
    }
}

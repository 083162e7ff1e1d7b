//! The pickle machine, reduced to what tensors need.
//!
//! Opcodes and their arguments follow CPython's `Lib/pickletools.py`, protocols 0 to 5. Where Python would
//! import and call, this machine consults the [allow-list](super::symbol). Every loop consumes input, every
//! length is checked against the input before anything is reserved, and objects are counted.

use std::collections::HashMap;

use super::symbol::{self, Symbol};
use super::value::{self, Object, Storage, Tensor, Unpickled, Value};
use crate::error::{Error, ErrorKind, Result};

/// Longest pickle that is read. The structure of SDXL, without its elements, takes 0.4 MB.
const MAX_BYTES: usize = 8 << 20;

/// Most objects a pickle may build. SDXL takes some 20,000.
const MAX_OBJECTS: usize = 1 << 20;

/// Most dimensions of a tensor.
const MAX_DIMENSIONS: usize = 16;

/// Longest name of a module or class that is repeated in an error.
const MAX_NAME: usize = 200;

/// Runs the pickle at the beginning of `bytes`.
///
/// # Errors
/// [`ErrorKind::UnsafeFile`] when it asks for a name that is not allowed, [`ErrorKind::Malformed`] when it
/// is no pickle, is cut off, or exceeds the limits.
pub(super) fn run(bytes: &[u8]) -> Result<Unpickled<'_>> {
    let mut machine = Machine {
        bytes: &bytes[..bytes.len().min(MAX_BYTES)],
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        objects: Vec::new(),
    };
    while machine.step()? {}
    let root = machine.pop()?;
    Ok(Unpickled {
        bytes,
        root,
        end: machine.at,
        objects: machine.objects,
    })
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    objects: Vec<Object>,
}

impl<'a> Machine<'a> {
    /// Executes one opcode; `false` after the last.
    fn step(&mut self) -> Result<bool> {
        let opcode = self.byte()?;
        match opcode {
            b'.' => return Ok(false),
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.stack.push(Value::None),
            b')' | b']' | 0x8f => self.push_object(Object::Sequence(Vec::new()))?,
            b'}' => self.push_object(Object::Mapping(Vec::new()))?,
            b't' | b'l' | 0x91 => {
                let items = self.pop_mark()?;
                self.push_object(Object::Sequence(items))?;
            }
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(opcode) - 0x84)?;
                self.push_object(Object::Sequence(items))?;
            }
            b'd' => {
                let items = self.pop_mark()?;
                self.push_object(Object::Mapping(Vec::new()))?;
                self.set_items(&items)?;
            }
            b'a' => {
                let items = self.pop_many(1)?;
                self.append(&items)?;
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.append(&items)?;
            }
            b's' => {
                let items = self.pop_many(2)?;
                self.set_items(&items)?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(&items)?;
            }
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_mark()?;
            }
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            0x80 => {
                self.take(1)?;
            }
            0x95 => {
                self.take(8)?;
            }
            _ => return self.step_scalar(opcode).map(|()| true),
        }
        Ok(true)
    }

    /// Numbers, texts and bytes.
    fn step_scalar(&mut self, opcode: u8) -> Result<()> {
        let value = match opcode {
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Value::Int(i64::from(self.unsigned(4)? as u32 as i32)),
            b'K' => Value::Int(self.unsigned(1)? as i64),
            b'M' => Value::Int(self.unsigned(2)? as i64),
            b'I' | b'L' => integer_of_line(self.line()?),
            0x8a => {
                let length = self.unsigned(1)? as usize;
                integer_of_bytes(self.take(length)?)
            }
            0x8b => {
                let length = self.length(4)?;
                integer_of_bytes(self.take(length)?)
            }
            b'G' => {
                self.take(8)?;
                Value::Opaque
            }
            b'F' => {
                self.line()?;
                Value::Opaque
            }
            b'X' | b'T' => self.sized_text(4)?,
            0x8c | b'U' => self.sized_text(1)?,
            0x8d => self.sized_text(8)?,
            b'S' | b'V' => self.line_text(opcode)?,
            b'B' => self.sized_bytes(4)?,
            b'C' => self.sized_bytes(1)?,
            0x8e | 0x96 => self.sized_bytes(8)?,
            _ => return self.step_memo_or_name(opcode),
        };
        self.stack.push(value);
        Ok(())
    }

    /// The memo, names, calls and storages.
    fn step_memo_or_name(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            b'q' => {
                let index = self.unsigned(1)? as u32;
                self.put(index)
            }
            b'r' => {
                let index = self.unsigned(4)? as u32;
                self.put(index)
            }
            b'p' => {
                let index = self.memo_index_of_line()?;
                self.put(index)
            }
            0x94 => self.put(self.memo.len() as u32),
            b'h' => {
                let index = self.unsigned(1)? as u32;
                self.get(index)
            }
            b'j' => {
                let index = self.unsigned(4)? as u32;
                self.get(index)
            }
            b'g' => {
                let index = self.memo_index_of_line()?;
                self.get(index)
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push_symbol(module, name)
            }
            0x93 => {
                let names = self.pop_many(2)?;
                let text = |value| value::text(self.bytes, value).map(str::as_bytes);
                match (text(names[0]), text(names[1])) {
                    (Some(module), Some(name)) => self.push_symbol(module, name),
                    _ => Err(self.malformed("a name that is no text")),
                }
            }
            b'R' | 0x81 => {
                let parts = self.pop_many(2)?;
                self.call(parts[0], parts[1])
            }
            0x92 => {
                let parts = self.pop_many(3)?;
                self.call(parts[0], parts[1])
            }
            b'b' => self.pop_many(1).map(|_| ()),
            b'Q' => {
                let id = self.pop()?;
                self.push_storage(id)
            }
            other => Err(self.malformed(&format!("the opcode 0x{other:02x}"))),
        }
    }

    // --- input ---

    fn malformed(&self, what: &str) -> Error {
        Error::malformed(format!(
            "the pickle holds {what} at byte {}, expected the structure of a checkpoint",
            self.at
        ))
        .with_hint("the file is damaged or is no PyTorch checkpoint; fetch it anew")
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let Some(taken) = rest.get(..count) else {
            return Err(Error::malformed(format!(
                "the pickle ends at byte {} in the middle of a value of {count} bytes, expected it to end within {MAX_BYTES}",
                self.bytes.len()
            ))
            .with_hint("the file is damaged or incomplete; fetch it anew"));
        };
        self.at += count;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// A little-endian number of up to eight bytes.
    fn unsigned(&mut self, bytes: usize) -> Result<u64> {
        let taken = self.take(bytes)?;
        Ok(taken
            .iter()
            .rev()
            .fold(0, |number, &byte| (number << 8) | u64::from(byte)))
    }

    /// A length, checked against what is left before it is used.
    fn length(&mut self, bytes: usize) -> Result<usize> {
        let length = self.unsigned(bytes)?;
        let left = self.bytes.len() - self.at;
        if length > left as u64 {
            return Err(self.malformed(&format!("a length of {length} with {left} bytes left")));
        }
        Ok(length as usize)
    }

    fn line(&mut self) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
            return Err(self.malformed("a line without end"));
        };
        self.at += end + 1;
        Ok(&rest[..end])
    }

    fn sized_text(&mut self, bytes: usize) -> Result<Value> {
        let length = self.length(bytes)?;
        let start = self.at;
        let taken = self.take(length)?;
        Ok(match std::str::from_utf8(taken) {
            Ok(_) => Value::Text(start as u32, length as u32),
            Err(_) => Value::Opaque,
        })
    }

    fn sized_bytes(&mut self, bytes: usize) -> Result<Value> {
        let length = self.length(bytes)?;
        self.take(length)?;
        Ok(Value::Opaque)
    }

    /// Text in a line, quoted in the older opcode; escapes are not resolved, no tensor's name has any.
    fn line_text(&mut self, opcode: u8) -> Result<Value> {
        let start = self.at;
        let line = self.line()?;
        let quotes = usize::from(opcode == b'S');
        if line.len() < 2 * quotes || std::str::from_utf8(line).is_err() {
            return Err(self.malformed("a line that is no text"));
        }
        Ok(Value::Text(
            (start + quotes) as u32,
            (line.len() - 2 * quotes) as u32,
        ))
    }

    // --- stack and memo ---

    fn top(&self) -> Result<Value> {
        match self.stack.last() {
            Some(&value) if self.stack.len() > self.floor() => Ok(value),
            _ => Err(self.malformed("an operation without its operands")),
        }
    }

    /// Values below the innermost mark are out of reach.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value> {
        let value = self.top()?;
        self.stack.pop();
        Ok(value)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value>> {
        if self.stack.len() < self.floor() + count {
            return Err(self.malformed("an operation without its operands"));
        }
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>> {
        match self.marks.pop() {
            Some(mark) => Ok(self.stack.split_off(mark)),
            None => Err(self.malformed("the end of a group that never began")),
        }
    }

    fn push_object(&mut self, object: Object) -> Result<()> {
        if self.objects.len() >= MAX_OBJECTS {
            return Err(self.malformed(&format!("more than {MAX_OBJECTS} objects")));
        }
        self.stack.push(Value::Object(self.objects.len() as u32));
        self.objects.push(object);
        Ok(())
    }

    fn put(&mut self, index: u32) -> Result<()> {
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn get(&mut self, index: u32) -> Result<()> {
        let Some(&value) = self.memo.get(&index) else {
            return Err(self.malformed(&format!("a reference to {index}, which was never stored")));
        };
        self.stack.push(value);
        Ok(())
    }

    fn memo_index_of_line(&mut self) -> Result<u32> {
        let line = self.line()?;
        let index = std::str::from_utf8(line)
            .ok()
            .and_then(|text| text.parse().ok());
        index.ok_or_else(|| self.malformed("a reference that is no number"))
    }

    // --- containers ---

    fn append(&mut self, items: &[Value]) -> Result<()> {
        match self.top()? {
            Value::Object(index) => match self.objects.get_mut(index as usize) {
                Some(Object::Sequence(sequence)) => sequence.extend(items),
                _ => return Err(self.malformed("items for something that is no list")),
            },
            Value::Opaque => {}
            _ => return Err(self.malformed("items for something that is no list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Value]) -> Result<()> {
        if !items.len().is_multiple_of(2) {
            return Err(self.malformed("a key without value"));
        }
        let pairs = items.chunks_exact(2).map(|pair| (pair[0], pair[1]));
        match self.top()? {
            Value::Object(index) => match self.objects.get_mut(index as usize) {
                Some(Object::Mapping(entries)) => entries.extend(pairs),
                _ => return Err(self.malformed("entries for something that is no mapping")),
            },
            Value::Opaque => {}
            _ => return Err(self.malformed("entries for something that is no mapping")),
        }
        Ok(())
    }

    fn sequence(&self, value: Value) -> Option<&[Value]> {
        match value::object(&self.objects, value)? {
            Object::Sequence(items) => Some(items),
            _ => None,
        }
    }

    // --- names and calls ---

    fn push_symbol(&mut self, module: &[u8], name: &[u8]) -> Result<()> {
        let allowed = std::str::from_utf8(module)
            .ok()
            .zip(std::str::from_utf8(name).ok())
            .and_then(|(module, name)| symbol::lookup(module, name));
        let Some(symbol) = allowed else {
            return Err(Error::new(
                ErrorKind::UnsafeFile,
                format!(
                    "the pickle asks for {}.{}, which is not among the names that build tensors; nothing was executed",
                    printable(module),
                    printable(name)
                ),
            )
            .with_hint("use a .safetensors version of this model; if you trust the file's author, convert it in an isolated PyTorch"));
        };
        self.stack.push(Value::Symbol(symbol));
        Ok(())
    }

    fn call(&mut self, callee: Value, arguments: Value) -> Result<()> {
        let Some(arguments) = self.sequence(arguments).map(<[Value]>::to_vec) else {
            return Err(self.malformed("a call without a list of arguments"));
        };
        match callee {
            Value::Symbol(Symbol::Tensor) => self.push_tensor(&arguments),
            Value::Symbol(Symbol::Parameter | Symbol::Extents) if !arguments.is_empty() => {
                self.stack.push(arguments[0]);
                Ok(())
            }
            Value::Symbol(Symbol::Mapping) => self.push_mapping(arguments.first().copied()),
            Value::Symbol(Symbol::Inert) | Value::Opaque => {
                self.stack.push(Value::Opaque);
                Ok(())
            }
            _ => Err(self.malformed("a call of something that cannot be called")),
        }
    }

    /// A mapping, from a list of pairs where one is given.
    fn push_mapping(&mut self, pairs: Option<Value>) -> Result<()> {
        let mut entries = Vec::new();
        for &pair in pairs
            .and_then(|pairs| self.sequence(pairs))
            .unwrap_or_default()
        {
            match self.sequence(pair) {
                Some(&[key, value]) => entries.push((key, value)),
                _ => return Err(self.malformed("an entry that is no pair")),
            }
        }
        self.push_object(Object::Mapping(entries))
    }

    /// A tensor from `(storage, offset, shape, strides, ..)`.
    fn push_tensor(&mut self, arguments: &[Value]) -> Result<()> {
        let [
            Value::Object(storage),
            Value::Int(offset),
            shape,
            strides,
            ..,
        ] = *arguments
        else {
            return Err(self.malformed("a tensor without storage, offset, shape and strides"));
        };
        if !matches!(self.objects.get(storage as usize), Some(Object::Storage(_))) {
            return Err(self.malformed("a tensor over something that is no storage"));
        }
        let (Some(shape), Some(strides)) = (self.extents(shape), self.extents(strides)) else {
            return Err(self.malformed("a tensor whose shape or strides are not numbers"));
        };
        let offset = usize::try_from(offset).ok();
        let Some(offset) = offset.filter(|_| shape.len() == strides.len()) else {
            return Err(self.malformed("a tensor whose offset or strides do not fit its shape"));
        };
        self.push_object(Object::Tensor(Tensor {
            storage,
            offset,
            shape,
            strides,
        }))
    }

    fn extents(&self, value: Value) -> Option<Vec<usize>> {
        let items = self.sequence(value)?;
        if items.len() > MAX_DIMENSIONS {
            return None;
        }
        items
            .iter()
            .map(|item| match item {
                Value::Int(extent) => usize::try_from(*extent).ok(),
                _ => None,
            })
            .collect()
    }

    /// A storage from its persistent id, `("storage", kind, key, location, count)`.
    fn push_storage(&mut self, id: Value) -> Result<()> {
        let parts = match self.sequence(id) {
            Some([tag, kind, key, _location, Value::Int(count), rest @ ..])
                if value::text(self.bytes, *tag) == Some("storage")
                    && rest.iter().all(|part| *part == Value::None) =>
            {
                (*kind, *key, *count)
            }
            _ => return Err(self.malformed("a reference to something that is no whole storage")),
        };
        let (kind, key, count) = parts;
        let dtype = match kind {
            Value::Symbol(Symbol::Storage(dtype)) => Ok(dtype),
            Value::Symbol(Symbol::OtherStorage(what, size)) => Err((what, size)),
            _ => return Err(self.malformed("a storage of no known kind")),
        };
        let (Some(key), Ok(count)) = (value::text(self.bytes, key), usize::try_from(count)) else {
            return Err(self.malformed("a storage without key or length"));
        };
        let key = key.to_owned();
        self.push_object(Object::Storage(Storage { key, dtype, count }))
    }
}

/// An integer written in decimals; the older protocol writes truth values so too.
fn integer_of_line(line: &[u8]) -> Value {
    let text = std::str::from_utf8(line).unwrap_or_default();
    match text {
        "00" => Value::Bool(false),
        "01" => Value::Bool(true),
        _ => text
            .trim_end_matches('L')
            .parse()
            .map_or(Value::Opaque, Value::Int),
    }
}

/// A little-endian two's complement integer; those beyond 64 bits have no use here.
fn integer_of_bytes(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Opaque;
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut padded = [if negative { 0xff } else { 0 }; 8];
    padded[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(padded))
}

/// A name from a file, safe to print.
fn printable(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(&name[..name.len().min(MAX_NAME)]);
    text.escape_debug().to_string()
}

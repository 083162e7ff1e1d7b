//! The fingerprint by which pictures name the file they were made with.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Hexadecimal digits of the webui's "Model hash".
const DIGITS: usize = 10;

/// The first digits of the SHA-256 of a file's bytes, as the webui's "Model hash" and CivitAI's "AutoV2"
/// have them. Reads the whole file.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn short_sha256(path: &Path) -> Result<String> {
    let fault = |error| Error::io(path, error);
    let mut file = File::open(path).map_err(fault)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(fault)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    let digest = hash.finalize();
    let mut digits = String::with_capacity(2 * digest.len());
    for byte in digest {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits.truncate(DIGITS);
    Ok(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_published_vector() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, b"abc").unwrap();
        // FIPS 180-2, appendix B.1.
        assert_eq!(short_sha256(&path).unwrap(), "ba7816bf8f");
        assert!(short_sha256(&dir.path().join("none")).is_err());
    }
}

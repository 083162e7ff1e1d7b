//! Picture files of the kinds that carry `parameters`, told apart by their first bytes.

use std::fmt;
use std::io::Cursor;
use std::path::Path;

use image::{ImageDecoder, ImageFormat, ImageReader, RgbImage};

use super::comfy;
use super::exif::user_comment;
use super::{NotHonoured, PARAMETERS_KEYWORD, Parameters, Recording, read_png_text};
use crate::error::{Context, Error, Result};

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// Kind of a picture file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PictureFormat {
    /// PNG: `parameters` are a text chunk, and pixels are kept.
    Png,
    /// JPEG: `parameters` are the user comment of its EXIF block, and pixels are changed a little.
    Jpeg,
    /// WebP: as JPEG; pixels are kept or not.
    WebP,
}

impl PictureFormat {
    /// The kind of a file by its first bytes, 12 at least; `None` for all others.
    pub fn of(start: &[u8]) -> Option<Self> {
        match start {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some(Self::Png),
            [0xFF, 0xD8, 0xFF, ..] => Some(Self::Jpeg),
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'E',
                b'B',
                b'P',
                ..,
            ] => Some(Self::WebP),
            _ => None,
        }
    }

    fn decoder(self) -> ImageFormat {
        match self {
            Self::Png => ImageFormat::Png,
            Self::Jpeg => ImageFormat::Jpeg,
            Self::WebP => ImageFormat::WebP,
        }
    }
}

impl fmt::Display for PictureFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
        })
    }
}

/// A picture file taken apart.
#[derive(Debug, Clone)]
pub struct PictureFile {
    /// Its kind.
    pub format: PictureFormat,
    /// Its pixels; transparency is dropped.
    pub pixels: RgbImage,
    /// What it says it was made with.
    pub parameters: Option<Parameters>,
    /// What ComfyUI's graph says beyond that.
    pub unmapped: Vec<NotHonoured>,
}

/// Reads what a PNG, JPEG or WebP file says it was made with; `None` when it says nothing. A webui's text goes before
/// ComfyUI's graph.
///
/// # Errors
/// When the file cannot be read or is none of them, or its graph is damaged.
pub fn read_recording(path: &Path) -> Result<Option<Recording>> {
    let bytes = read_file(path)?;
    let format = format_of(path, &bytes)?;
    recording_of(format, &bytes).context(path.display())
}

/// Reads the parameters of [`read_recording`] alone.
///
/// # Errors
/// As there.
pub fn read_parameters(path: &Path) -> Result<Option<Parameters>> {
    Ok(read_recording(path)?.map(|recording| recording.parameters))
}

/// Reads a PNG, JPEG or WebP file, pixels and all.
///
/// # Errors
/// When the file cannot be read, is none of them, is damaged, or has more pixels than memory.
pub fn read_picture(path: &Path) -> Result<PictureFile> {
    let bytes = read_file(path)?;
    let format = format_of(path, &bytes)?;
    let recording = recording_of(format, &bytes).context(path.display())?;
    let pixels = ImageReader::with_format(Cursor::new(&bytes), format.decoder())
        .decode()
        .map_err(|e| unreadable(format, e).context(path.display()))?;
    let (parameters, unmapped) = match recording {
        Some(recording) => (Some(recording.parameters), recording.unmapped),
        None => (None, Vec::new()),
    };
    Ok(PictureFile {
        format,
        pixels: pixels.into_rgb8(),
        parameters,
        unmapped,
    })
}

fn recording_of(format: PictureFormat, bytes: &[u8]) -> Result<Option<Recording>> {
    let text = match format {
        PictureFormat::Png => {
            let texts = read_png_text(bytes)?;
            let mut own = texts.iter();
            match own.find(|(keyword, _)| keyword == PARAMETERS_KEYWORD) {
                Some((_, text)) => Some(text.clone()),
                None => return comfy::recording(&texts),
            }
        }
        PictureFormat::Jpeg | PictureFormat::WebP => {
            let block = ImageReader::with_format(Cursor::new(bytes), format.decoder())
                .into_decoder()
                .and_then(|mut decoder| decoder.exif_metadata())
                .map_err(|e| unreadable(format, e))?;
            block.as_deref().and_then(user_comment)
        }
    };
    Ok(text.map(|text| Recording {
        parameters: Parameters::parse(&text),
        unmapped: Vec::new(),
    }))
}

fn unreadable(format: PictureFormat, error: image::ImageError) -> Error {
    Error::malformed(format!("not a readable {format}: {error}")).with_source(error)
}

fn format_of(path: &Path, bytes: &[u8]) -> Result<PictureFormat> {
    PictureFormat::of(bytes).ok_or_else(|| {
        Error::malformed(format!(
            "{}: found another kind of file, expected a PNG, JPEG or WebP picture",
            path.display()
        ))
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    let facts = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if !facts.is_file() {
        return Err(Error::malformed(format!(
            "{}: found a folder or device, expected a picture file",
            path.display()
        )));
    }
    if facts.len() > MAX_FILE_BYTES {
        return Err(Error::malformed(format!(
            "{}: {} bytes, expected a picture of at most {MAX_FILE_BYTES}",
            path.display(),
            facts.len()
        )));
    }
    std::fs::read(path).map_err(|e| Error::io(path, e))
}

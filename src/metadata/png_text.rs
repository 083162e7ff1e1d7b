//! PNG files with texts in them.
//!
//! Writing follows PIL's `PngInfo.add_text`, which diffusers' and the webui's users know: `tEXt` where the text
//! is Latin-1, `iTXt` (UTF-8) otherwise. Reading is capped on every side: a text chunk of a kilobyte can inflate
//! to a gigabyte.

use std::io::Cursor;

use image::RgbImage;
use png::{BitDepth, ColorType, Decoder, Encoder, Limits};

use super::Parameters;
use crate::error::{Error, ErrorKind, Result};

/// Keyword under which the webui and its kin keep [`Parameters`].
pub const PARAMETERS_KEYWORD: &str = "parameters";

/// What the decoder may hold of a file's chunks beside the picture.
const MAX_CHUNK_BYTES: usize = 64 << 20;
/// What the texts of a file may take together once inflated.
const MAX_TEXT_BYTES: usize = 16 << 20;

/// Encodes an 8-bit RGB PNG, with its `parameters` text when given.
///
/// # Errors
/// When the picture has no pixels.
pub fn write_png(picture: &RgbImage, parameters: Option<&Parameters>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    encode(&mut bytes, picture, parameters).map_err(|e| {
        Error::new(
            ErrorKind::InvalidConfig,
            format!(
                "a picture of {}x{} pixels cannot be written as PNG: {e}",
                picture.width(),
                picture.height()
            ),
        )
        .with_source(e)
    })?;
    Ok(bytes)
}

fn encode(
    bytes: &mut Vec<u8>,
    picture: &RgbImage,
    parameters: Option<&Parameters>,
) -> std::result::Result<(), png::EncodingError> {
    let mut encoder = Encoder::new(bytes, picture.width(), picture.height());
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    if let Some(parameters) = parameters {
        let keyword = PARAMETERS_KEYWORD.to_owned();
        let text = parameters.to_text();
        // Code points below 256 are Latin-1's.
        if text.chars().all(|char| u32::from(char) < 256) {
            encoder.add_text_chunk(keyword, text)?;
        } else {
            encoder.add_itxt_chunk(keyword, text)?;
        }
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(picture.as_raw())?;
    writer.finish()
}

/// Reads the texts of a PNG, keyword and text: first all `tEXt`, then `zTXt`, then `iTXt`.
///
/// Texts that are damaged or inflate beyond 16 MiB are left out, and the picture itself need not be whole.
///
/// # Errors
/// When the bytes are not a PNG or break off before the picture.
pub fn read_png_text(bytes: &[u8]) -> Result<Vec<(String, String)>> {
    let limits = Limits {
        bytes: MAX_CHUNK_BYTES,
    };
    let decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
    let mut reader = decoder
        .read_info()
        .map_err(|e| Error::malformed(format!("not a readable PNG: {e}")).with_source(e))?;
    // Texts may also follow the picture; a picture cut short has lost only those.
    let _ = reader.finish();
    let info = reader.info();
    let mut texts = Texts {
        kept: Vec::new(),
        room_bytes: MAX_TEXT_BYTES,
    };
    for chunk in &info.uncompressed_latin1_text {
        texts.keep(&chunk.keyword, Ok(chunk.text.clone()));
    }
    for chunk in &info.compressed_latin1_text {
        let mut chunk = chunk.clone();
        let inflated = chunk.decompress_text_with_limit(texts.room_bytes);
        texts.keep(&chunk.keyword, inflated.and_then(|()| chunk.get_text()));
    }
    for chunk in &info.utf8_text {
        let mut chunk = chunk.clone();
        let inflated = chunk.decompress_text_with_limit(texts.room_bytes);
        texts.keep(&chunk.keyword, inflated.and_then(|()| chunk.get_text()));
    }
    Ok(texts.kept)
}

/// The texts read so far and how much more is taken.
struct Texts {
    kept: Vec<(String, String)>,
    room_bytes: usize,
}

impl Texts {
    fn keep(&mut self, keyword: &str, text: std::result::Result<String, png::DecodingError>) {
        if let Some(text) = text.ok().filter(|text| text.len() <= self.room_bytes) {
            self.room_bytes -= text.len();
            self.kept.push((keyword.to_owned(), text));
        }
    }
}

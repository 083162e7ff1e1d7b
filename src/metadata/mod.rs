//! What a picture file says about its making, and writing it without leaving half a file.
//!
//! The text is the webui's `parameters` format (AUTOMATIC1111 stable-diffusion-webui,
//! `modules/infotext_utils.py`), which the tools around Stable Diffusion read and write; [`Parameters`] is that
//! text taken apart. PNG carries it in a `tEXt` or `iTXt` chunk, JPEG and WebP in the user comment of their EXIF block.
//! Where a PNG has ComfyUI's graph instead, that is read as far as the text can say the same.

mod comfy;
mod difference;
mod exif;
mod infotext;
mod output;
mod parameters;
mod picture_file;
mod png_text;
mod recording;

#[cfg(test)]
mod tests;

pub use difference::PictureDifference;
pub use output::{check_writable, write_atomically};
pub use parameters::Parameters;
pub use picture_file::{PictureFile, PictureFormat, read_parameters, read_picture, read_recording};
pub use png_text::{PARAMETERS_KEYWORD, read_png_text, write_png};
pub use recording::{NotHonoured, Recording};

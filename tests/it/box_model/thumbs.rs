//! The motifs the model was taught, as small pictures.

use std::path::Path;

use image::DynamicImage;
use serde_json::Value;

/// All motifs in both styles.
pub(super) struct Thumbs {
    tiles: Vec<Tile>,
}

/// One motif in one style.
pub(super) struct Tile {
    /// What it shows ("cat").
    pub(super) motif: String,
    /// How ("3d", "flat").
    pub(super) style: String,
    /// 64x64 RGB, 0 to 255.
    pixels: Vec<f32>,
}

/// Pixels along a side of a tile.
const SIDE: usize = 64;

impl Thumbs {
    pub(super) fn read() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/box");
        let sheet = image::open(folder.join("thumbs.png")).unwrap().to_rgb8();
        let text = std::fs::read(folder.join("thumbs.json")).unwrap();
        let facts: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(facts["side"], SIDE);
        let columns = facts["columns"].as_u64().unwrap() as usize;
        let tiles = facts["tiles"].as_array().unwrap().iter().enumerate();
        let tiles = tiles
            .map(|(index, facts)| {
                let (x, y) = (index % columns * SIDE, index / columns * SIDE);
                let side = SIDE as u32;
                let tile = image::imageops::crop_imm(&sheet, x as u32, y as u32, side, side);
                let pixels = tile.to_image().into_raw();
                Tile {
                    motif: facts["motif"].as_str().unwrap().to_owned(),
                    style: facts["style"].as_str().unwrap().to_owned(),
                    pixels: pixels.into_iter().map(f32::from).collect(),
                }
            })
            .collect();
        Self { tiles }
    }

    /// The tile with the least sum of squared differences to `picture`, which is 512x512.
    pub(super) fn nearest(&self, picture: &DynamicImage) -> &Tile {
        let small = reduced(picture);
        let distance = |tile: &Tile| -> f32 {
            let pairs = tile.pixels.iter().zip(&small);
            pairs.map(|(a, b)| (a - b).powi(2)).sum()
        };
        let by_distance = |a: &&Tile, b: &&Tile| distance(a).total_cmp(&distance(b));
        self.tiles.iter().min_by(by_distance).unwrap()
    }

    /// The tile of `motif` in `style` as a picture of 512x512.
    pub(super) fn enlarged(&self, motif: &str, style: &str) -> DynamicImage {
        let tile = self
            .tiles
            .iter()
            .find(|tile| tile.motif == motif && tile.style == style)
            .unwrap();
        let bytes = tile.pixels.iter().map(|&value| value as u8).collect();
        let side = SIDE as u32;
        let tile = image::RgbImage::from_raw(side, side, bytes).unwrap();
        let filter = image::imageops::FilterType::CatmullRom;
        DynamicImage::ImageRgb8(tile).resize_exact(512, 512, filter)
    }
}

/// The means of squares of 8x8 pixels.
fn reduced(picture: &DynamicImage) -> Vec<f32> {
    assert_eq!((picture.width(), picture.height()), (512, 512));
    let mut small = vec![0.0; SIDE * SIDE * 3];
    for (x, y, pixel) in picture.to_rgb8().enumerate_pixels() {
        let at = (y as usize / 8 * SIDE + x as usize / 8) * 3;
        for (sum, &value) in small[at..at + 3].iter_mut().zip(&pixel.0) {
            *sum += f32::from(value) / 64.0;
        }
    }
    small
}

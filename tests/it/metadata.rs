//! Picture files as other programs see them.

use image::RgbImage;
use tintype::metadata::{Parameters, check_writable, read_parameters, write_atomically, write_png};

#[test]
fn picture_and_its_making_survive_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cat.png");
    let picture = RgbImage::from_fn(64, 40, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8]));
    let mut parameters = Parameters::new("a photo of a cat,\n猫", "blurry");
    parameters
        .set("Steps", 20)
        .set("Sampler", "Euler a")
        .set("CFG scale", 7.5)
        .set("Seed", u64::MAX)
        .set("Size", "64x40");
    check_writable(&path).unwrap();
    assert!(!path.exists());
    write_atomically(&path, &write_png(&picture, Some(&parameters)).unwrap()).unwrap();

    assert_eq!(image::open(&path).unwrap().to_rgb8(), picture);
    let read = read_parameters(&path).unwrap().unwrap();
    assert_eq!(read, parameters);
    assert_eq!(read.seed(), Some(u64::MAX));
    assert_eq!(read.cfg_scale(), Some(7.5));
    assert_eq!(read.size(), Some((64, 40)));
}

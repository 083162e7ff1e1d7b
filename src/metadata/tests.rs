use image::RgbImage;
use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;

const WEBUI: &str = "masterpiece, a (cat:1.2)\non a mat\n\
    Negative prompt: blurry,\nlow quality\n\
    Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 42, Size: 512x768, \
    Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, Denoising strength: 0.7, Clip skip: 2, RNG: CPU, \
    Lora hashes: \"a: 1234abcd5678, b: 0\", Version: v1.10.1";

#[test]
fn reads_and_rewrites_the_webuis_text() {
    let parameters = Parameters::parse(WEBUI);
    assert_eq!(parameters.prompt, "masterpiece, a (cat:1.2)\non a mat");
    assert_eq!(parameters.negative_prompt, "blurry,\nlow quality");
    assert_eq!(parameters.steps(), Some(20));
    assert_eq!(parameters.sampler(), Some("DPM++ 2M"));
    assert_eq!(parameters.schedule_type(), "Karras");
    assert_eq!(parameters.cfg_scale(), Some(7.0));
    assert_eq!(parameters.seed(), Some(42));
    assert_eq!(parameters.size(), Some((512, 768)));
    assert_eq!(parameters.get("Size-1"), Some("512"));
    assert_eq!(parameters.get("Size-2"), Some("768"));
    assert_eq!(parameters.get("Size"), Some("512x768"));
    assert_eq!(parameters.model_hash(), Some("6ce0161689"));
    assert_eq!(parameters.model(), Some("v1-5-pruned-emaonly"));
    assert_eq!(parameters.clip_skip(), 2);
    assert_eq!(parameters.rng(), "CPU");
    assert_eq!(parameters.get("Lora hashes"), Some("a: 1234abcd5678, b: 0"));
    assert_eq!(parameters.to_text(), WEBUI);
}

#[test]
fn missing_settings_have_the_webuis_meaning() {
    let parameters = Parameters::parse("a cat\nSteps: 1, Seed: 2, Size: big");
    assert_eq!(parameters.prompt, "a cat");
    assert_eq!(parameters.clip_skip(), 1);
    assert_eq!(parameters.rng(), "GPU");
    assert_eq!(parameters.schedule_type(), "Automatic");
    assert_eq!(parameters.size(), None);
    assert_eq!(parameters.model(), None);
}

#[test]
fn fewer_than_three_settings_are_prompt() {
    let text = "a cat\nSteps: 20, Seed: 1";
    let parameters = Parameters::parse(text);
    assert_eq!(parameters.prompt, text);
    assert!(parameters.settings.is_empty());
    let parameters = Parameters::parse("a cat\nSteps: 20, Seed: 1, Sampler: Euler");
    assert_eq!(parameters.prompt, "a cat");
    assert_eq!(parameters.settings.len(), 3);
}

#[test]
fn settings_take_the_webuis_order() {
    let mut parameters = Parameters::new("", "");
    for key in [
        "Version",
        "Mine",
        "Seed",
        "Size",
        "CFG scale",
        "Sampler",
        "Steps",
        "Clip skip",
    ] {
        parameters.set(key, 1);
    }
    parameters.set("Seed", 7).set("Theirs", 2);
    assert_eq!(
        parameters.to_text(),
        "Steps: 1, Sampler: 1, CFG scale: 1, Seed: 7, Size: 1, Clip skip: 1, Mine: 1, Theirs: 2, Version: 1"
    );
}

#[test]
fn odd_values_are_quoted_and_read_back() {
    let mut parameters = Parameters::new("p", "");
    let values = [
        "a,b", "a: b", "a\nb", "\"q\"", " blank ", "\\", "t\tu", "ü, 画", "\u{1}", "\"", "x\"y",
    ];
    for (index, value) in values.iter().enumerate() {
        parameters.set(&format!("Key {index}"), value);
    }
    parameters.set("No, key", "left out").set("Empty", "");
    let back = Parameters::parse(&parameters.to_text());
    assert_eq!(back.settings.len(), values.len());
    for (index, value) in values.iter().enumerate() {
        assert_eq!(back.get(&format!("Key {index}")), Some(*value));
    }
}

#[test]
fn damaged_quotes_stay_as_they_are() {
    let parameters = Parameters::parse("p\nSteps: 1, A1: \"a\\q\", B1: \"open, C1: 3");
    assert_eq!(parameters.get("A1"), Some("\"a\\q\""));
    assert_eq!(parameters.get("B1"), Some("\"open"));
    assert_eq!(parameters.get("C1"), Some("3"));
}

fn settings() -> impl Strategy<Value = Vec<(String, String)>> {
    let key = "[A-Za-z0-9_][A-Za-z0-9_/ -]{0,10}[A-Za-z0-9_]";
    let value = prop_oneof!["[0-9a-z]{1,8}", "\\PC{1,12}", "(?s).{1,12}"];
    proptest::collection::vec((key, value), 3..8)
}

/// Lines as the format can hold them: no white space at the ends, no "Negative prompt:" in front.
fn prompt() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        4 => "[^\n]{0,30}",
        1 => Just("Steps: 20, Sampler: Euler, Seed: 1, Size: 8x8".to_owned()),
        1 => Just("see the Negative prompt: below".to_owned()),
    ];
    proptest::collection::vec(line, 0..4).prop_filter_map("ambiguous", |lines| {
        let lines: Vec<&str> = lines
            .iter()
            .map(|line| line.trim())
            .skip_while(|line| line.is_empty())
            .collect();
        lines
            .iter()
            .all(|line| !line.starts_with("Negative prompt:"))
            .then(|| lines.join("\n"))
    })
}

proptest! {
    #[test]
    fn printing_and_parsing_is_the_identity(
        prompt in prompt(),
        negative in prompt(),
        settings in settings(),
    ) {
        let mut parameters = Parameters::new(prompt, negative);
        for (key, value) in &settings {
            parameters.set(key, value);
        }
        prop_assume!(parameters.settings.len() >= 3);
        prop_assert_eq!(Parameters::parse(&parameters.to_text()), parameters);
    }

    #[test]
    fn any_text_is_parsed_and_settles(text in "(?s).{0,200}") {
        let once = Parameters::parse(&text);
        let twice = Parameters::parse(&once.to_text());
        prop_assert_eq!(Parameters::parse(&twice.to_text()), twice);
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(read_png_text(&bytes).is_err() || bytes.starts_with(b"\x89PNG"));
    }

    #[test]
    fn damaged_pngs_are_read_without_panic(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = sample_png();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        // Whatever comes out, it is bounded.
        if let Ok(texts) = read_png_text(&bytes) {
            prop_assert!(texts.len() <= 3);
        }
    }

    #[test]
    fn odd_chunks_are_read_without_panic(
        chunks in proptest::collection::vec(
            (
                proptest::sample::select(vec![*b"tEXt", *b"zTXt", *b"iTXt", *b"IDAT", *b"iCCP", *b"acTL"]),
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..60),
                    "[a\\x00\\x01\\u{78}]{0,40}".prop_map(String::into_bytes),
                ],
            ),
            0..8,
        ),
    ) {
        let whole = sample_png();
        // Behind the signature and the header chunk, with right checksums, so that they are looked into.
        let mut bytes = whole[..33].to_vec();
        for (kind, payload) in &chunks {
            bytes.extend((payload.len() as u32).to_be_bytes());
            let body = [&kind[..], payload].concat();
            bytes.extend(&body);
            bytes.extend(crc32(&body).to_be_bytes());
        }
        bytes.extend(&whole[33..]);
        if let Ok(texts) = read_png_text(&bytes) {
            prop_assert!(texts.len() <= chunks.len() + 3);
        }
    }

    #[test]
    fn png_keeps_any_parameters(prompt in prompt(), settings in settings()) {
        let mut parameters = Parameters::new(prompt, "");
        for (key, value) in &settings {
            parameters.set(key, value);
        }
        let bytes = write_png(&picture(), Some(&parameters)).unwrap();
        let texts = read_png_text(&bytes).unwrap();
        prop_assert_eq!(texts, [(PARAMETERS_KEYWORD.to_owned(), parameters.to_text())]);
    }
}

/// PNG's checksum (PNG specification, annex D).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1))
        })
    })
}

#[test]
fn checksum_is_that_of_png() {
    // The checksum of every IEND chunk.
    assert_eq!(crc32(b"IEND"), 0xae42_6082);
}

fn picture() -> RgbImage {
    RgbImage::from_fn(5, 3, |x, y| image::Rgb([x as u8 * 50, y as u8 * 80, 200]))
}

/// A PNG with a text of each kind, one of them behind the picture.
fn sample_png() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
    encoder
        .add_text_chunk("plain".into(), "Grüße".into())
        .unwrap();
    encoder
        .add_ztxt_chunk("packed".into(), "packed text ".repeat(20))
        .unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[7]).unwrap();
    let mut late =
        png::text_metadata::ITXtChunk::new("parameters", "猫\nSteps: 1, Seed: 2, Size: 8x8");
    late.compressed = true;
    writer.write_text_chunk(&late).unwrap();
    writer.finish().unwrap();
    bytes
}

#[test]
fn reads_every_kind_of_text_wherever_it_stands() {
    let texts = read_png_text(&sample_png()).unwrap();
    let text = |keyword: &str| {
        texts
            .iter()
            .find(|(key, _)| key == keyword)
            .map(|(_, t)| t.as_str())
    };
    assert_eq!(text("plain"), Some("Grüße"));
    assert_eq!(text("packed"), Some("packed text ".repeat(20).as_str()));
    assert_eq!(text("parameters"), Some("猫\nSteps: 1, Seed: 2, Size: 8x8"));
}

#[test]
fn latin_1_goes_into_text_and_the_rest_into_international_text() {
    for (prompt, chunk) in [("a cät", "tEXt"), ("a 猫", "iTXt")] {
        let bytes = write_png(&picture(), Some(&Parameters::new(prompt, ""))).unwrap();
        let found = |name: &str| bytes.windows(4).any(|window| window == name.as_bytes());
        assert!(found(chunk) && found("tEXt") != found("iTXt"), "{prompt}");
        assert_eq!(read_png_text(&bytes).unwrap()[0].1, prompt);
    }
}

#[test]
fn pixels_survive() {
    let bytes = write_png(&picture(), None).unwrap();
    assert!(read_png_text(&bytes).unwrap().is_empty());
    assert_eq!(
        image::load_from_memory(&bytes).unwrap().to_rgb8(),
        picture()
    );
}

#[test]
fn text_bomb_is_left_out() {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
    encoder
        .add_ztxt_chunk("bomb".into(), "0".repeat(40 << 20))
        .unwrap();
    encoder.add_text_chunk("kept".into(), "yes".into()).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[7]).unwrap();
    writer.finish().unwrap();
    assert!(bytes.len() < 1 << 20);
    assert_eq!(
        read_png_text(&bytes).unwrap(),
        [("kept".to_owned(), "yes".to_owned())]
    );
}

#[test]
fn picture_without_pixels_is_refused() {
    let error = write_png(&RgbImage::new(0, 4), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.message().contains("0x4"), "{error}");
}

#[test]
fn reads_parameters_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let parameters = Parameters::parse(WEBUI);
    write_atomically(&path, &write_png(&picture(), Some(&parameters)).unwrap()).unwrap();
    assert_eq!(read_parameters(&path).unwrap(), Some(parameters));
    write_atomically(&path, &write_png(&picture(), None).unwrap()).unwrap();
    assert_eq!(read_parameters(&path).unwrap(), None);
    write_atomically(&path, b"GIF89a").unwrap();
    let error = read_parameters(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.message().contains("a.png"), "{error}");
    let error = read_parameters(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    let error = read_parameters(&folder.path().join("none.png")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

fn data(name: &str) -> std::path::PathBuf {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/data/pictures").join(name)
}

#[test]
fn reads_the_user_comments_of_jpeg_and_webp() {
    let cases = [
        ("webui.jpg", PictureFormat::Jpeg),
        ("webui.webp", PictureFormat::WebP),
        ("other.jpg", PictureFormat::Jpeg),
    ];
    for (name, format) in cases {
        let file = read_picture(&data(name)).unwrap();
        assert_eq!(file.format, format, "{name}");
        assert_eq!(file.pixels.dimensions(), (16, 8), "{name}");
        let parameters = file.parameters.unwrap();
        assert_eq!(parameters.prompt, "a cat, 猫", "{name}");
        assert_eq!(parameters.negative_prompt, "blurry: very", "{name}");
        assert_eq!(parameters.get("Lora hashes"), Some("a: 1, b: 2"), "{name}");
        assert_eq!(read_parameters(&data(name)).unwrap(), Some(parameters));
    }
    // Lossless, so that the pixels are known.
    let webp = read_picture(&data("webui.webp")).unwrap();
    assert!(webp.pixels.pixels().all(|pixel| pixel.0 == [200, 100, 50]));
}

#[test]
fn damaged_pictures_never_panic_and_a_damaged_comment_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    for name in ["webui.jpg", "webui.webp", "other.jpg"] {
        let whole = std::fs::read(data(name)).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xFF;
            std::fs::write(&path, &bytes).unwrap();
            let _ = read_parameters(&path);
            std::fs::write(&path, &whole[..at]).unwrap();
            let _ = read_parameters(&path);
        }
    }
    let mut bytes = std::fs::read(data("webui.jpg")).unwrap();
    let order = bytes.windows(4).position(|four| four == b"MM\0*").unwrap();
    bytes[order] = b'X';
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(read_picture(&path).unwrap().parameters, None);
}

#[test]
fn exif_of_all_kinds() {
    let block = |charset: &[u8], text: &[u8]| {
        let mut bytes = b"II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x1a\0\0\0\0\0\0\0".to_vec();
        bytes.extend(b"\x01\0\x86\x92\x07\0");
        bytes.extend(
            u32::try_from(charset.len() + text.len())
                .unwrap()
                .to_le_bytes(),
        );
        bytes.extend(44_u32.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(charset);
        bytes.extend(text);
        bytes
    };
    let read = |charset: &[u8], text: &[u8]| exif::user_comment(&block(charset, text));
    assert_eq!(read(b"ASCII\0\0\0", b"a cat\0").as_deref(), Some("a cat"));
    assert_eq!(read(&[0; 8], "猫".as_bytes()).as_deref(), Some("猫"));
    assert_eq!(read(b"UNICODE\0", b"\xff\xfea\0").as_deref(), Some("a"));
    assert_eq!(read(b"UNICODE\0", b"\xfe\xff\0a").as_deref(), Some("a"));
    assert_eq!(read(b"UNICODE\0", b"\0ab").as_deref(), Some("a"));
    assert_eq!(read(b"JIS\0\0\0\0\0", b"a"), None);
    assert_eq!(read(b"ASCII", b""), None);
    let mut far = block(b"ASCII\0\0\0", b"a");
    far[36..40].copy_from_slice(&[0xFF; 4]);
    assert_eq!(exif::user_comment(&far), None);
    assert_eq!(exif::user_comment(b""), None);
}

//! Data movement.

use tintype_kernels::{
    concat_channels, embedding, narrow_channels, nchw_to_nhwc, nhwc_to_nchw, upsample_nearest,
};

use crate::values;

#[test]
fn layouts_change_there_and_back() {
    for (batch, channels, pixels) in [
        (0, 3, 4),
        (1, 1, 1),
        (2, 3, 5),
        (1, 31, 33),
        (2, 65, 64),
        (1, 4, 4097),
    ] {
        let x = values(batch * channels * pixels, 1);
        let mut there = vec![f32::NAN; x.len()];
        nchw_to_nhwc(&x, batch, channels, pixels, &mut there).unwrap();
        for (i, v) in x.iter().enumerate() {
            let (b, c, p) = (i / (channels * pixels), i / pixels % channels, i % pixels);
            assert_eq!(
                there[(b * pixels + p) * channels + c].to_bits(),
                v.to_bits()
            );
        }
        let mut back = vec![f32::NAN; x.len()];
        nhwc_to_nchw(&there, batch, channels, pixels, &mut back).unwrap();
        assert_eq!(back, x);
    }
    assert!(nchw_to_nhwc(&[0.0; 6], 1, 2, 3, &mut [0.0; 5]).is_err());
    assert!(nhwc_to_nchw(&[0.0; 5], 1, 2, 3, &mut [0.0; 6]).is_err());
}

#[test]
fn concatenation_is_undone_by_narrowing() {
    for (pixels, widths) in [
        (1, vec![1, 2]),
        (300, vec![3, 0, 5]),
        (513, vec![8]),
        (0, vec![2, 2]),
    ] {
        let parts: Vec<Vec<f32>> = widths
            .iter()
            .enumerate()
            .map(|(i, w)| values(pixels * w, i as u64))
            .collect();
        let total = widths.iter().sum();
        let mut all = vec![f32::NAN; pixels * total];
        let refs: Vec<(&[f32], usize)> = parts
            .iter()
            .map(Vec::as_slice)
            .zip(widths.iter().copied())
            .collect();
        concat_channels(&refs, pixels, &mut all).unwrap();
        let mut start = 0;
        for (part, &width) in parts.iter().zip(&widths) {
            let mut out = vec![f32::NAN; part.len()];
            narrow_channels(&all, total, start, width, &mut out).unwrap();
            assert_eq!(&out, part);
            start += width;
        }
    }
    assert!(concat_channels(&[(&[0.0; 3], 2)], 2, &mut [0.0; 4]).is_err());
    assert!(narrow_channels(&[0.0; 4], 2, 1, 2, &mut [0.0; 4]).is_err());
    assert!(narrow_channels(&[0.0; 4], 2, usize::MAX, 2, &mut [0.0; 4]).is_err());
    assert!(narrow_channels(&[0.0; 5], 2, 0, 1, &mut [0.0; 2]).is_err());
}

#[test]
fn nearest_takes_the_pixels_torch_takes() {
    // torch.nn.functional.interpolate(torch.arange(n)[None, None, None], size=(1, m)) for n -> m.
    let cases: [(usize, &[f32]); 4] = [
        (3, &[0.0, 0.0, 1.0, 1.0, 2.0, 2.0]),
        (3, &[0.0, 0.0, 1.0, 1.0, 2.0]),
        (5, &[0.0, 1.0, 3.0]),
        (4, &[0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0]),
    ];
    for (n, want) in cases {
        let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
        let mut out = vec![f32::NAN; want.len()];
        upsample_nearest(&x, 1, (1, n), (1, want.len()), &mut out).unwrap();
        assert_eq!(out, want);
        upsample_nearest(&x, 1, (n, 1), (want.len(), 1), &mut out).unwrap();
        assert_eq!(out, want);
    }
}

#[test]
fn upsampling_keeps_channels_and_pictures_apart() {
    let x = values(2 * 2 * 3 * 5, 1);
    let mut out = vec![f32::NAN; 2 * 4 * 6 * 5];
    upsample_nearest(&x, 5, (2, 3), (4, 6), &mut out).unwrap();
    for (i, v) in out.iter().enumerate() {
        let (b, y, col, c) = (i / 120, i / 30 % 4, i / 5 % 6, i % 5);
        assert_eq!(
            v.to_bits(),
            x[((b * 2 + y / 2) * 3 + col / 2) * 5 + c].to_bits()
        );
    }
    assert!(upsample_nearest(&x, 5, (2, 3), (4, 6), &mut out[1..]).is_err());
    assert!(upsample_nearest(&[], 5, (0, 3), (4, 6), &mut out).is_err());
    assert!(upsample_nearest(&[], 5, (0, 0), (0, 0), &mut []).is_ok());
}

#[test]
fn embedding_gathers_rows_and_refuses_unknown_ids() {
    let table = values(12, 1);
    let mut out = vec![0.0; 6];
    embedding(&table, 3, &[3, 0], &mut out).unwrap();
    assert_eq!(out[..3], table[9..]);
    assert_eq!(out[3..], table[..3]);
    assert_eq!(
        embedding(&table, 3, &[4, 0], &mut out)
            .unwrap_err()
            .to_string(),
        "embedding: ids: found 4, expected an id below the table's rows"
    );
    assert!(embedding(&table, 3, &[1], &mut out).is_err());
    assert!(embedding(&table, 5, &[0], &mut out[..5]).is_err());
}

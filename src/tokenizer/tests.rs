use super::*;

#[test]
fn golden_ids() {
    let tokenizer = ClipTokenizer::embedded();
    assert_eq!(
        tokenizer.tokens("a photo of a cat"),
        [320, 1125, 539, 320, 2368]
    );
}

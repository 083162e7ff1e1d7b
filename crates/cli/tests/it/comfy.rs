//! Pictures with ComfyUI's graph in them.

use serde_json::{Value, json};
use tintype::metadata::{read_picture, write_png};

use crate::replay::refuses;
use crate::support::Place;

/// A PNG with a text behind its header.
fn with_text(png: &[u8], keyword: &str, text: &str) -> Vec<u8> {
    const HEADER_END: usize = 33;
    let body = [b"tEXt", keyword.as_bytes(), &[0], text.as_bytes()].concat();
    let length = u32::try_from(body.len() - 4).unwrap();
    let chunk = [&length.to_be_bytes(), &body[..], &crc(&body).to_be_bytes()].concat();
    [&png[..HEADER_END], &chunk, &png[HEADER_END..]].concat()
}

/// The check sum of a chunk (PNG, annex D), bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    let rest = bytes.iter().fold(u32::MAX, |rest, &byte| {
        (0..8).fold(rest ^ u32::from(byte), |rest, _| {
            (rest >> 1) ^ (0xEDB8_8320 * (rest & 1))
        })
    });
    !rest
}

fn graph() -> Value {
    json!({
        "3": {"class_type": "KSampler", "inputs": {
            "seed": 42, "steps": 3, "cfg": 5.5, "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": 1.0,
            "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "model.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a ((cat:1.3)) [on a mat]", "clip": ["10", 0]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "dog", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}},
        "10": {"class_type": "CLIPSetLastLayer", "inputs": {"stop_at_clip_layer": -2, "clip": ["4", 1]}}
    })
}

/// A picture that Tintype makes as the graph says, with the graph for its only text.
fn place_with(graph: &Value) -> Place {
    let place = Place::new();
    place.write_model("sd15");
    place
        .run([
            "generate",
            "a (cat:1.3) \\[on a mat\\]",
            "--negative=dog",
            "--model=model",
            "--steps=3",
            "--guidance=5.5",
            "--seed=42",
            "--sampler=dpmpp_2m",
            "--schedule=karras",
            "--emphasis=comfy",
            "--clip-skip=2",
            "--width=64",
            "--height=64",
            "--levels-as=comfyui",
            "--out=own.png",
        ])
        .ok();
    let pixels = read_picture(&place.path("own.png")).unwrap().pixels;
    let png = write_png(&pixels, None).unwrap();
    let png = with_text(&png, "prompt", &graph.to_string());
    std::fs::write(place.path("x.png"), png).unwrap();
    place
}

#[test]
fn the_picture_of_a_graph_comes_back() {
    let place = place_with(&graph());
    let text = place.run(["inspect", "x.png"]).ok();
    assert_eq!(
        text,
        "a (cat:1.3) \\[on a mat\\]\nNegative prompt: dog\nSteps: 3, Sampler: dpmpp_2m, Schedule type: karras, CFG scale: \
         5.5, Seed: 42, Size: 64x64, Model: model, Clip skip: 2, RNG: CPU, Emphasis: Comfy, Version: ComfyUI\n"
    );
    let run = place.run(["replay", "x.png", "--model", "model", "--json"]);
    let found: Value = serde_json::from_str(&run.ok()).unwrap();
    assert_eq!(found["identical"], true, "{found}");
    assert_eq!(found["not_honoured"], json!([]));
    assert_eq!(found["absent"], json!([]));
    assert_eq!(found["warnings"], json!([]));
}

#[test]
fn what_a_graph_asks_for_beyond_that_is_named() {
    let mut graph = graph();
    graph["3"]["inputs"]["model"] = json!(["11", 0]);
    graph["11"] = json!({"class_type": "LoraLoader", "inputs": {
        "lora_name": "detail.safetensors", "strength_model": 1, "strength_clip": 1, "model": ["4", 0], "clip": ["4", 1]}});
    let place = place_with(&graph);
    let text = place.run(["inspect", "x.png"]).ok();
    let line = "not honoured: node 11 (LoraLoader) lora_name: detail.safetensors (networks are not supported yet)\n";
    assert!(text.contains(line), "{text}");
    let document: Value =
        serde_json::from_str(&place.run(["inspect", "x.png", "--json"]).ok()).unwrap();
    assert_eq!(document["settings"]["Seed"], "42");
    assert_eq!(
        document["not_honoured"][0]["key"],
        "node 11 (LoraLoader) lora_name"
    );
    let text = place.run(["replay", "x.png", "--model", "model"]).ok();
    assert!(
        text.contains("not honoured  node 11 (LoraLoader) lora_name: detail.safetensors"),
        "{text}"
    );
    assert!(text.contains("same bit for bit"), "{text}");
}

#[test]
fn a_prompt_of_more_than_one_chunk_is_named() {
    let mut graph = graph();
    graph["7"]["inputs"]["text"] = json!("dog, ".repeat(50));
    let place = place_with(&graph);
    let run = place.run(["replay", "x.png", "--model", "model", "--json"]);
    let found: Value = serde_json::from_str(&run.ok()).unwrap();
    let named = found["not_honoured"].as_array().unwrap();
    assert_eq!(named.len(), 1, "{found}");
    assert_eq!(named[0]["key"], "negative prompt");
    assert_eq!(named[0]["value"], "2 chunks");
}

#[test]
fn graphs_that_cannot_be_read_or_made_are_errors() {
    let place = place_with(&graph());
    let png = write_png(&read_picture(&place.path("own.png")).unwrap().pixels, None).unwrap();
    let mut unknown = graph();
    unknown["3"]["inputs"]["sampler_name"] = json!("dpmpp_2n");
    let mut embedding = graph();
    embedding["7"]["inputs"]["text"] = json!("(embedding:bad-hands:1.2)");
    let cases = [
        ("{".to_owned(), 3, "not readable as JSON"),
        (unknown.to_string(), 2, "unknown sampler \"dpmpp_2n\""),
        (
            embedding.to_string(),
            4,
            "negative prompt: embedding:bad-hands",
        ),
        (
            json!({"1": {"class_type": "SamplerCustom"}}).to_string(),
            7,
            "names no Seed",
        ),
    ];
    for (text, code, words) in cases {
        std::fs::write(place.path("bad.png"), with_text(&png, "prompt", &text)).unwrap();
        refuses(&place, "bad.png", code, words);
    }
}

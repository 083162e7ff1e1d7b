use proptest::prelude::*;
use serde_json::{Value, json};

use super::text::in_webui_grammar;
use super::*;
use crate::backend::Recorded;
use crate::backend::sampling::SamplingConfig;
use crate::error::ErrorKind;
use crate::prompt::{Piece, pieces};

/// The graph that ComfyUI opens with, as it runs.
fn simple() -> Value {
    json!({
        "3": {"class_type": "KSampler", "inputs": {
            "seed": 156_680_208_700_286_u64, "steps": 20, "cfg": 8.0, "sampler_name": "euler", "scheduler": "normal",
            "denoise": 1.0, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd1\\v1-5-pruned.safetensors"},
            "is_changed": [null], "_meta": {"title": "Load Checkpoint"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a (glass:1.2) bottle, [x]", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "watermark", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}}
    })
}

#[track_caller]
fn read(graph: &Value) -> Recording {
    let texts = vec![("prompt".to_owned(), graph.to_string())];
    recording(&texts).unwrap().unwrap()
}

fn named(recording: &Recording) -> Vec<(&str, &str)> {
    let named = recording.unmapped.iter();
    named
        .map(|one| (one.key.as_str(), one.value.as_str()))
        .collect()
}

#[test]
fn the_simple_graph_is_read_whole() {
    let found = read(&simple());
    assert_eq!(
        found.parameters.to_text(),
        "a (glass:1.2) bottle, \\[x\\]\nNegative prompt: watermark\nSteps: 20, Sampler: euler, Schedule type: normal, \
         CFG scale: 8.0, Seed: 156680208700286, Size: 512x768, Model: v1-5-pruned, RNG: CPU, Emphasis: Comfy, \
         Version: ComfyUI"
    );
    assert_eq!(found.unmapped, []);
}

#[test]
fn loaders_and_layers_are_followed_and_networks_named() {
    let mut graph = simple();
    graph["3"]["inputs"]["model"] = json!(["10", 0]);
    graph["6"]["inputs"]["clip"] = json!(["11", 0]);
    graph["7"]["inputs"]["clip"] = json!(["11", 0]);
    graph["8"]["inputs"]["vae"] = json!(["12", 0]);
    graph["10"] = json!({"class_type": "LoraLoader", "inputs": {
        "lora_name": "add_detail.safetensors", "strength_model": 0.8, "strength_clip": 1, "model": ["4", 0], "clip": ["4", 1]}});
    graph["11"] = json!({"class_type": "CLIPSetLastLayer", "inputs": {"stop_at_clip_layer": -2, "clip": ["10", 1]}});
    graph["12"] =
        json!({"class_type": "VAELoader", "inputs": {"vae_name": "vae-ft-mse-840000.safetensors"}});
    graph["13"] = json!({"class_type": "ControlNetLoader", "inputs": {"control_net_name": "x"}});
    let found = read(&graph);
    let parameters = &found.parameters;
    assert_eq!(parameters.model(), Some("v1-5-pruned"));
    assert_eq!(parameters.clip_skip(), 2);
    assert_eq!(parameters.get("Clip skip negative"), Some("True"));
    assert_eq!(parameters.get("VAE"), Some("vae-ft-mse-840000.safetensors"));
    assert_eq!(
        named(&found),
        [
            ("node 10 (LoraLoader) lora_name", "add_detail.safetensors"),
            ("node 10 (LoraLoader) strength_clip", "1"),
            ("node 10 (LoraLoader) strength_model", "0.8"),
            ("node 13 (ControlNetLoader)", ""),
        ]
    );
}

#[test]
fn the_two_prompts_may_leave_out_other_layers() {
    let layers = |positive: Option<i64>, negative: Option<i64>| {
        let mut graph = simple();
        for (id, place, layer) in [("30", "6", positive), ("31", "7", negative)] {
            if let Some(layer) = layer {
                graph[place]["inputs"]["clip"] = json!([id, 0]);
                graph[id] = json!({"class_type": "CLIPSetLastLayer",
                    "inputs": {"stop_at_clip_layer": layer, "clip": ["4", 1]}});
            }
        }
        let found = read(&graph);
        let both = found.parameters.get("Clip skip negative").is_some();
        (found.parameters.clip_skip(), both, named(&found).len())
    };
    assert_eq!(layers(Some(-2), Some(-2)), (2, true, 0));
    assert_eq!(layers(Some(-2), None), (2, false, 0));
    assert_eq!(layers(Some(-2), Some(-3)), (2, false, 1));
    assert_eq!(layers(None, Some(-2)), (1, false, 1));
    assert_eq!(layers(None, Some(-1)), (1, false, 0));
}

#[test]
fn guidance_is_read_by_forges_keys() {
    let mut graph = simple();
    graph["3"]["inputs"]["model"] = json!(["32", 0]);
    graph["32"] = json!({"class_type": "FreeU_V2",
        "inputs": {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2, "model": ["31", 0]}});
    graph["31"] = json!({"class_type": "SelfAttentionGuidance",
        "inputs": {"scale": 0.5, "blur_sigma": 2.0, "model": ["30", 0]}});
    graph["30"] = json!({"class_type": "PerturbedAttentionGuidance", "inputs": {"scale": 3, "model": ["4", 0]}});
    let found = read(&graph);
    assert_eq!(named(&found), []);
    for (key, value) in [
        ("freeu_enabled", "True"),
        ("freeu_b2", "1.4"),
        ("sag_enabled", "True"),
        ("sag_scale", "0.5"),
        ("sag_blur_sigma", "2.0"),
        ("PerturbedAttentionGuidance_scale", "3"),
    ] {
        assert_eq!(found.parameters.get(key), Some(value), "{key}");
    }
    graph["32"]["class_type"] = json!("FreeU");
    let first = read(&graph);
    assert_eq!(named(&first), []);
    assert_eq!(first.parameters.get("freeu_version"), Some("1-comfy"));
}

#[test]
fn samplers_that_mean_something_else_are_translated_or_named() {
    let of = |name: &str| {
        let mut graph = simple();
        graph["3"]["inputs"]["sampler_name"] = json!(name);
        let found = read(&graph);
        let get = |key: &str| found.parameters.get(key).map(str::to_owned);
        (get("Sampler").unwrap(), get("Eta"), named(&found).len())
    };
    let eta = |value: &str| Some(value.to_owned());
    for (name, expected, own_eta, named) in [
        ("dpm_fast", "dpm_fast", eta("0"), 0),
        ("res_multistep_ancestral", "res_multistep", eta("1"), 1),
        ("ddim", "euler", None, 0),
        ("ddpm", "euler_a", None, 1),
        ("lcm", "lcm_sigmas", None, 1),
        ("uni_pc", "uni_pc_comfy", None, 0),
        ("uni_pc_bh2", "uni_pc_bh2_comfy", None, 0),
        ("sa_solver", "sa_solver_comfy", None, 1),
        ("sa_solver_pece", "sa_solver_pece", None, 1),
        ("dpmpp_2m_sde_heun_gpu", "dpmpp_2m_sde_heun", None, 1),
        ("dpmpp_2m_sde", "dpmpp_2m_sde", None, 0),
    ] {
        assert_eq!(of(name), (expected.to_owned(), own_eta, named), "{name}");
    }
    // What is drawn on the way is the device's own.
    let fresh = |name: &str| {
        let mut graph = simple();
        graph["3"]["inputs"]["sampler_name"] = json!(name);
        read(&graph).parameters.get("Fresh RNG").map(str::to_owned)
    };
    assert_eq!(fresh("euler_ancestral").as_deref(), Some("NV"));
    assert_eq!(fresh("dpmpp_sde_gpu").as_deref(), Some("NV"));
    assert_eq!(fresh("dpmpp_sde"), None);
}

/// ComfyUI's own lists (`comfy/samplers.py`): what is not known here is refused by name when it is read.
#[test]
fn every_name_of_comfyui_that_there_is_a_method_for_is_known() {
    const SAMPLERS: &str = "euler euler_cfg_pp euler_ancestral euler_ancestral_cfg_pp heun heunpp2 dpm_2 dpm_2_ancestral \
        lms dpm_fast dpm_adaptive dpmpp_2s_ancestral dpmpp_sde dpmpp_sde_gpu dpmpp_2m dpmpp_2m_sde dpmpp_2m_sde_gpu \
        dpmpp_2m_sde_heun dpmpp_2m_sde_heun_gpu dpmpp_3m_sde dpmpp_3m_sde_gpu ddpm lcm ipndm ipndm_v deis res_multistep \
        res_multistep_ancestral gradient_estimation er_sde sa_solver sa_solver_pece ddim uni_pc uni_pc_bh2";
    const SCHEDULES: &str = "simple sgm_uniform karras exponential ddim_uniform beta normal linear_quadratic kl_optimal";
    for name in SAMPLERS.split_whitespace() {
        for schedule in SCHEDULES.split_whitespace() {
            let mut graph = simple();
            graph["3"]["inputs"]["sampler_name"] = json!(name);
            graph["3"]["inputs"]["scheduler"] = json!(schedule);
            let found = read(&graph);
            let recorded = Recorded::read(&found.parameters, SamplingConfig::default()).unwrap();
            recorded.config.validate().unwrap();
            let spans = ["karras", "exponential", "normal", "kl_optimal"].contains(&schedule);
            let chooses = ["dpm_fast", "dpm_adaptive"].contains(&name) && !spans;
            let refused: Vec<_> = recorded.not_honoured.iter().map(|one| &one.key).collect();
            assert_eq!(
                refused.len(),
                usize::from(chooses),
                "{name} {schedule}: {refused:?}"
            );
        }
    }
    // Methods that the registry does not have.
    for name in ["dpmpp_2m_cfg_pp", "seeds_2", "exp_heun_2_x0"] {
        let mut graph = simple();
        graph["3"]["inputs"]["sampler_name"] = json!(name);
        let found = read(&graph);
        let error = Recorded::read(&found.parameters, SamplingConfig::default()).unwrap_err();
        assert!(error.message().contains(name), "{error}");
    }
}

#[test]
fn what_does_not_map_is_named() {
    let mut graph = simple();
    graph["3"]["inputs"]["denoise"] = json!(0.6);
    graph["3"]["inputs"]["sampler_name"] = json!("euler_ancestral");
    graph["3"]["inputs"]["wonder"] = json!({"a": 1});
    graph["3"]["inputs"]["model"] = json!(["20", 0]);
    graph["5"]["inputs"]["batch_size"] = json!(4);
    graph["6"]["inputs"]["text"] = json!("a cat # no. 5");
    graph["7"] = json!({"class_type": "ConditioningCombine", "inputs": {
        "conditioning_1": ["6", 0], "conditioning_2": ["21", 0]}});
    graph["20"] = json!({"class_type": "HyperTile", "inputs": {"b1": 1.3, "model": ["4", 0]}});
    graph["21"] =
        json!({"class_type": "CLIPTextEncode", "inputs": {"text": "dog", "clip": ["4", 1]}});
    graph["22"] =
        json!({"class_type": "KSampler", "inputs": {"seed": 1, "latent_image": ["3", 0]}});
    let found = read(&graph);
    assert_eq!(found.parameters.get("Denoising strength"), Some("0.6"));
    assert_eq!(found.parameters.seed(), Some(156_680_208_700_286));
    let keys: Vec<_> = named(&found).into_iter().map(|(key, _)| key).collect();
    assert_eq!(
        keys,
        [
            "node 3 (KSampler) sampler_name",
            "node 5 (EmptyLatentImage) batch_size",
            "node 6 (CLIPTextEncode) text",
            "node 6 (CLIPTextEncode) text",
            "node 3 (KSampler) wonder",
            "node 7 (ConditioningCombine)",
            "node 7 (ConditioningCombine) conditioning_2",
            "node 20 (HyperTile) b1",
            "node 21 (CLIPTextEncode)",
            "node 22 (KSampler)",
        ]
    );
}

#[test]
fn the_advanced_sampler_maps_where_it_runs_from_start_to_end() {
    let mut graph = simple();
    graph["3"] = json!({"class_type": "KSamplerAdvanced", "inputs": {
        "add_noise": "enable", "noise_seed": ["30", 0], "steps": 25, "cfg": 7, "sampler_name": "dpmpp_2m_sde_gpu",
        "scheduler": "karras", "start_at_step": 0, "end_at_step": 10_000, "return_with_leftover_noise": "disable",
        "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}});
    graph["30"] = json!({"class_type": "PrimitiveInt", "inputs": {"value": 7}});
    let found = read(&graph);
    assert_eq!(found.parameters.seed(), Some(7));
    assert_eq!(found.parameters.sampler(), Some("dpmpp_2m_sde"));
    assert_eq!(
        named(&found),
        [("node 3 (KSamplerAdvanced) sampler_name", "dpmpp_2m_sde_gpu")]
    );
    graph["3"]["inputs"]["sampler_name"] = json!("ddim");
    graph["3"]["inputs"]["add_noise"] = json!("disable");
    graph["3"]["inputs"]["start_at_step"] = json!(3);
    graph["3"]["inputs"]["end_at_step"] = json!(20);
    graph["3"]["inputs"]["return_with_leftover_noise"] = json!("enable");
    let found = read(&graph);
    assert_eq!(found.parameters.sampler(), Some("euler"));
    let values: Vec<_> = named(&found).into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, ["disable", "3", "20", "enable"]);
}

#[test]
fn the_graph_on_the_screen_is_read_where_there_is_no_other() {
    let workflow = json!({
        "nodes": [
            {"id": 3, "type": "KSampler", "inputs": [
                {"name": "model", "type": "MODEL", "link": 1}, {"name": "positive", "link": 4},
                {"name": "negative", "link": 6}, {"name": "latent_image", "link": 2}],
                "widgets_values": [42, "randomize", 20, 8, "uni_pc", "simple", 1]},
            {"id": 4, "type": "CheckpointLoaderSimple", "widgets_values": ["a.ckpt"]},
            {"id": 5, "type": "EmptyLatentImage", "widgets_values": [64, 96, 1]},
            {"id": 6, "type": "CLIPTextEncode", "inputs": [{"name": "clip", "link": 3}], "widgets_values": ["a cat"]},
            {"id": 7, "type": "CLIPTextEncode", "inputs": [{"name": "clip", "link": 5}], "widgets_values": [""]},
            {"id": 10, "type": "LoraLoader", "mode": 4, "inputs": [{"name": "model", "link": 7}],
                "widgets_values": ["x", 1, 1]},
            {"id": 11, "type": "Reroute", "inputs": [{"name": "", "link": 8}]},
            {"id": 12, "type": "UpscaleModelLoader", "mode": 2, "widgets_values": ["x"]}
        ],
        "links": [[1, 10, 0, 3, 0, "MODEL"], [2, 5, 0, 3, 3, "LATENT"], [3, 4, 1, 6, 0, "CLIP"], [4, 6, 0, 3, 1, "C"],
            [5, 4, 1, 7, 0, "CLIP"], {"id": 6, "origin_id": 7}, [7, 11, 0, 10, 0, "MODEL"], [8, 4, 0, 11, 0, "MODEL"]]
    });
    let texts = vec![("workflow".to_owned(), workflow.to_string())];
    let found = recording(&texts).unwrap().unwrap();
    let text = "a cat\nSteps: 20, Sampler: uni_pc_comfy, Schedule type: simple, CFG scale: 8, Seed: 42, Size: 64x96, Model: a, \
        RNG: CPU, Emphasis: Comfy, Version: ComfyUI";
    assert_eq!(found.parameters.to_text(), text);
    assert_eq!(found.unmapped, []);
}

#[test]
fn pythons_numbers_are_read_and_plain_words_are_no_graph() {
    let mut text = simple().to_string();
    text = text.replace("[null]", "[NaN]");
    let texts = vec![("prompt".to_owned(), text)];
    assert_eq!(recording(&texts).unwrap().unwrap(), read(&simple()));
    for texts in [
        vec![],
        vec![("prompt".to_owned(), "a cat".to_owned())],
        vec![("Comment".to_owned(), "{".to_owned())],
    ] {
        assert_eq!(recording(&texts).unwrap(), None);
    }
    let empty = read(&json!({}));
    assert_eq!(empty, Recording::default());
}

#[test]
fn damaged_graphs_are_errors_and_large_ones_bounded() {
    let node = |class: &str, inputs: Value| json!({"class_type": class, "inputs": inputs});
    let mut circle = simple();
    circle["4"] = node("ModelMerge", json!({"model": ["40", 0]}));
    circle["40"] = node("ModelMerge", json!({"model": ["4", 0]}));
    let mut through = simple();
    through["5"] = node("Reroute", json!({"": ["50", 0]}));
    through["50"] = node("Reroute", json!({"": ["5", 0]}));
    let mut own = simple();
    own["5"] = node("LatentUpscale", json!({"samples": ["5", 0]}));
    let mut deep = simple();
    deep["6"]["inputs"]["text"] = json!("(".repeat(1000) + &")".repeat(1000));
    let many: serde_json::Map<String, Value> = (0..5000)
        .map(|index: u32| (index.to_string(), node("X", json!({}))))
        .collect();
    let cases = [
        (circle.to_string(), "fed from its own output"),
        (through.to_string(), "fed from its own output"),
        (own.to_string(), "fed from its own output"),
        (deep.to_string(), "nested deeper"),
        (Value::Object(many).to_string(), "found 5000 nodes"),
        ("{\"3\": {}}".to_owned(), "node 3 has no class_type"),
        ("{\"3\": ".to_owned(), "not readable as JSON"),
        (
            format!("{{\"3\": [{}0]}}", "[],".repeat(2 << 20)),
            "expected a graph of at most",
        ),
        (
            "{\"3\": ".to_owned() + &"[".repeat(100_000),
            "not readable as JSON",
        ),
    ];
    for (text, words) in cases {
        let error = recording(&[("prompt".to_owned(), text)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(error.message().contains(words), "{error}");
    }
    let error = recording(&[("workflow".to_owned(), "{}".to_owned())]).unwrap_err();
    assert!(error.message().contains("no list of nodes"), "{error}");
    let mut wide = simple();
    for index in 100..4000 {
        wide[index.to_string()] = node(&"long name ".repeat(100), json!({"a": "b"}));
    }
    let found = read(&wide);
    assert_eq!(found.unmapped.len(), 201);
    assert!(found.unmapped[0].key.len() < 120, "{:?}", found.unmapped[0]);
    // A link to nothing, and nodes where values are meant.
    let mut loose = simple();
    loose["3"]["inputs"]["positive"] = json!(["99", 0]);
    loose["3"]["inputs"]["seed"] = json!(["4", 0]);
    loose["3"]["inputs"]["steps"] = json!(null);
    let found = read(&loose);
    assert_eq!(found.parameters.prompt, "");
    assert_eq!(found.parameters.seed(), None);
}

#[test]
fn weights_are_set_and_brackets_are_text() {
    let cases = [
        ("a (b) c", "a (b:1.1) c"),
        ("((b))", "(b:1.2100000000000002)"),
        ("((b:1.3))", "(b:1.3)"),
        ("(a (b:0.5) c:2)", "(a :2)(b:0.5)( c:2)"),
        (r"a \(b\) [c|d] {e} \f", r"a \(b\) \[c\|d\] \{e\} \\f"),
        ("(a:b)", "(a:b:1.1)"),
        ("(:1.5)", "(:1.5:1.1)"),
        ("a)(b) c", r"a\)\(b\) c"),
        ("(a", r"\(a"),
        ("x AND y BREAK BAND", "x and y break BAND"),
        ("ratio 16:9", "(ratio 16:9:1)"),
        ("<lora:x:1>", r"<\lora:x:1>"),
        ("(x:inf)", "(x:inf:1.1)"),
        ("", ""),
    ];
    for (typed, expected) in cases {
        assert_eq!(in_webui_grammar(typed).unwrap(), expected, "{typed}");
    }
}

/// The words of a text and their weights.
fn weighed(text: &str) -> Vec<(String, f64)> {
    let pieces = pieces(text).unwrap();
    let words = pieces.into_iter().filter_map(|piece| match piece {
        Piece::Words { text, weight } => Some((text, weight)),
        Piece::Break => None,
    });
    words.filter(|(text, _)| !text.is_empty()).collect()
}

proptest! {
    #[test]
    fn words_keep_their_letters_and_weights(
        parts in proptest::collection::vec(("[a-zA-Z\\[\\]{}|<>_.:, ]{1,12}", 1_u32..30), 1..6)
    ) {
        let typed: Vec<String> = parts
            .iter()
            .map(|(words, weight)| format!("({words}:{})", f64::from(*weight) / 10.0))
            .collect();
        let typed = typed.concat();
        let found = weighed(&in_webui_grammar(&typed).unwrap());
        let found: Vec<_> = found.into_iter().map(|(text, weight)| (text.to_lowercase(), weight)).collect();
        let mut expected: Vec<(String, f64)> = Vec::new();
        for (words, weight) in &parts {
            let weight = f64::from(*weight) / 10.0;
            let words = words.to_lowercase();
            match expected.last_mut() {
                Some((text, last)) if last.to_bits() == weight.to_bits() => text.push_str(&words),
                _ => expected.push((words, weight)),
            }
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}", graph in "[\\[\\]{}\",:a-z0-9]{0,60}") {
        let _ = in_webui_grammar(&text);
        let _ = recording(&[("prompt".to_owned(), format!("{{{graph}"))]);
        let _ = recording(&[("workflow".to_owned(), format!("{{{graph}}}"))]);
    }
}

//! What a sampler's node says of itself.

use super::graph::{Node, NodeId};
use super::walk::Reader;

/// Samplers that draw noise on their way, from the device they ran on.
const FRESH_NOISE: [&str; 9] = [
    "euler_ancestral",
    "euler_ancestral_cfg_pp",
    "dpm_2_ancestral",
    "dpmpp_2s_ancestral",
    "res_multistep_ancestral",
    "er_sde",
    "sa_solver",
    "ddpm",
    "lcm",
];

/// Samplers that are another method under the same name.
const OTHERWISE: [(&str, &str); 4] = [
    (
        "ddpm",
        "it goes through the schedule's sigmas in ComfyUI, and through training timesteps here",
    ),
    (
        "lcm",
        "it goes through the schedule's sigmas in ComfyUI, and through the timesteps of the distillation here",
    ),
    (
        "sa_solver",
        "it is diffusers' here, with other orders and other noise",
    ),
    (
        "uni_pc_bh2",
        "it is diffusers' of order 2 here, and of order 3 in ComfyUI",
    ),
];

impl<'a> Reader<'a> {
    /// ComfyUI's name in ours, where it means something else, with the eta it implies, and what it does not say.
    pub(super) fn sampler_name(
        &mut self,
        (id, node): (&'a NodeId, &'a Node),
        name: &str,
    ) -> (String, Option<u8>) {
        if FRESH_NOISE.contains(&name) {
            let reason = "the noise it draws on its way comes from the device ComfyUI ran on, which the graph does not \
                          say; torch's on the CPU is taken";
            self.refuse((id, node), "sampler_name", name, reason);
        }
        if let Some((_, reason)) = OTHERWISE.iter().find(|(other, _)| *other == name) {
            self.refuse((id, node), "sampler_name", name, reason);
        }
        if let Some(plain) = name.strip_suffix("_gpu") {
            let reason = "its noise is drawn on a GPU; torch's on the CPU is taken";
            self.refuse((id, node), "sampler_name", name, reason);
            return (plain.to_owned(), None);
        }
        match name {
            // There it is Euler's rule.
            "ddim" => ("euler".to_owned(), None),
            "res_multistep_ancestral" => ("res_multistep".to_owned(), Some(1)),
            // k-diffusion's own; the webui's is 1.
            "dpm_fast" | "dpm_adaptive" => (name.to_owned(), Some(0)),
            _ => (name.to_owned(), None),
        }
    }

    /// The fields that only the advanced sampler has.
    pub(super) fn advanced(&mut self, (id, node): (&'a NodeId, &'a Node)) {
        if node.class != "KSamplerAdvanced" {
            return;
        }
        let steps = self.recording.parameters.steps().unwrap_or(usize::MAX);
        let last = |text: &str| text.parse().is_ok_and(|end: usize| end >= steps);
        let fields = [
            ("add_noise", "enable", "a run begins with noise"),
            ("start_at_step", "0", "a run begins at its first step"),
            ("end_at_step", "", "a run goes on to its last step"),
            (
                "return_with_leftover_noise",
                "disable",
                "no noise is left over",
            ),
        ];
        for (field, expected, reason) in fields {
            let Some(text) = self.scalar((id, node), field) else {
                continue;
            };
            let fits = match field {
                "end_at_step" => last(&text),
                _ => text == expected,
            };
            if !fits {
                self.refuse((id, node), field, &text, reason);
            }
        }
    }
}

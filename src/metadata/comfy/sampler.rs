//! What a sampler's node says of itself.

use super::graph::{Node, NodeId};
use super::walk::Reader;

/// Samplers that draw noise on their way, on the device they ran on, from a generator of their own.
const FRESH_NOISE: [&str; 10] = [
    "euler_ancestral",
    "euler_ancestral_cfg_pp",
    "dpm_2_ancestral",
    "dpmpp_2s_ancestral",
    "res_multistep_ancestral",
    "er_sde",
    "sa_solver",
    "sa_solver_pece",
    "ddpm",
    "lcm",
];

/// Names that are another method's here, with the name it has here and an eta where it is not the sampler's own.
const OTHERWISE: [(&str, &str, Option<u8>); 9] = [
    ("ddim", "euler", None),
    // The same step, as `tests` show.
    ("ddpm", "euler_a", None),
    ("lcm", "lcm_sigmas", None),
    ("sa_solver", "sa_solver_comfy", None),
    ("uni_pc", "uni_pc_comfy", None),
    ("uni_pc_bh2", "uni_pc_bh2_comfy", None),
    ("res_multistep_ancestral", "res_multistep", Some(1)),
    // k-diffusion's own; the webui's is 1.
    ("dpm_fast", "dpm_fast", Some(0)),
    ("dpm_adaptive", "dpm_adaptive", Some(0)),
];

/// ComfyUI's name in ours, with what else it says.
pub(super) struct Named {
    pub(super) name: String,
    /// The eta it implies.
    pub(super) eta: Option<u8>,
    /// Whether noise on the way is drawn on the device it ran on.
    pub(super) fresh: bool,
}

impl<'a> Reader<'a> {
    /// ComfyUI's name of a sampler in ours.
    pub(super) fn sampler_name(&mut self, (id, node): (&'a NodeId, &'a Node), name: &str) -> Named {
        let on_gpu = name.strip_suffix("_gpu");
        let fresh = on_gpu.is_some() || FRESH_NOISE.contains(&name);
        if fresh {
            let reason = "the noise it draws on its way is taken as an NVIDIA GPU draws it; which device ComfyUI ran on \
                          the graph does not say";
            self.refuse((id, node), "sampler_name", name, reason);
        }
        let plain = on_gpu.unwrap_or(name);
        let found = OTHERWISE.iter().find(|(there, ..)| *there == plain);
        let (name, eta) = found.map_or((plain, None), |(_, here, eta)| (*here, *eta));
        Named {
            name: name.to_owned(),
            eta,
            fresh,
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

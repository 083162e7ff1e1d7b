//! Tests of the whole library through its public API, in one binary so that it links once.
//!
//! The models are tiny, of the real structure, and written at test time (`tintype_testkit::TinyModel`); what
//! diffusers makes of them is in `tests/fixtures`. `cfg(test)` on each module tells the lints that helpers are tests too.

#[cfg(test)]
mod backend;
#[cfg(test)]
mod bad_input;
#[cfg(feature = "model-in-the-box")]
#[cfg(test)]
mod box_model;
#[cfg(test)]
mod guidance;
#[cfg(test)]
mod loading;
#[cfg(test)]
mod loading_errors;
#[cfg(test)]
mod metadata;
#[cfg(test)]
mod models;
#[cfg(test)]
mod pictures;
#[cfg(test)]
mod prompts;
#[cfg(test)]
mod published;
#[cfg(test)]
mod samplers;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tokenizer;
#[cfg(test)]
mod uni_pc;

/// The system's allocator; under `TINTYPE_GUARD` it lets no kernel leave the arrays that layers give it.
#[global_allocator]
static MEMORY: tintype_kernels::guard::Guard = tintype_kernels::guard::Guard;

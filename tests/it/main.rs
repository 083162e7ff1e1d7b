//! Tests of the whole library through its public API, in one binary so that it links once.
//!
//! The models are tiny, of the real structure, and written at test time (`tintype_testkit::TinyModel`); what
//! diffusers makes of them is in `tests/fixtures`.

mod backend;
mod bad_input;
mod loading;
mod loading_errors;
mod metadata;
mod models;
mod pictures;
mod support;
mod tokenizer;

//! The networks: what their configurations may say, and whether they compute what diffusers computes.

mod backend;
mod configs;
mod manifests;
mod parity;
mod tiny;

//! The networks: what their configurations may say, and whether they compute what diffusers computes.

mod configs;

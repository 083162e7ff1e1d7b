//! The built `tintype` binary, run as a user runs it.

mod expected;
mod support;
mod usage;

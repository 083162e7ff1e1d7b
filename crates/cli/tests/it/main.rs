//! The built `tintype` binary, run as a user runs it.

// `cfg(test)` tells clippy that helpers are tests too.
#[cfg(test)]
mod bench;
#[cfg(test)]
mod comfy;
#[cfg(test)]
mod expected;
#[cfg(test)]
mod generate;
#[cfg(test)]
mod hub;
#[cfg(feature = "model-in-the-box")]
#[cfg(test)]
mod in_the_box;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod support;
#[cfg(test)]
mod usage;

//! Tintype CPU kernels.

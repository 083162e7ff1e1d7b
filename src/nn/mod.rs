//! Layers over two engines; the only files that know both Candle and the kernels.

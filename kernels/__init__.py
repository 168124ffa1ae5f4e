"""Device code of the stages; packaged as ``omnistream.kernels``."""

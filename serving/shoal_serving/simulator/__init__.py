"""A stand-in engine for tests, benchmarks and clusters without a GPU."""

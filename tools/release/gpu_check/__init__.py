"""The parts of tools/release/gpu-check."""

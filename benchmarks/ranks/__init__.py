"""What the benchmarks over several ranks launch."""

"""Real architectures: anec and coremltools on the same exported programs, judged by one evaluator."""

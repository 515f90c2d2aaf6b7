"""The Open Inference Protocol (KServe V2) and its extensions."""

"""The addresses of the service, a protocol per module: `/predict`, V1, V2, feedback, probes."""

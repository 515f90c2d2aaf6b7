"""One dialect a file: `/predict`, V1, V2, feedback, certificates, probes."""

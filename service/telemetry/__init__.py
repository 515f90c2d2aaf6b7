"""What is sent by OTLP where somebody asks for it: traces of requests, and the metrics."""

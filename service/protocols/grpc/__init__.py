"""The Open Inference Protocol over gRPC: messages to V2 calls, and answers back."""

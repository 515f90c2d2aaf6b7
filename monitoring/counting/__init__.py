"""What a request leaves behind, in the request path, and reading it back."""

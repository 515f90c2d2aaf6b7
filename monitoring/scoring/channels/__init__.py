"""What of every request is counted: a channel a name, as NumPy maths and as nodes."""

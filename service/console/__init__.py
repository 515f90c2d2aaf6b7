"""The pages of the service: the console at `/`, what it asks for, and the reference at `/docs`."""

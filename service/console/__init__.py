"""Pages for people: the OpenAPI description and its reference page."""

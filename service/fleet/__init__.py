"""The models that are served: which version of each, loaded and kept up to date."""

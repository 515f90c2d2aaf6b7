"""One reader per format: a file or folder to `Raw` rows."""

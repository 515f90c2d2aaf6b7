"""Attacks that change few pixels, each as far as it likes: no eps bounds them."""

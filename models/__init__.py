"""Robust models: data, nets, attacks, training, evaluation, bundles, registry."""

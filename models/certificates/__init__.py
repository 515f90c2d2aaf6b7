"""Proofs by interval bounds: no change within eps turns the answer (needs torch)."""

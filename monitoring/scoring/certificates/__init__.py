"""Certificates as nodes of the graph: interval bounds that are rounded outwards.

A layer takes the ends l <= u of every value as s = l + u and d = u - l + 2 gamma |.|:

    c = W/2 s + b,   r = |W|/2 d + gamma |b|,   l' = c - r,   u' = c + r

gamma = 2.2 (fan-in + 6) 2^-24 is more than all roundings of these sums, in any order, and of the
served layer's own sums together (Higham 2002, section 3.1). So the bounds hold for the float32
net that answers, not for an ideal one. It is an argument about float32 sums of products: half
floats, quantised weights and convolutions by transforms (Winograd, FFT) break it.

The last layer is one product with [l; u] that gives a lower bound of every difference of two
classes; an answer is certified if one class beats all others everywhere in the box. Boxes of
several sizes are stacked along the batch.
"""

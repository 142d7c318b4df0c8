"""Noisy Student on real handwriting: 5,000 MNIST digits, 100 of them labelled. See README.md beside this."""

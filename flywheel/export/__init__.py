"""A generation with its papers: bundle, card, manifest, signature, and their verification."""

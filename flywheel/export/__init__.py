"""A generation as a bundle: model card, manifest and signature, and how they are checked."""

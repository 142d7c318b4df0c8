"""What stages run in: their context, fits, scoring, weights, the stop, and the runner that records them."""

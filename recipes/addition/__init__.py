"""A model that outgrows its teacher: sums of ever more digits."""

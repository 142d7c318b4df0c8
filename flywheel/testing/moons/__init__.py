"""A recipe: data and scores in ``task.py``, the network in ``model.py``, settings in ``conf/recipe/``."""

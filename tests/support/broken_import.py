"""A user's module with an import error of its own."""

import a_library_that_nobody_has  # noqa: F401


class Model:
    """Never reached."""

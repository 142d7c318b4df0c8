"""How a person sees a sample: as text, pictures and HTML.

A recipe's task may say so by an optional method ``show(sample)``; see ``flywheel.protocols.Task``. Without it
arrays and images get a picture, and the other columns are text.

    view = view_of(sample, task)
    html = html_of(view)                 # safe to put into a page, whatever the sample holds
"""

from flywheel.views.pictures import Picture
from flywheel.views.shown import Viewer, view_of
from flywheel.views.view import STYLE, Html, View, html_of

__all__ = ["STYLE", "Html", "Picture", "View", "Viewer", "html_of", "view_of"]

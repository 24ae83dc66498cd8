"""One self-contained page that shows a folder of clips.

The page holds everything, so that it can be mailed or opened from a disk without a network:
every clip as a small still picture (lossy WebP) and as an MP4, which the browser decodes when
the clip is looked at. The template is in this folder: ``page.html``, ``page.css``, ``page.js``.
"""

from .page import GalleryEntry, Skipped, find, gather, write

__all__ = ["GalleryEntry", "Skipped", "find", "gather", "write"]

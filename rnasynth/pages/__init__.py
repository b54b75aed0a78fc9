"""The book's pages: what a notebook talks to, the runner, and the checks."""

from __future__ import annotations

from rnasynth.pages.page import Page

__all__ = ["Page"]

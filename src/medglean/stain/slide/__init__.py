"""A whole H&E slide to a virtual IHC slide, tile by tile, in memory that does not grow with it."""

from medglean.stain.slide.result import SlideResult
from medglean.stain.slide.task import stain_slide_file

__all__ = ["SlideResult", "stain_slide_file"]

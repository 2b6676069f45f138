"""Whole slides: opening, reading regions, and finding the tissue.

``open_slide`` opens SVS, NDPI, MRXS, DICOM and pyramidal TIFF; ``Slide.read`` reads a region of a
level without holding more than that region and a bounded number of tiles.
"""

from medglean.data.slides.opening import open_slide
from medglean.data.slides.slide import Level, Slide, slide_of
from medglean.data.slides.tissue import slide_white, tissue_mask

__all__ = ["Level", "Slide", "open_slide", "slide_of", "slide_white", "tissue_mask"]

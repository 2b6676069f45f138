"""Synthetic images with exact truth, for the demo, the documentation and the tests.

Every image is a function of a seed and its index. The drawing functions know no files; the
``write_...`` functions make a folder with ``labels.csv`` that ``medglean index`` takes; that of the
brain, whose images have one file per channel, is a manifest as it stands.
"""

from medglean.data.phantom.brain import brain_slice
from medglean.data.phantom.brain_set import write_brain
from medglean.data.phantom.cxr import cxr_image
from medglean.data.phantom.cxr_set import write_cxr
from medglean.data.phantom.sets import write_all, write_stain, write_ultrasound
from medglean.data.phantom.slide import write_slide
from medglean.data.phantom.stain import stain_pair
from medglean.data.phantom.ultrasound import ultrasound_frame

__all__ = [
    "brain_slice",
    "cxr_image",
    "stain_pair",
    "ultrasound_frame",
    "write_all",
    "write_brain",
    "write_cxr",
    "write_slide",
    "write_stain",
    "write_ultrasound",
]

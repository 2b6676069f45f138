"""Synthetic images with exact truth, for the demo, the documentation and the tests.

Every image is a function of a seed and its index. The drawing functions know no files; the
``write_...`` functions make a folder with ``labels.csv`` that ``medglean index`` takes.
"""

from medglean.data.phantom.brain import brain_slice
from medglean.data.phantom.brain_set import write_brain
from medglean.data.phantom.cxr import cxr_image
from medglean.data.phantom.cxr_set import write_cxr

__all__ = ["brain_slice", "cxr_image", "write_brain", "write_cxr"]

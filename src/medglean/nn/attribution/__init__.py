"""Where in an image a classifier's answer comes from: Grad-CAM, HiResCAM, integrated gradients.

All three leave the network as it was: its mode, weights, gradients and hooks. None of them shows
why an answer is right; what a map is worth is measured against masks, in
`medglean.measure.attribution`, and against the map of a network whose last layer was drawn anew
[4]_, which should not look the same.

References
----------
.. [1] Selvaraju et al. Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
   Localization. ICCV 2017.
.. [2] Draelos, Carin. Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional
   neural networks. arXiv:2011.08891, 2020.
.. [3] Sundararajan, Taly, Yan. Axiomatic Attribution for Deep Networks. ICML 2017.
.. [4] Adebayo et al. Sanity Checks for Saliency Maps. NeurIPS 2018.
"""

from medglean.nn.attribution.baselines import (
    BASELINES,
    blurred_baseline,
    mean_baseline,
    zero_baseline,
)
from medglean.nn.attribution.cam import ClassMaps, cam_layer, grad_cam, hires_cam
from medglean.nn.attribution.integrated import Attributions, integrated_gradients

__all__ = [
    "BASELINES",
    "Attributions",
    "ClassMaps",
    "blurred_baseline",
    "cam_layer",
    "grad_cam",
    "hires_cam",
    "integrated_gradients",
    "mean_baseline",
    "zero_baseline",
]

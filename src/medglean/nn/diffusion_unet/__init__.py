"""The diffusion U-Net and the classifier of noisy images, as released with Wolleb et al. 2022.

Their weights load unchanged: names and shapes of all parameters are those of the release.

References
----------
.. [1] Wolleb, Bieder, Sandkühler, Cattin. Diffusion Models for Medical Anomaly Detection.
   MICCAI 2022.
.. [2] Dhariwal, Nichol. Diffusion Models Beat GANs on Image Synthesis. NeurIPS 2021.
"""

from medglean.nn.diffusion_unet.classifier import NoiseClassifier
from medglean.nn.diffusion_unet.patches import Patched
from medglean.nn.diffusion_unet.release import load_release
from medglean.nn.diffusion_unet.unet import DiffusionUNet

__all__ = ["DiffusionUNet", "NoiseClassifier", "Patched", "load_release"]

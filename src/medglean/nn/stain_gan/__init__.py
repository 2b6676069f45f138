"""The conditional GAN that stains: a U-Net with attention on its skips, and a PatchGAN.

Images are RGB in [-1, 1], 2 x - 1 of [0, 1].

References
----------
.. [1] Isola, Zhu, Zhou, Efros. Image-to-Image Translation with Conditional Adversarial Networks.
   CVPR 2017 (pix2pix).
.. [2] Choromanski et al. Rethinking Attention with Performers. ICLR 2021.
.. [3] Perez, Strub, de Vries, Dumoulin, Courville. FiLM: Visual Reasoning with a General
   Conditioning Layer. AAAI 2018.
"""

from medglean.nn.stain_gan.discriminator import PatchDiscriminator, PatchJudgement
from medglean.nn.stain_gan.generator import StainUNet
from medglean.nn.stain_gan.inference import for_inference
from medglean.nn.stain_gan.skip_attention import SkipAttention

__all__ = ["PatchDiscriminator", "PatchJudgement", "SkipAttention", "StainUNet", "for_inference"]

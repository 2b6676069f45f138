"""What a virtual slide says of itself in its file."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from xml.etree import ElementTree as ET

from medglean.files import sha256_of_json
from medglean.stain.slide.legend import NOTICE

NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_SCHEMA = f"{NAMESPACE} {NAMESPACE}/ome.xsd"
_OURS = "medglean/virtual-stain"


def ome_xml(
    *,
    name: str,
    size_px: tuple[int, int],
    mpp: tuple[float, float],
    software: str,
    facts: Mapping[str, str],
) -> str:
    """Return the metadata of an OME-TIFF with one RGB image, in ASCII.

    Parameters
    ----------
    name
        Of the image.
    size_px
        Height and width.
    mpp
        Micrometres per pixel along y and x.
    software
        That wrote it, with its version.
    facts
        Where it comes from: names and values, as key-value pairs of a map annotation.

    Notes
    -----
    The notice stands in the image's description, where viewers show it, and as an annotation. The
    identifier depends on the content of this text alone, so the same rendering gives the same file.
    """
    ET.register_namespace("", NAMESPACE)
    schema = "http://www.w3.org/2001/XMLSchema-instance"
    seed = sha256_of_json([name, size_px, mpp, software, dict(facts)])
    root = ET.Element(
        _tag("OME"),
        {
            "UUID": f"urn:uuid:{uuid.UUID(seed[:32])}",
            "Creator": software,
            f"{{{schema}}}schemaLocation": _SCHEMA,
        },
    )
    image = ET.SubElement(root, _tag("Image"), {"ID": "Image:0", "Name": name})
    ET.SubElement(image, _tag("Description")).text = f"{NOTICE}. Virtual stain of an H&E slide."
    pixels = ET.SubElement(
        image,
        _tag("Pixels"),
        {
            "ID": "Pixels:0",
            "DimensionOrder": "XYCZT",
            "Type": "uint8",
            "SignificantBits": "8",
            "Interleaved": "true",
            "BigEndian": "false",
            "SizeX": str(size_px[1]),
            "SizeY": str(size_px[0]),
            "SizeC": "3",
            "SizeZ": "1",
            "SizeT": "1",
            "PhysicalSizeX": f"{mpp[1]:.9g}",  # in micrometres, the schema's default
            "PhysicalSizeY": f"{mpp[0]:.9g}",
        },
    )
    ET.SubElement(pixels, _tag("Channel"), {"ID": "Channel:0:0", "SamplesPerPixel": "3"})
    ET.SubElement(pixels, _tag("TiffData"), {"IFD": "0", "PlaneCount": "1"})
    for number in range(2):
        ET.SubElement(image, _tag("AnnotationRef"), {"ID": f"Annotation:{number}"})
    notes = ET.SubElement(root, _tag("StructuredAnnotations"))
    comment = ET.SubElement(
        notes, _tag("CommentAnnotation"), {"ID": "Annotation:0", "Namespace": _OURS}
    )
    ET.SubElement(comment, _tag("Value")).text = NOTICE
    pairs = ET.SubElement(notes, _tag("MapAnnotation"), {"ID": "Annotation:1", "Namespace": _OURS})
    value = ET.SubElement(pairs, _tag("Value"))
    for key, text in facts.items():
        ET.SubElement(value, _tag("M"), {"K": key}).text = text
    head = '<?xml version="1.0" encoding="UTF-8"?>'
    body: bytes = ET.tostring(root, encoding="us-ascii", xml_declaration=False)
    return head + body.decode("ascii")


def plain_description(facts: Mapping[str, str]) -> str:
    r"""Return the same for a plain TIFF: the notice, then ``name = value``, in ASCII.

    Examples
    --------
    >>> plain_description({"medglean": "0.1.0", "slide": "Schnitt ä.svs"})
    'Synthetic, not for diagnosis|medglean = 0.1.0|slide = Schnitt \\xe4.svs'
    """
    parts = [NOTICE, *(f"{key} = {text}" for key, text in facts.items())]
    return "|".join(parts).encode("ascii", "backslashreplace").decode("ascii")


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"

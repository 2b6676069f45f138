"""What of a DICOM header may reach a manifest: an allow-list, value by value.

A free text can hold a name wherever it stands, also in a tag that is technical by its title. So
every value is either a number, a term of a closed list (PS3.3 and PS3.16 of the standard), or
replaced by a pseudonym. Values that are none of these are dropped and counted, never quoted.

Elements are taken as the raw bytes of the file: pydicom's conversion would warn about odd values
by quoting them, and the quotation would stand in a log.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medglean.data import dicom_terms as terms
from medglean.data.pseudonyms import Pseudonyms

if TYPE_CHECKING:
    from pydicom import Dataset

    from medglean.data.readers import Header

TAGS = (
    "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID",
    "SeriesInstanceUID", "Modality", "ViewPosition", "BodyPartExamined", "Laterality",
    "ImageLaterality", "Manufacturer", "ManufacturerModelName", "PatientSex", "PatientAge",
    "PixelSpacing", "ImagerPixelSpacing", "SliceThickness", "KVP",
)  # fmt: skip
"""Keywords to ask of the reader. Name and birth date only to find them in paths; see ``Facts``."""

TOP_AGE = 90
"""Ages from here on are written as this one: there are too few people to hide among."""


@dataclass(frozen=True)
class Facts:
    """What one DICOM header says.

    Attributes
    ----------
    values
        Columns that may be written as they are.
    patient_id, issuer, study_uid, series_uid, model
        Texts that identify; they are written as pseudonyms only.
    dropped
        Names of the columns whose value was free text.
    secrets
        Words that must not stand in a file's path: parts of the patient's name, id, birth date.
    """

    values: dict[str, Any] = field(repr=False)
    patient_id: str = field(default="", repr=False)
    issuer: str = field(default="", repr=False)
    study_uid: str = field(default="", repr=False)
    series_uid: str = field(default="", repr=False)
    model: str = field(default="", repr=False)
    dropped: tuple[str, ...] = ()
    secrets: frozenset[str] = field(default=frozenset(), repr=False)

    def names(self, pseudonyms: Pseudonyms | None) -> dict[str, str]:
        """Return patient, study, series and model: pseudonyms, or the ids themselves for ``None``.

        The model is free text, so it is never written as it is: without pseudonyms it is left out.
        Two issuers' equal ids are two patients. A file without patient id has its study for a
        patient; one without both stands alone.
        """
        found = {"study": self.study_uid, "series": self.series_uid, "model": self.model}
        has_patient = bool(self.patient_id)
        if pseudonyms is None:
            names = {kind: text for kind, text in found.items() if text and kind != "model"}
            patient = f"{self.issuer}/{self.patient_id}" if self.issuer else self.patient_id
            if has_patient or self.study_uid:
                names["patient"] = patient if has_patient else f"study:{self.study_uid}"
            return names
        names = {kind: pseudonyms.of(kind, text) for kind, text in found.items() if text}
        if has_patient:
            names["patient"] = pseudonyms.of("patient", self.issuer, self.patient_id)
        elif self.study_uid:
            names["patient"] = pseudonyms.of("patient-of-study", self.study_uid)
        return names


def facts(header: Header) -> Facts:
    """Take from a probed DICOM header what may be used."""
    dataset = header.extra["dataset"]
    dropped: list[str] = []

    def term(column: str, keyword: str, allowed: frozenset[str]) -> str | None:
        text = _text(dataset, keyword).upper()
        if text and text not in allowed:
            dropped.append(column)
            return None
        return text or None

    patient_id = _text(dataset, "PatientID")
    if patient_id.casefold() in terms.PLACEHOLDER_IDS:
        patient_id = ""
    spacing = _numbers(_text(dataset, "PixelSpacing") or _text(dataset, "ImagerPixelSpacing"))
    values: dict[str, Any] = {
        "modality": term("modality", "Modality", terms.MODALITIES),
        "view": term("view", "ViewPosition", terms.VIEWS),
        "body_part": term("body_part", "BodyPartExamined", terms.BODY_PARTS),
        "laterality": term("laterality", "ImageLaterality", terms.SIDES)
        or term("laterality", "Laterality", terms.SIDES),
        "sex": term("sex", "PatientSex", terms.SEXES),
        "photometric": term("photometric", "PhotometricInterpretation", terms.PHOTOMETRIC),
        "manufacturer": _manufacturer(_text(dataset, "Manufacturer")),
        "age": _age(_text(dataset, "PatientAge")),
        "transfer_syntax": _transfer_syntax(str(header.extra.get("transfer_syntax", ""))),
        "spacing_y_mm": spacing[0] if len(spacing) == 2 else None,
        "spacing_x_mm": spacing[1] if len(spacing) == 2 else None,
        "slice_thickness_mm": _number(_text(dataset, "SliceThickness")),
        "kvp": _number(_text(dataset, "KVP")),
    }
    return Facts(
        {column: value for column, value in values.items() if value is not None},
        patient_id=patient_id,
        issuer=_text(dataset, "IssuerOfPatientID"),
        study_uid=_text(dataset, "StudyInstanceUID"),
        series_uid=_text(dataset, "SeriesInstanceUID"),
        model=_text(dataset, "ManufacturerModelName"),
        dropped=tuple(dropped),
        secrets=_secrets(dataset, patient_id),
    )


def _text(dataset: Dataset, keyword: str) -> str:
    """Return an element's text from its bytes, without pydicom's conversion and its warnings.

    The reader may have converted some already; several values are joined as in the file.
    """
    try:
        value = dataset.get_item(keyword).value
    except (KeyError, AttributeError):
        return ""
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            value = value.decode("latin-1")
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = "\\".join(str(part) for part in value)
    return "" if value is None else str(value).strip(" \0\t\r\n")


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[+-]?\d{1,7}(\.\d{0,12})?([eE][+-]?\d)?", text) else None


def _numbers(text: str) -> list[float]:
    values = [_number(part.strip()) for part in text.split("\\")]
    return [value for value in values if value is not None]


def _manufacturer(text: str) -> str | None:
    if not text:
        return None
    words = re.sub(r"[^a-z0-9]+", " ", text.casefold()).strip()
    for name in terms.MANUFACTURERS:
        if re.match(rf"{name.casefold()}\b|{name.casefold()}(?=film|medical|healthcare)", words):
            return name
    return "other"


def _age(text: str) -> str | None:
    """Return whole years of a DICOM age such as ``045Y`` or ``018M``."""
    match = re.fullmatch(r"(\d{1,3})([DWMY])", text.upper())
    if not match:
        return None
    years = int(match[1]) // {"Y": 1, "M": 12, "W": 52, "D": 365}[match[2]]
    return str(min(years, TOP_AGE))


def _transfer_syntax(uid: str) -> str:
    from pydicom.uid import UID

    # pydicom returns the UID itself as the name of one that is not in its dictionary
    name = str(UID(uid).name)
    return name if name != uid and UID(uid).is_transfer_syntax else "unknown"


def _secrets(dataset: Dataset, patient_id: str) -> frozenset[str]:
    """Return what would identify the patient if it stood in a path: words of four letters on."""
    name = re.split(r"[\^=\s,]+", _text(dataset, "PatientName"))
    words = {*name, patient_id, _text(dataset, "PatientBirthDate")}
    return frozenset(word.casefold() for word in words if len(word) >= 4)

"""The closed lists of terms that a DICOM header's values are held against (PS3.3, PS3.16).

Compared in capitals. A value that stands in none of these lists may be free text, and free text
may hold a name.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MODALITIES = _words(
    """
    AS AR BI BMD CR CT CTPROTOCOL DG DMS DX ECG EPS ES FID GM HC HD IO IOL IVOCT IVUS KER LEN LP
    LS MG MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PA PT PX REG RESP RF RG RTDOSE
    RTIMAGE SEG SM SMR SR SRF ST STAIN TG US VA XA XC
    """
)
VIEWS = _words(
    """
    AP PA LL RL RLD LLD RLO LLO RAO LAO RPO LPO ML MLO LM LMO CC XCC XCCL XCCM FB SIO ISO CV AT
    TAN RM RL RS LAT LATERAL OBLIQUE AXIAL CORONAL SAGITTAL
    """
)
BODY_PARTS = _words(
    """
    ABDOMEN ABDOMENPELVIS ADRENAL ANKLE AORTA ARM AXILLA BACK BLADDER BRAIN BREAST BRONCHUS
    BUTTOCK CALCANEUS CALF CAROTID CEREBELLUM CERVIX CHEEK CHEST CHESTABDOMEN CHESTABDPELVIS
    CLAVICLE COCCYX COLON CORNEA CORONARYARTERY CSPINE CTSPINE DUODENUM EAR ELBOW ESOPHAGUS
    EXTREMITY EYE EYELID FACE FEMUR FINGER FOOT FOREARM GALLBLADDER HAND HEAD HEADNECK HEART HIP
    HUMERUS ILEUM ILIUM IAC JAW JEJUNUM KIDNEY KNEE LARYNX LEG LIVER LSPINE LSSPINE LUMBARSPINE
    LUNG MANDIBLE MAXILLA MEDIASTINUM MOUTH NECK NECKCHEST NOSE ORBIT OVARY PANCREAS PARATHYROID
    PAROTID PATELLA PELVIS PENIS PHARYNX PROSTATE RADIUS RADIUSULNA RECTUM RIB SCALP SCAPULA
    SCLERA SCROTUM SELLA SHOULDER SINUS SKIN SKULL SPINE SPLEEN SSPINE STERNUM STOMACH TESTIS
    THIGH THORAX THUMB THYMUS THYROID TIBIA TIBIAFIBULA TLSPINE TMJ TOE TONGUE TRACHEA TSPINE
    ULNA URETER URETHRA UTERUS VAGINA VULVA WHOLEBODY WRIST ZYGOMA
    """
)
SIDES = frozenset({"R", "L", "B", "U"})
SEXES = frozenset({"M", "F", "O"})
PHOTOMETRIC = _words(
    """
    MONOCHROME1 MONOCHROME2 RGB YBR_FULL YBR_FULL_422 YBR_PARTIAL_420 YBR_ICT YBR_RCT XYB HSV ARGB
    CMYK
    """
) | {"PALETTE COLOR"}
MANUFACTURERS = (
    "Agfa", "Canon", "Carestream", "Esaote", "Fuji", "GE", "Hitachi", "Hologic", "Kodak", "Konica",
    "Leica", "Lunit", "Mindray", "Olympus", "Oy", "Philips", "Planmed", "Samsung", "Shimadzu",
    "Siemens", "Sonosite", "Swissray", "Toshiba", "United Imaging", "Varian", "Hamamatsu",
    "3DHistech", "Aperio", "Roche", "Ventana", "Zeiss", "Heidelberg", "Topcon", "Nidek", "ATL",
    "Acuson", "Picker", "Marconi", "Sirona", "Trophy", "Vatech", "DRGEM", "Vieworks", "Lodox",
)  # fmt: skip
"""A manufacturer's text is kept as the one of these words that it begins with, or as ``other``."""
PLACEHOLDER_IDS = frozenset(
    {"anonymous", "anon", "anonymized", "anonymised", "unknown", "none", "n/a", "na", "0",
     "00000000", "noid", "removed", "deidentified", "de-identified", "xxx", "xxxx",
     "patient", "test", "*"}
)  # fmt: skip
"""Patient ids that stand for "no id": they would make one patient of everybody."""

"""The whole pipeline on made-up images, in minutes on a laptop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from medglean.errors import RunFolderError

if TYPE_CHECKING:
    from medglean.runs.report import Report

PATIENTS = 150
SIZE_PX = (160, 160)
OVERRIDES = ("fit.epochs=20",)
BRAINS = 100
BRAIN_SLICES = 6
BRAIN_SIZE_PX = (48, 48)
BRAIN_CONTRAST = 0.5
"""Of lesions to grey matter, as a share of what it is usually."""
STAIN_SLIDES = 24
STAIN_SIZE_PX = (128, 128)


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    patients: int = PATIENTS,
    overrides: tuple[str, ...] = OVERRIDES,
    brains: int = BRAINS,
    brain_overrides: tuple[str, ...] = (),
    stain_slides: int = STAIN_SLIDES,
    stain_overrides: tuple[str, ...] = (),
    say: Callable[[str], None],
) -> Path:
    """Make phantoms, index, audit, curate, train, evaluate; map lesions of brains; stain tissue.

    Parameters
    ----------
    out
        Folder to make; must be absent or empty.
    seed
        Of phantoms and training.
    patients
        How many patients are made up.
    overrides
        Changes to the preset ``cxr-small``.
    brains
        How many patients with slices of the brain are made up; every second has a lesion.
    brain_overrides
        Changes to the preset ``brain-demo``.
    stain_slides
        How many slides with pairs of H&E and HER2 are made up, a multiple of 4.
    stain_overrides
        Changes to the preset ``stain-demo``.
    say
        Called with one line at a time.

    Returns
    -------
    Path
        Of the ``report.html`` of the classifier's evaluation.

    Raises
    ------
    RunFolderError
        If ``out`` is not empty.
    """
    from medglean import api
    from medglean.data.phantom import write_cxr

    if out.exists() and any(out.iterdir()):
        raise RunFolderError(
            f"{out}: not empty. Choose another folder with --out, or remove this one."
        )
    out.mkdir(parents=True, exist_ok=True)
    command = ["medglean", "demo", "--seed", str(seed)]
    say("1/10 Making synthetic chest X-rays, with and without an opacity ...")
    images = out / "images"
    write_cxr(images, patients=patients, size_px=SIZE_PX, seed=seed)
    say("2/10 Indexing the folder ...")
    manifest = out / "manifest.parquet"
    say(_indented(api.index(images, out=manifest).summary()))
    say("3/10 Auditing: unreadable files, duplicates, shortcuts ...")
    audit = api.audit(manifest, out=out / "audit", command=command)
    say(_indented("\n".join(audit.summary_lines())))
    say("4/10 Curating: which fifth of the images to label first ...")
    curated = api.curate(
        manifest,
        budget="20%",
        out=out / "worklist",
        overrides=[f"seed={seed}"],
        command=command,
    )
    say(_indented(curated.sentence))
    say("5/10 Training a classifier from scratch ...")
    trained = api.train(
        "classify",
        "cxr-small",
        manifest,
        out=out / "run",
        overrides=(*overrides, f"fit.seed={seed}"),
        command=command,
    )
    say(_indented(trained.summary()))
    say("6/10 Evaluating it on the patients that were kept aside ...")
    evaluated = api.evaluate(
        out / "run", manifest, out=out / "evaluation", split="test", command=command
    )
    say(_indented(evaluated.summary()))
    maps = _map_brains(
        out, seed=seed, brains=brains, overrides=brain_overrides, command=command, say=say
    )
    stained = _stain_tissue(
        out, seed=seed, slides=stain_slides, overrides=stain_overrides, command=command, say=say
    )
    say(f"Virtual stain:     {stained}")
    say(f"Anomaly maps:      {maps}")
    say(f"Work list:         {out / 'worklist' / 'report.html'}")
    say(f"Training report:   {out / 'run' / 'report.html'}")
    return out / "evaluation" / "report.html"


def _map_brains(
    out: Path,
    *,
    seed: int,
    brains: int,
    overrides: tuple[str, ...],
    command: list[str],
    say: Callable[[str], None],
) -> Path:
    """Map lesions with a network that was told who has one, never where; return the report."""
    from medglean import api
    from medglean.data.phantom import write_brain

    say("7/10 Making synthetic brains (FLAIR), with and without a lesion, and indexing them ...")
    images, manifest = out / "brains", out / "brains.parquet"
    write_brain(
        images,
        patients=brains,
        slices=BRAIN_SLICES,
        size_px=BRAIN_SIZE_PX,
        seed=seed,
        contrast=BRAIN_CONTRAST,
    )
    say(_indented(api.index(images, out=manifest).summary()))
    say("8/10 Training on 'healthy' and 'lesion' alone, and mapping where the lesions are ...")
    found = {}
    for name, method in (("anomaly", "diffusion"), ("brightness", "threshold")):
        found[name] = api.train(
            "anomaly",
            "brain-demo",
            manifest,
            out=out / name,
            overrides=(*overrides, f"fit.seed={seed}", f"method={method}"),
            command=command,
        )
    say(_indented(_compared(found["anomaly"], found["brightness"])))
    return out / "anomaly" / "report.html"


def _stain_tissue(
    out: Path,
    *,
    seed: int,
    slides: int,
    overrides: tuple[str, ...],
    command: list[str],
    say: Callable[[str], None],
) -> Path:
    """Learn HER2 from H&E on made-up pairs, and return the report."""
    from medglean import api
    from medglean.data.phantom import write_stain

    say("9/10 Making synthetic pairs of H&E and HER2 at four levels, and indexing them ...")
    images, manifest = out / "tissue", out / "tissue.parquet"
    write_stain(images, slides_per_level=slides // 4, size_px=STAIN_SIZE_PX, seed=seed)
    say(_indented(api.index(images, out=manifest).summary()))
    say("10/10 Learning to stain: the HER2 image from the H&E image alone ...")
    report = api.train(
        "stain",
        "stain-demo",
        manifest,
        out=out / "stain",
        overrides=(*overrides, f"fit.seed={seed}"),
        command=command,
    )
    say(_indented(report.sentence))
    return out / "stain" / "report.html"


def _compared(learnt: Report, brightness: Report) -> str:
    """Say how well maps agree with the known lesions, and what brightness alone would do."""
    from medglean.anomaly.measures import BEST_DICE, PIXEL_AUROC

    values = [{metric.name: metric.value for metric in one.metrics} for one in (learnt, brightness)]
    dice, area = ([each[name] for each in values] for name in (BEST_DICE, PIXEL_AUROC))
    return (
        f"Against the lesions' known outlines: Dice {dice[0]:.2f}, pixel AUROC {area[0]:.3f}.\n"
        f"Brightness alone, which learns nothing: Dice {dice[1]:.2f}, pixel AUROC {area[1]:.3f}."
    )


def _indented(text: str) -> str:
    return "\n".join(f"     {line}" for line in text.splitlines())

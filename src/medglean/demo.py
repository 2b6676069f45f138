"""The whole pipeline on made-up images, in minutes on a laptop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from medglean.errors import RunFolderError

PATIENTS = 150
SIZE_PX = (160, 160)
OVERRIDES = ("fit.epochs=20",)


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    patients: int = PATIENTS,
    overrides: tuple[str, ...] = OVERRIDES,
    say: Callable[[str], None],
) -> Path:
    """Make phantoms, index, audit, curate, train, evaluate, report.

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
    say
        Called with one line at a time.

    Returns
    -------
    Path
        Of the evaluation's ``report.html``.

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
    say("1/6  Making synthetic chest X-rays, with and without an opacity ...")
    images = out / "images"
    write_cxr(images, patients=patients, size_px=SIZE_PX, seed=seed)
    say("2/6  Indexing the folder ...")
    manifest = out / "manifest.parquet"
    say(_indented(api.index(images, out=manifest).summary()))
    say("3/6  Auditing: unreadable files, duplicates, shortcuts ...")
    audit = api.audit(manifest, out=out / "audit", command=command)
    say(_indented("\n".join(audit.summary_lines())))
    say("4/6  Curating: which fifth of the images to label first ...")
    curated = api.curate(
        manifest,
        budget="20%",
        out=out / "worklist",
        overrides=[f"seed={seed}"],
        command=command,
    )
    say(_indented(curated.sentence))
    say("5/6  Training a classifier from scratch ...")
    trained = api.train(
        "classify",
        "cxr-small",
        manifest,
        out=out / "run",
        overrides=(*overrides, f"fit.seed={seed}"),
        command=command,
    )
    say(_indented(trained.summary()))
    say("6/6  Evaluating it on the patients that were kept aside ...")
    evaluated = api.evaluate(
        out / "run", manifest, out=out / "evaluation", split="test", command=command
    )
    say(_indented(evaluated.summary()))
    say(f"Work list:         {out / 'worklist' / 'report.html'}")
    say(f"Training report:   {out / 'run' / 'report.html'}")
    return out / "evaluation" / "report.html"


def _indented(text: str) -> str:
    return "\n".join(f"     {line}" for line in text.splitlines())

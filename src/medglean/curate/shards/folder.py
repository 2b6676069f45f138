"""The folder of a run over shards: what it was made with, and the manifest of each shard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medglean.curate.shards.embedding import IMAGES, images_path
from medglean.curate.shards.parts import FORMAT
from medglean.curate.shards.plan import ShardPlan
from medglean.curate.shards.ranking import hash_of
from medglean.data.manifest import Manifest
from medglean.errors import RunFolderError
from medglean.files import write_json

PLAN_NAME = "plan.json"


def prepare_folder(
    out: Path, manifest: Manifest, plan: ShardPlan, encoder: str, *, resume: bool
) -> None:
    """Write the plan and the manifest of each shard, or check that they are those of the folder.

    Parameters
    ----------
    out
        May exist.
    manifest, plan
        All images, and which shard each is in.
    encoder
        Its hash.
    resume
        Whether the folder may hold a run.

    Raises
    ------
    RunFolderError
        If it holds a run and may not, or one of other images, shards or another encoder.
    """
    asked = {
        "format": FORMAT,
        "manifest": manifest.hash,
        "encoder": encoder,
        "shards": plan.shards,
        "by": plan.by,
        "shard_of": hash_of(plan.shard_of),
    }
    path = out / PLAN_NAME
    if path.exists():
        if not resume:
            raise RunFolderError(
                f"{out}: holds a run over shards. Resume, or choose another folder."
            )
        _compare(path, asked)
    (out / IMAGES).mkdir(parents=True, exist_ok=True)
    for shard in range(plan.shards):
        manifest.select(plan.rows(shard)).write(images_path(out, shard))
    write_json(path, asked)


def _compare(path: Path, asked: dict[str, Any]) -> None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        other = [name for name, value in asked.items() if found.get(name) != value]
    except (ValueError, AttributeError) as error:
        raise RunFolderError(
            f"{path}: unreadable, so nobody knows what the shards beside it are of. Choose another "
            "folder."
        ) from error
    if other:
        raise RunFolderError(
            f"{path.parent}: its shards were made with another {', '.join(other)}. Choose another "
            "folder, or go back to what they were made with."
        )

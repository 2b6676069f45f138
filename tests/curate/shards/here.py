"""What a cluster does, in this process: the same functions on the same shards, without Ray."""

from __future__ import annotations

import contextlib

from medglean.curate.shards.embedding import embed_shard


class InThisProcess:
    """Stands in for `medglean.curate.shards.cluster.Cluster`."""

    def embed(self, encoder, folder, shards, *, batch, progress):
        answers = []
        for shard in range(shards):
            answers.append(embed_shard(encoder, folder, shard, batch=batch))
            progress("embed", shard + 1, shards)
        return answers

    def map(self, work, jobs, *, stage, progress):
        found = []
        for job in jobs:
            found.append(work(*job))
            progress(stage, len(found), len(jobs))
        return found

    def put(self, value):
        return value


@contextlib.contextmanager
def in_this_process(**options):
    yield InThisProcess()

"""More images than one machine can embed or rank: patients are dealt into shards, shards merged.

`plan` divides images into shards and `select` ranks and merges them; both are mathematics. `parts`
keeps what a shard gave as Parquet with a mark of being done; `embedding`, `ranking` and `pairs` are
what one worker does with one shard, and `engine` runs the workers with Ray.
"""

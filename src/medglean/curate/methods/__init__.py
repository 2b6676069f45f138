"""Ways to choose: plain functions from an embedding to one nested order; `table` lists them."""

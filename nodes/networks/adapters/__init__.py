"""Networks of other libraries behind the forward of ours: plain torch, which imports none of those libraries."""

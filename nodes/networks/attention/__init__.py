"""Attention by several libraries behind one entry, ``choice.attend_within``: knows clips in a sequence, not pixels."""

"""The place of data files: a local directory, or an object store. `opening` chooses once; `protocol` states what both
offer.
"""

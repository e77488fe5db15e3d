"""Object stores: data files that every host can read, by their URLs.

`opening` finds the store of a URL, `protocol` states what `extract` and `audit` need from one. `s3` is for S3 and
compatible stores; `other_stores` is for Google Cloud Storage and Azure, through obstore.
"""

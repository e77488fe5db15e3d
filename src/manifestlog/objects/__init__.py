"""Object stores: data files that every host can read, by their URLs.

`opening` finds the store of a URL, `protocol` states what `extract` and `audit` need of one. `s3` speaks S3 itself;
`other_stores` serves Google Cloud Storage and Azure through obstore.
"""

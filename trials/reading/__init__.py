"""From files to encoded examples: rows, forms of data, chat templates, token ids and labels.

The package depends only on numpy, pyarrow, datasets and transformers and has relative imports, so that it works from
any folder: an exported run contains a copy of it, and so reads and encodes its data as the search did.
"""

"""From files to rows of plain Python values, with the line of each row.

`files.read_file` decides by a file's ending. The package depends only on the standard library, and on pyarrow and
datasets where a file needs them.
"""

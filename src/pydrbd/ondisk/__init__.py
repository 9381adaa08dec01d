"""DRBD's metadata v08 on disk: superblock, activity log, bitmap, their places and their text form.

Pure: bytes in, values out, and back. Nothing here opens a file; `pydrbd.node.metadata_store` does that.
Whatever the bytes are, the answer is a value or an `OnDiskError`, never a guess.
"""

"""Files that are written whole or not at all, their checksums, and who may write them."""

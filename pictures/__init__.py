"""Picture files: decoding, lists, folders, reading ahead."""

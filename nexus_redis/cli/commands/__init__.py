"""The verbs, one file each, named by the verb: options, help, what the verb does, and the shape of its `--json`."""

"""The version, where nothing heavy is imported to learn it."""

VERSION = "0.2.0"

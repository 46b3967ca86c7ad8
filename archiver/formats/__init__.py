"""Formats of bytes at rest: compressed content, cold metadata, cold keys."""

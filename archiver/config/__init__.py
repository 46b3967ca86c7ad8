"""The settings: read once from a mapping, validated together, typed. Opens nothing."""

from __future__ import annotations

from archiver.config.settings import Settings, SourceSettings
from archiver.config.stores import Cold, ColdFile, ColdS3, Hot, HotFile, HotS3, HotSupabase
from archiver.config.table import kind_of, readme_table

__all__ = [
    "Cold",
    "ColdFile",
    "ColdS3",
    "Hot",
    "HotFile",
    "HotS3",
    "HotSupabase",
    "Settings",
    "SourceSettings",
    "kind_of",
    "readme_table",
]

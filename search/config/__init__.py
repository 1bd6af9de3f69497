"""The configuration of a sweep: its sections, what must hold between them, and how it is read, changed and written.

A mistake is one line that names the setting, the value and the remedy.
"""

from search.config.imported import ImportConfig, Source, StudyConfig, load_import, parse_import
from search.config.loading import load, parse, parse_value
from search.config.objectives import Constraint
from search.config.rules import BASELINES_SUFFIX, REPLICATES_SUFFIX
from search.config.schema import (
    AuditConfig,
    StopConfig,
    SweepConfig,
    TrackingConfig,
    available_cpus,
)
from search.config.urls import redact, sqlite_file, without_password, without_passwords

__all__ = [
    "BASELINES_SUFFIX",
    "REPLICATES_SUFFIX",
    "AuditConfig",
    "Constraint",
    "ImportConfig",
    "Source",
    "StopConfig",
    "StudyConfig",
    "SweepConfig",
    "TrackingConfig",
    "available_cpus",
    "load",
    "load_import",
    "parse",
    "parse_import",
    "parse_value",
    "redact",
    "sqlite_file",
    "without_password",
    "without_passwords",
]

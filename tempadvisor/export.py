"""A temperature as the settings of other people's trainers.

Each format converts temperature and weights to its trainer's own loss and says so in a comment, with what that loss
cannot express. Where a package can be installed, a test builds its loss from the exported text and compares its
gradient with ours; where it cannot, the text says UNPROVEN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tempadvisor import export_commands, export_files, export_snippets
from tempadvisor.errors import UsageError, did_you_mean
from tempadvisor.settings import Export, Settings

FORMATS: Mapping[str, Callable[[Settings], Export]] = {
    "timm": export_commands.timm,
    "timm-yaml": export_files.timm_args,
    "torchdistill": export_files.torchdistill,
    "mdistiller": export_commands.mdistiller,
    "repdistiller": export_commands.repdistiller,
    "keras": export_snippets.keras,
    "hf-trainer": export_snippets.hf_trainer,
    "modelopt": export_snippets.modelopt,
    "json": export_files.plain_json,
    "yaml": export_files.plain_yaml,
}


def check_format(name: str) -> None:
    """Refuse a format that does not exist, before anything is measured.

    Raises:
        UsageError: there is no such format.
    """
    if name not in FORMATS:
        raise UsageError(
            f"--export must be one of {', '.join(FORMATS)}. Got {name[:60]!r}. {did_you_mean(name, FORMATS)}",
            code="bad_format",
        )


def export(wanted: Settings, form: str) -> Export:
    """Return settings as the trainer of a format reads them.

    Args:
        wanted: of a recommendation or of a verification.
        form: a key of FORMATS.

    Raises:
        UsageError: there is no such format, or the conversion needs a teacher's profile.
    """
    check_format(form)
    return FORMATS[form](wanted)

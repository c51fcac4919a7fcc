"""Convert the table of published measurements to `knowledge/literature.csv`: the project's names, fractions, sorted.

    python benchmarks/make_literature.py ../shared/evidence.csv

Nothing is dropped: what does not fit a column is kept verbatim in `recipe` (optimizer words that say more than the
optimizer) and `duration` (epochs that are not a plain number). Running it again changes nothing.
"""

from __future__ import annotations

import csv
import io
import sys
from decimal import Decimal
from pathlib import Path

from tempadvisor.corpus import LITERATURE_COLUMNS, load_literature

OUTPUT = Path(__file__).resolve().parent.parent / "knowledge" / "literature.csv"
SOURCES = {
    "big_vision_patient": "big-vision",
    "crd": "repdistiller",
    "ctkd_readme_kd": "ctkd",
    "danii909": "danii909",
    "dist_readme": "dist",
    "dist_strong": "dist",
    "ls_zscore": "logit-standardization",
    "mdistiller": "mdistiller",
    "ruthmd": "ruthmd",
    "takd": "takd",
    "torchdistill": "torchdistill",
    "torchdistill_glue": "torchdistill",
    "tyui592": "tyui592",
}
RECIPES = {  # the source's word: optimizer, schedule, augmentation
    "sgd-cos": ("sgd", "cosine", ""),
    "adam+mixup1": ("adam", "", "mixup"),
    "rmsprop+randaug": ("rmsprop", "", "strong"),
}
FRACTIONS = {"vad"}  # studies whose results are fractions already; all others are in per cent
MULTIPLES = {"k": 1_000, "M": 1_000_000}
T_SQUARED = {"yes": "yes", "no": "no", "yes?": "unknown", "no?": "unknown"}  # '?': the source does not say


def convert(raw: dict[str, str]) -> dict[str, str]:
    """Return one row of evidence.csv under the project's names."""
    unattributed = raw["source"].startswith("unattributed public report")
    optimizer, schedule, augmentation = RECIPES.get(raw["optimizer"], (raw["optimizer"], "", ""))
    epochs = whole_number(raw["epochs"])
    per_cent = raw["study"] not in FRACTIONS
    return {
        "study": raw["study"],
        "dataset": raw["dataset"],
        "n_classes": raw["n_classes"],
        "teacher": raw["teacher"],
        "student": raw["student"],
        "teacher_accuracy": fraction(raw["teacher_acc"], per_cent),
        "student_accuracy_no_kd": fraction(raw["student_base_acc"], per_cent),
        "optimizer": optimizer,
        "schedule": schedule,
        "augmentation": augmentation,
        "recipe": raw["optimizer"] if raw["optimizer"] in RECIPES else "",
        "lr": plain(raw["lr"]),
        "batch_size": raw["batch"],
        "epochs": epochs,
        "duration": "" if epochs == raw["epochs"] else raw["epochs"],
        "kd_weight": plain(raw["kd_weight"]),
        "hard_weight": plain(raw["ce_weight"]),
        "t_squared": T_SQUARED[raw["t2_scaling"]],
        "standardized": "yes" if raw["flag"].startswith("z-score logits") else "no",
        "temperature": plain(raw["temperature"]),
        "accuracy": fraction(raw["acc"], per_cent),
        "metric": raw["metric"],
        "source": "" if unattributed else SOURCES[raw["study"]],
        "attributable": "no" if unattributed else "yes",
        "citation": raw["source"],
        "flag": raw["flag"],
    }


def plain(text: str) -> str:
    """Return a decimal number without exponent or padding: '.1' is '0.1', '5e-05' is '0.00005'."""
    return f"{Decimal(text).normalize():f}" if text else ""


def fraction(text: str, per_cent: bool) -> str:
    """Return a result as a fraction."""
    return plain(str(Decimal(text) / 100)) if text and per_cent else plain(text)


def whole_number(text: str) -> str:
    """Return epochs as digits: '10k' is '10000'; '' where it is no single number ('3-5')."""
    digits, unit = (text[:-1], MULTIPLES[text[-1]]) if text and text[-1] in MULTIPLES else (text, 1)
    return str(int(digits) * unit) if digits.isdigit() else ""


def order(row: dict[str, str]) -> tuple[object, ...]:
    """Return the sort key: by study and setup, then kd_weight, epochs, temperature and result as numbers."""
    numbers = [Decimal(row[name] or -1) for name in ("kd_weight", "epochs", "temperature", "accuracy")]
    return (row["study"], row["dataset"], row["teacher"], row["student"], *numbers)


def table(evidence: Path) -> str:
    """Return the text of the table that `evidence` converts to."""
    with evidence.open(encoding="utf-8", newline="") as stream:
        rows = sorted((convert(raw) for raw in csv.DictReader(stream)), key=order)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [column.name for column in LITERATURE_COLUMNS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def main(evidence: Path) -> None:
    """Write the table, once it has been read back through the schema."""
    temporary = OUTPUT.with_suffix(".tmp")
    temporary.write_text(table(evidence), encoding="utf-8", newline="\n")
    rows = load_literature(temporary)
    temporary.replace(OUTPUT)
    print(f"{OUTPUT}: {len(rows)} rows, {sum(row.usable for row in rows)} usable", file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} EVIDENCE.csv")
    main(Path(sys.argv[1]))

"""Fit the model that is shipped to the shipped corpus: `knowledge/model.npz`. A minute.

    python benchmarks/model.py

Choices and calibration are those of least held-out regret on validation accuracy, as in `tempadvisor knowledge fit`.
"""

from __future__ import annotations

import sys

from tempadvisor.fitting import fit, shipped_curves
from tempadvisor.learned import save
from tempadvisor.resources import shipped_model_path


def main() -> int:
    """Fit, write and say what it is."""
    curves = shipped_curves()
    model = fit(curves)
    save(model, shipped_model_path())
    print(f"{len(curves)} curves: {model.kind} {model.setting:g}, share {model.share:g}, {model.calibration}")
    print(f"reach {model.reach:.3g}, version {model.version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

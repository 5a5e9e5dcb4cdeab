"""Forecasts during a training: their figures go to the Trainer's own logger, and no error of theirs stops it."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer

Forecast = Callable[[Path], Mapping[str, float]]
"""A bundle's folder -> figures by name, such as `probe.forecasting.forecaster.Forecaster` gives them."""

PREFIX = "mergeprobe/"
"""Of the figures' names in the Trainer's log."""

logger = logging.getLogger(__name__)


class ForecastLog:
    """Asks for a forecast at every checkpoint, and logs its figures."""

    def __init__(self, forecast: Forecast) -> None:
        self._forecast = forecast
        self._has_failed = False

    def write(self, trainer: Any, control: Any, bundle: Path) -> None:
        """Log what is forecast of a bundle's latest checkpoint.

        Parameters
        ----------
        trainer, control
            Of the event that this is called in.
        """
        figures = self._figures(bundle)
        if not figures:
            return
        should_log = control.should_log
        # The plain Trainer's: derived ones average what they have gathered for their next line, and empty it.
        Trainer.log(trainer, {f"{PREFIX}{name}": value for name, value in figures.items()})
        # Logging anything counts as having logged this step's loss.
        control.should_log = should_log

    def _figures(self, bundle: Path) -> Mapping[str, float]:
        try:
            with _unnoticed():
                return self._forecast(bundle)
        except Exception as error:  # whatever a forecast meets, a training is worth more
            level = logging.INFO if self._has_failed else logging.WARNING
            logger.log(level, "%s was not forecast, and training goes on: %s", bundle, error, exc_info=error)
            self._has_failed = True
            return {}


@contextmanager
def _unnoticed() -> Iterator[None]:
    """Leave every random generator as it was, so that training is the same with and without the block."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)

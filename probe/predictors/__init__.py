"""Predictors: from early signals of adapters to what a merge would keep, with a calibrated lower bound.

Main path of a fit (`fitting.fit`): records -> `dataset` rows -> `cross_fit` forecasts of held-out adapters ->
`calibration` (`conformal` radii, `temperature`) -> `artefact` folder. Main path of a forecast (`predictor.Predictor`):
evidence -> `views` (how much is known) -> `design` rows -> `pair_model` -> `set_model` for three or more -> bound.
"""

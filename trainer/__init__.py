"""What makes the models: data sets, replay, cleaning, splits, fit, evaluation and publication."""

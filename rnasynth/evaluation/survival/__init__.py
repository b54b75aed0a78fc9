"""Is a latent prognostic? Cox models in cross-validation, risk groups, and the control of shuffled outcomes."""

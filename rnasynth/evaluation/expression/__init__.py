"""Profiles that come back: reconstruction beside baselines, published choices, cohorts from outside."""

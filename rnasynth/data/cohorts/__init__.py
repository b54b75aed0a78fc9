"""How each cohort's files become profiles and tiles: one module a kind of cohort, one builder each."""

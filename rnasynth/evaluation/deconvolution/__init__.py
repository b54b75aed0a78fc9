"""Fractions of cell types from RNA, judged on known mixtures, and whether tiles follow them."""

"""Expert ratings: published scores, the tests that can be made of them, and the instrument for new ones."""

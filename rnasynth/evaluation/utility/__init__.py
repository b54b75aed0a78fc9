"""What synthetic tiles are good for: named by a classifier of real tiles, and (later) trained upon."""

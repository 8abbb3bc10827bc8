"""Models that no stock architecture covers; one file each, importing nothing of ours."""

"""Videos and animations: read, painted frame by frame, written."""

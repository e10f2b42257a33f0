"""Videos and animations: read, stylized frame by frame, written."""

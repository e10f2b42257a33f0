"""Files of pictures and whatever is in them, decoded by Pillow: upright pixels in sRGB."""

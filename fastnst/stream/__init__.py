"""Photographs that need not fit on a disk: out of tars, lists and stores, cropped in an order without replaying."""

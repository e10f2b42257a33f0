"""Commands that put styles on the web: serve, site."""

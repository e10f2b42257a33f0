"""A page and a service: paint in the browser, answer over HTTP, publish to any static host."""

"""A loss network that learns somebody's own classes."""

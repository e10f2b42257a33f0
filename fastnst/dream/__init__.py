"""What a network sees: DeepDream, its filters, its features of a picture."""

"""What tests of several rooms share: material, and small programs."""

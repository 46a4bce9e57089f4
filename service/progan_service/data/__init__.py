"""Datasets: made of pictures (`making`), read without TensorFlow, and shown in a seeded order."""

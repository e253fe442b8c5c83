"""The side-by-side speed and memory suite behind `dsgd bench`; nothing in it is imported by dsgd or timed in a test."""

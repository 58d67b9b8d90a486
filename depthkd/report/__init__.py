"""Tables and pictures that people look at."""

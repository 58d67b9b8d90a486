"""What models are tested on, one data set a file."""

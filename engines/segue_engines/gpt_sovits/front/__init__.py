"""What is measured on a reference recording before a voice can speak like it."""

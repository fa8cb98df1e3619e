"""The console: one page on which people see, hear and steer what the operator does."""

"""`segue demo`: the whole story on one machine, told while it happens.

Separate from the other commands because it is a play with its own stage: it copies the examples, starts a real
`segue up`, keeps traffic on it, changes voices for better and worse, kills processes, and writes down what listeners
noticed.
"""

"""`segue inject`: a sidecar for a Deployment of one's own.

`shape.py` is what is added, `manifest.py` where it is put, `command.py` what a person types. What is added has the same
shape as in the Helm chart's pods (`charts/segue/templates/_fleet_pod.tpl`); an integration test compares them.
"""
